package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Twins are databases that stand beside each other in one cluster and can take each other's place, by renaming. It is a plain value, safe
// for concurrent use; who makes and renames at the same time waits.
type Twins struct {
	connect func(ctx context.Context) (*pgx.Conn, error) // to the database "postgres"
	owner   string
}

// ErrNoTwin is a cluster in which no second database can be made; the hint says what to do.
var ErrNoTwin = errors.New("no second database can be made beside it")

// ErrNoDatabase is a database that is not there.
var ErrNoDatabase = errors.New("there is no such database")

// Twins of the databases of a role: the superuser works on them.
func (c Cluster) Twins(owner string) Twins { return Twins{connect: c.connect, owner: owner} }

// TwinsAt are those in the cluster that an address leads to, worked on by the role of the address. name is the address's own database.
func TwinsAt(address secret.Text) (t Twins, name string, err error) {
	config, err := pgx.ParseConfig(address.Reveal())
	if err != nil {
		return t, "", errors.New("the address of the database cannot be read") // what the driver says may quote it
	}
	name, t.owner = config.Database, config.User
	if slices.Contains([]string{"postgres", "template0", "template1", "rdsadmin"}, name) {
		return t, name, &hinted{fmt.Errorf("%w: it is called %s, which every cluster needs under this name", ErrNoTwin, name),
			"restore into a new one (`lotse db recover`, or another project), and set the secret to its address"}
	}
	config.Database = "postgres"
	t.connect = func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, config) }
	return t, name, nil
}

// AddressOf is an address in the form of a URL, with another database.
func AddressOf(address secret.Text, name string) (secret.Text, error) {
	u, err := url.Parse(address.Reveal())
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return secret.Text{}, &hinted{fmt.Errorf("%w: its address is no URL", ErrNoTwin), "set the secret to postgres://…"}
	}
	u.Path = "/" + name
	return secret.New(u.String()), nil
}

// alone does something with the cluster while nobody else makes, renames or drops a database.
func (t Twins) alone(ctx context.Context, what string, do func(*pgx.Conn) error) error {
	conn, err := t.connect(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	_, err = conn.Exec(ctx, "select pg_advisory_lock($1)", int64(creating))
	if err == nil {
		err = do(conn)
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err = errors.Join(err, conn.Close(ending)); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// Make makes an empty database that the role owns and nobody else may enter. What is called so already is thrown away. ErrNoTwin where the
// role may make none.
func (t Twins) Make(ctx context.Context, name string) error {
	return t.alone(ctx, "make the database "+name, func(conn *pgx.Conn) error {
		err := execAll(ctx, conn, []string{"drop database if exists " + quoted(name) + " with (force)",
			"create database " + quoted(name) + " owner " + quoted(t.owner), "revoke all on database " + quoted(name) + " from public"})
		if told, ok := errors.AsType[*pgconn.PgError](err); ok && told.Code == "42501" { // insufficient privilege
			return &hinted{fmt.Errorf("%w: the role %s may make no database: %w", ErrNoTwin, t.owner, err), "have an administrator run: alter role " + quoted(t.owner) + " createdb"}
		}
		return err
	})
}

// Drop throws a database away, whoever is connected. Twice is fine.
func (t Twins) Drop(ctx context.Context, name string) error {
	return t.alone(ctx, "drop the database "+name, func(conn *pgx.Conn) error {
		return execAll(ctx, conn, []string{"drop database if exists " + quoted(name) + " with (force)"})
	})
}

// Swap has next take the place of live, which is called kept from then on: at one instant, whoever is connected; nobody comes in for as long
// as it takes. It is done when it was done before. ErrNoDatabase where next is not there. After an error or a crash live is what it was
// or what it is to be; where nobody may enter it, calling Swap, or Swap the other way round, mends that.
func (t Twins) Swap(ctx context.Context, live, next, kept string) error {
	return t.alone(ctx, "switch the database "+live, func(conn *pgx.Conn) error {
		there, err := existing(ctx, conn, live, next, kept)
		switch {
		case err != nil:
			return err
		case there[live] && there[kept] && !there[next]:
			return admit(ctx, conn, live, kept)
		case !there[live] || !there[next] || there[kept]:
			return errors.Join(fmt.Errorf("%w: %s", ErrNoDatabase, next), admitThere(ctx, conn, there))
		}
		if err := rename(ctx, conn, live, next, kept); err != nil {
			return errors.Join(err, admit(context.WithoutCancel(ctx), conn, live, next))
		}
		return admit(ctx, conn, live, kept)
	})
}

// Mend lets those in who may enter a database, where a Swap was cut off.
func (t Twins) Mend(ctx context.Context, names ...string) error {
	return t.alone(ctx, "open the database", func(conn *pgx.Conn) error {
		there, err := existing(ctx, conn, names...)
		if err != nil {
			return err
		}
		return admitThere(ctx, conn, there)
	})
}

func admitThere(ctx context.Context, conn *pgx.Conn, there map[string]bool) error {
	for name := range there {
		if err := admit(ctx, conn, name); err != nil {
			return err
		}
	}
	return nil
}

func existing(ctx context.Context, conn *pgx.Conn, names ...string) (map[string]bool, error) {
	rows, err := conn.Query(ctx, "select datname from pg_database where datname = any($1)", names)
	if err != nil {
		return nil, err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	there := map[string]bool{}
	for _, name := range found {
		there[name] = true
	}
	return there, err
}

// rename waits until nobody is in either, since PostgreSQL renames no database that somebody works with.
func rename(ctx context.Context, conn *pgx.Conn, live, next, kept string) error {
	for _, name := range []string{next, live} {
		if _, err := conn.Exec(ctx, "alter database "+quoted(name)+" allow_connections false"); err != nil {
			return err
		}
	}
	err := poll(ctx, func() (bool, error) {
		var left int
		err := conn.QueryRow(ctx, `select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = any($1)`, []string{live, next}).Scan(&left)
		return left == 0, err
	})
	if err != nil {
		return err
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	for _, s := range []string{"alter database " + quoted(live) + " rename to " + quoted(kept), "alter database " + quoted(next) + " rename to " + quoted(live)} {
		if _, err := tx.Exec(ctx, s); err != nil {
			return errors.Join(err, tx.Rollback(context.WithoutCancel(ctx)))
		}
	}
	return tx.Commit(ctx)
}

func admit(ctx context.Context, conn *pgx.Conn, names ...string) error {
	for _, name := range names {
		if _, err := conn.Exec(ctx, "alter database "+quoted(name)+" allow_connections true"); err != nil {
			return err
		}
	}
	return nil
}

// Twin is one database.
type Twin struct {
	Name  string
	Bytes int64
}

// Named returns the databases whose names begin so.
func (t Twins) Named(ctx context.Context, prefix string) ([]Twin, error) {
	conn, err := t.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for databases: %w", err)
	}
	rows, err := conn.Query(ctx, "select datname, pg_database_size(oid) from pg_database where starts_with(datname, $1) order by oid", prefix)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("look for databases: %w", err), conn.Close(ctx))
	}
	found, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Twin])
	return found, errors.Join(err, conn.Close(ctx))
}

// TwinName is the name of a database beside another one: PostgreSQL cuts names at 63 bytes, so the first name is cut before.
func TwinName(name, role, id string) string {
	rest := "_" + role + "_" + strings.ReplaceAll(id, "-", "_")
	return name[:min(len(name), max(0, 63-len(rest)))] + rest
}

package postgres

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Admin is the connection string of the superuser for one database, for pgx, psql, pg_dump. It holds no secret: the kernel
// says who asks. Only root and the user that PostgreSQL runs as get in.
func (c Cluster) Admin(database string) string {
	return fmt.Sprintf("host='%s' port=%d user=%s dbname='%s' sslmode=disable", c.socketDir(), c.port(), c.superuser(), database)
}

// Ready returns nil when this cluster takes connections now. ErrNotRunning: nothing answers, or another cluster does.
// ErrNotReady: it starts, recovers from a crash, or stops.
func (c Cluster) Ready(ctx context.Context) error {
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	return conn.Close(ctx)
}

// Await asks Ready until it is nil or ctx ends; then the last answer is part of the error.
func (c Cluster) Await(ctx context.Context) error {
	var last error
	err := poll(ctx, func() (bool, error) {
		last = c.Ready(ctx)
		if last == nil || errors.Is(last, ErrNotReady) || errors.Is(last, ErrNotRunning) {
			return last == nil, nil
		}
		return false, last
	})
	if err != nil && last != nil && !errors.Is(err, last) {
		return fmt.Errorf("%w: %w", err, last)
	}
	return err
}

// connect makes sure that it has reached this cluster.
func (c Cluster) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(c.Admin("postgres"))
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, c.explain(err)
	}
	var data string
	if err := conn.QueryRow(ctx, "show data_directory").Scan(&data); err != nil {
		return nil, errors.Join(c.explain(err), conn.Close(ctx))
	}
	if resolved(data) != resolved(c.data()) {
		return nil, errors.Join(fmt.Errorf("%w: the cluster in %s answers on its socket", ErrNotRunning, data), conn.Close(ctx))
	}
	return conn, nil
}

// explain turns what the driver says into something to decide by.
func (c Cluster) explain(err error) error {
	told, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case ok && (told.Code == "57P03" || told.Code == "57P01"): // cannot connect now, admin shutdown
		return fmt.Errorf("%w: %w", ErrNotReady, err)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: %w", ErrNotRunning, err)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ended meanwhile: %w", ErrNotReady, err)
	}
	return err
}

// databaseName is what needs no quotes anywhere: in SQL, in a URL, in a shell.
var databaseName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)

func checkName(name string) error {
	if !databaseName.MatchString(name) || strings.HasPrefix(name, "pg_") || strings.HasPrefix(name, "template") || name == Superuser {
		return &hinted{fmt.Errorf("%w: %q", ErrName, name), "use a-z, 0-9 and _, at most 63 of them, beginning with a letter, and no name of PostgreSQL's own"}
	}
	return nil
}

// CreateDatabase makes a role and a database of its own, both called name, and returns its DSN. It is idempotent: the second
// time it returns the same DSN, and gives the role its password back if somebody changed it. The cluster must run: ErrNotRunning, ErrNotReady.
func (c Cluster) CreateDatabase(ctx context.Context, name string) (secret.Text, error) {
	dsn, err := c.DSN(name)
	if err != nil {
		return secret.Text{}, err
	}
	conn, err := c.connect(ctx)
	if err != nil {
		return secret.Text{}, fmt.Errorf("create the database %s: %w", name, err)
	}
	err = errors.Join(c.create(ctx, conn, name), conn.Close(ctx))
	if err != nil {
		return secret.Text{}, fmt.Errorf("create the database %s: %w", name, err)
	}
	return dsn, nil
}

// creating is the advisory lock under which databases come and go; it ends with the connection.
const creating = 0x6c6f747365 // "lotse"

func (c Cluster) create(ctx context.Context, conn *pgx.Conn, name string) error {
	verifier, err := c.verifier(name)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "select pg_advisory_lock($1)", int64(creating)); err != nil {
		return err
	}
	var role, same, database bool
	err = conn.QueryRow(ctx, `select
		exists (select from pg_roles where rolname = $1),
		exists (select from pg_authid where rolname = $1 and rolpassword = $2),
		exists (select from pg_database where datname = $1)`, name, verifier.Reveal()).Scan(&role, &same, &database)
	if err != nil {
		return err
	}
	var statements []string
	if !role {
		statements = append(statements, "create role "+quoted(name)+" login")
	}
	if !same { // the verifier, never the password: PostgreSQL does not need to know it (RFC 5803)
		statements = append(statements, "alter role "+quoted(name)+" password '"+verifier.Reveal()+"'")
	}
	if !database {
		statements = append(statements, "create database "+quoted(name)+" owner "+quoted(name))
	}
	// Every time, since a crash may have come between. By default everybody may enter every database.
	statements = append(statements, "revoke all on database "+quoted(name)+" from public")
	return execAll(ctx, conn, statements)
}

func execAll(ctx context.Context, conn *pgx.Conn, statements []string) error {
	for _, s := range statements {
		if _, err := conn.Exec(ctx, s); err != nil {
			return err // of the server: it does not repeat the statement
		}
	}
	return nil
}

// quoted is a name as SQL takes it whatever it is, as "order" and "user".
func quoted(name string) string { return pgx.Identifier{name}.Sanitize() }

// DropDatabase throws the database and its role away, whoever is connected. Twice is fine.
func (c Cluster) DropDatabase(ctx context.Context, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	conn, err := c.connect(ctx)
	if err != nil {
		return fmt.Errorf("drop the database %s: %w", name, err)
	}
	_, err = conn.Exec(ctx, "select pg_advisory_lock($1)", int64(creating))
	if err == nil {
		err = execAll(ctx, conn, []string{"drop database if exists " + quoted(name) + " with (force)", "drop role if exists " + quoted(name)})
	}
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("drop the database %s: %w", name, err)
	}
	return nil
}

// DSN is the URL by which an app reaches its database: over TLS on 127.0.0.1 where the cluster has a port, and with the file by
// which it knows the server; else over the socket, which needs no TLS. It says nothing about whether the database is there, and
// stays the same for as long as folder and port do. ErrNotMade before Init or Reserve.
func (c Cluster) DSN(name string) (secret.Text, error) {
	if err := checkName(name); err != nil {
		return secret.Text{}, err
	}
	password, err := c.derive("password of " + name)
	if err != nil {
		return secret.Text{}, err
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(name, base64.RawURLEncoding.EncodeToString(password)), Host: c.address(), Path: "/" + name}
	query := url.Values{"sslmode": {"verify-full"}, "sslrootcert": {c.AuthorityPath()}}
	if c.Port == 0 {
		u.Host = ""
		query = url.Values{"sslmode": {"disable"}}
		query.Set("host", c.socketDir())
		query.Set("port", strconv.Itoa(socketPort))
	}
	u.RawQuery = query.Encode()
	return secret.New(u.String()), nil
}

// keyBytes is the length of the key: no shorter than the hash that it feeds (RFC 2104 §3).
const keyBytes = sha256.Size

// makeKey makes the key where there is none. Passwords are derived from it, so that nothing has to be kept, and nothing can be
// lost, between making a role and telling its password.
func (c Cluster) makeKey() error {
	if _, err := os.Lstat(filepath.Join(c.Dir, "key")); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	key := make([]byte, keyBytes)
	rand.Read(key) // never fails
	return writeFile(c.Dir, "key", key, 0o600, User{uint32(os.Geteuid()), uint32(os.Getegid())})
}

func (c Cluster) derive(purpose string) ([]byte, error) {
	key, err := os.ReadFile(filepath.Join(c.Dir, "key"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNotMade, err)
	}
	if err != nil {
		return nil, err
	}
	if len(key) != keyBytes {
		return nil, &hinted{fmt.Errorf("the key in %s is damaged: it has %d bytes, not %d", c.Dir, len(key), keyBytes),
			"remove the file and start again: every role of the cluster gets a new password"}
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(purpose))
	return mac.Sum(nil), nil
}

// iterations is PostgreSQL's own figure. The password has 256 bits, so that no number of them would matter.
const iterations = 4096

// verifier is what PostgreSQL stores of a password (RFC 5802 §3, in the form of RFC 5803 that pg_authid uses). Its salt is derived
// too, so that one look tells whether the role has its password.
func (c Cluster) verifier(name string) (secret.Text, error) {
	password, err1 := c.derive("password of " + name)
	salt, err2 := c.derive("salt of " + name)
	if err := errors.Join(err1, err2); err != nil {
		return secret.Text{}, err
	}
	text, err := scram(base64.RawURLEncoding.EncodeToString(password), salt[:16])
	return secret.New(text), err
}

func scram(password string, salt []byte) (string, error) {
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	sum := func(text string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(text))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(sum("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, b64(salt), b64(stored[:]), b64(sum("Server Key"))), nil
}

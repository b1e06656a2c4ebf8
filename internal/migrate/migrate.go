package migrate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Config is what a Migrator can be told. Its zero value is what Lotse uses.
type Config struct {
	// LockWait is how long a statement waits for a table, while everybody who comes after waits behind it. Default 4 s. A file that did
	// not get its locks is rolled back and tried again, Tries times in all (default 6), with pauses in which others get their turn.
	LockWait time.Duration
	Tries    int
	// Most is how long one statement may run inside a transaction, in which it holds what it has locked. Default 15 min; a file may say
	// another time with SET LOCAL statement_timeout.
	Most time.Duration
	Log  *slog.Logger // nil logs nothing
}

// Migrator implements deploy.Migrator. It holds no state: everything that it knows stands in the database.
type Migrator struct{ Config }

var _ deploy.Migrator = (*Migrator)(nil)

// New returns a Migrator.
func New(c Config) *Migrator {
	if c.LockWait == 0 {
		c.LockWait = 4 * time.Second
	}
	if c.Tries == 0 {
		c.Tries = 6
	}
	if c.Most == 0 {
		c.Most = 15 * time.Minute
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Migrator{c}
}

// commandTag is what a statement returns that is not asked for rows.
type commandTag = pgconn.CommandTag

// Migrate implements deploy.Migrator. After an error, what it returns beside it is what was done before.
func (m *Migrator) Migrate(ctx context.Context, url secret.Text, files fs.FS, dir string, wait ...string) (deploy.Migrated, error) {
	var done deploy.Migrated
	folder, err := read(files, dir)
	if err != nil {
		return done, err
	}
	conn, err := connect(ctx, url)
	if err != nil {
		return done, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // what is committed is committed, what is not is rolled back
	if err := m.lock(ctx, conn); err != nil {
		return done, foreign(ctx, err)
	}
	book, taken, err := m.look(ctx, conn, folder)
	if err != nil {
		return done, foreign(ctx, err)
	}
	todo, before, err := book.compare(folder)
	if err != nil {
		return done, err
	}
	done.Before, done.TakenOver = before, taken
	newest := book.greatest()
	for _, f := range todo {
		if slices.Contains(wait, f.name) {
			done.Waiting = append(done.Waiting, f.name)
			continue
		}
		begun := time.Now()
		if err := (run{m.Config, conn, book, len(done.Applied)}).apply(ctx, f); err != nil {
			return done, err
		}
		m.Log.Info("migration applied", "file", f.path, "took", time.Since(begun).Round(time.Millisecond))
		done.Applied = append(done.Applied, f.name)
		if f.version < newest {
			done.Late = append(done.Late, f.name)
		}
	}
	return done, nil
}

// foreign is an error of what Lotse itself asks the database.
func foreign(ctx context.Context, err error) error {
	if errors.Is(err, deploy.ErrMigration) {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if told, ok := errors.AsType[*pgconn.PgError](err); ok {
		return deploy.Hint(fmt.Errorf("%w: Lotse's record of migrations: %s", deploy.ErrMigration, sayable(told)), advice(told))
	}
	return fmt.Errorf("%w: the connection to the database broke", deploy.ErrUnavailable)
}

// running is the advisory lock under which one works at a time; it ends with the connection.
const running = 0x6c6f7473656d6967 // "lotsemig"

// lock waits until nobody else migrates this database. It asks again and again: a statement that waits in the server would hold a
// snapshot, for which CREATE INDEX CONCURRENTLY of the other one would wait in turn.
func (m *Migrator) lock(ctx context.Context, conn *pgx.Conn) error {
	for told := false; ; told = true {
		var got bool
		if err := conn.QueryRow(ctx, "select pg_try_advisory_lock($1)", int64(running)).Scan(&got); err != nil || got {
			return err
		}
		if !told {
			m.Log.Info("another run migrates the same database; this one waits")
		}
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// look reads what has run. Where Lotse comes for the first time, it makes its table and takes over what another tool has applied.
func (m *Migrator) look(ctx context.Context, conn *pgx.Conn, folder []file) (b book, taken string, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if b, err = open(ctx, tx); err != nil || !b.made {
			return err
		}
		h, err := histories(ctx, tx, folder)
		if err != nil || len(h.versions) == 0 {
			return err
		}
		taken = h.tool
		m.Log.Info("what another tool has applied is taken over", "tool", h.tool, "files", len(h.versions))
		return b.takeOver(ctx, tx, h, folder)
	})
	return b, taken, err
}

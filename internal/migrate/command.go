package migrate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// commandMost is how long a command may take in all.
const commandMost = time.Hour

// lookMost is how long finding out what stands may take.
const lookMost = 15 * time.Second

// Run implements deploy.Migrator. The lock is held by a connection that does nothing else, so that the command may build an index beside
// the writes of others. After an error, what it returns beside it is what of the schema is different.
func (m *Migrator) Run(ctx context.Context, url secret.Text, c deploy.MigrationCommand) (deploy.Migrated, error) {
	var done deploy.Migrated
	conn, err := connect(ctx, url)
	if err != nil {
		return done, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has nothing to lose
	if err := m.lock(ctx, conn); err != nil {
		return done, foreign(ctx, err)
	}
	n, err := m.note(ctx, conn, c.Line)
	if err != nil {
		return done, foreign(ctx, err)
	}
	done.Resumed = n.resumed
	running, cancel := context.WithTimeoutCause(ctx, commandMost, fmt.Errorf("it has not ended within %s", commandMost))
	failed := c.Run(running, m.limits(n.major, c.Settings))
	cancel()
	looking, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookMost) // also after a cancel: what stands is to be named
	defer cancel()
	after, err := lookAt(looking, conn)
	if err == nil {
		done.Changed = n.before.unlike(after)
	}
	if failed != nil {
		return done, n.failed(ctx, looking, conn, c.Line, done, errors.Join(failed, err))
	}
	if err == nil {
		err = n.book.commandEnded(looking, conn)
	}
	if err != nil {
		return done, foreign(ctx, err)
	}
	m.Log.Info("a command has migrated", "changes", len(done.Changed))
	return done, nil
}

// noted is what is known before a command runs.
type noted struct {
	book    book
	before  *catalog
	resumed bool
	major   int
}

// note writes down that the command begins.
func (m *Migrator) note(ctx context.Context, conn *pgx.Conn, line string) (n noted, err error) {
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if n.book, err = open(ctx, tx); err != nil {
			return err
		}
		r, known := n.book.rows[theCommand]
		n.resumed = known && !r.applied
		return n.book.commandBegun(ctx, tx, line)
	})
	if err != nil {
		return n, err
	}
	if err := conn.QueryRow(ctx, "select current_setting('server_version_num')::int / 10000").Scan(&n.major); err != nil {
		return n, err
	}
	n.before, err = lookAt(ctx, conn)
	return n, err
}

// limits are those of Migrate, as far as the command's client takes PGOPTIONS: libpq and what is built on it, node-postgres and pgx do.
func (m *Migrator) limits(major int, settings []deploy.Setting) []deploy.Setting {
	options := fmt.Sprintf("-c lock_timeout=%d -c statement_timeout=%d", m.LockWait.Milliseconds(), m.Most.Milliseconds())
	if major >= 14 { // so that the server ends what a killed client has begun
		options += " -c client_connection_check_interval=2000"
	}
	if i := slices.IndexFunc(settings, func(s deploy.Setting) bool { return s.Name == "PGOPTIONS" }); i >= 0 { // what is said later holds
		options += " " + settings[i].Value.Reveal()
	}
	return []deploy.Setting{{Name: "PGOPTIONS", Value: secret.New(options)}}
}

// failed says what stands after a command that did not come through.
func (n noted) failed(ctx, looking context.Context, conn *pgx.Conn, line string, done deploy.Migrated, err error) error {
	stands := "nothing of the schema is different"
	if conn.IsClosed() {
		stands = "what of the schema is different cannot be asked"
	} else if len(done.Changed) > 0 {
		stands = "of the schema is different: " + listed(done.Changed)
	}
	if broken, asked := invalid(looking, conn); asked == nil && len(broken) > 0 {
		stands += "; not valid, and to be dropped: " + strings.Join(broken, ", ")
	}
	stands += "; rows may be changed too; the next run goes on as the command does"
	if ctx.Err() != nil {
		return fmt.Errorf("`%s`: %w; %s", line, context.Cause(ctx), stands)
	}
	if exit, ok := errors.AsType[*deploy.ExitError](err); ok {
		err = &deploy.ExitError{Command: exit.Command, Code: exit.Code, Tail: withoutRows(exit.Tail)}
	}
	return deploy.Hint(fmt.Errorf("%w: %w\n%s", deploy.ErrMigration, err, stands), deploy.HintOf(err))
}

// mostChanges is how much of what is different is said.
const mostChanges = 20

func listed(changes []string) string {
	if more := len(changes) - mostChanges; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(changes[:mostChanges], ", "), more)
	}
	return strings.Join(changes, ", ")
}

// invalid are the indexes that a broken-off CREATE INDEX CONCURRENTLY has left: maintained, and never used.
func invalid(ctx context.Context, conn *pgx.Conn) (indexes []string, err error) {
	rows, err := conn.Query(ctx, "select indexrelid::pg_catalog.regclass::text from pg_catalog.pg_index where not indisvalid order by 1")
	if err != nil {
		return nil, err
	}
	indexes, err = pgx.CollectRows(rows, pgx.RowTo[string])
	for i := range indexes {
		indexes[i] = "index " + indexes[i]
	}
	return indexes, err
}

// repeats are lines in which PostgreSQL's clients repeat values of rows.
var repeats = regexp.MustCompile(`(?i)\bdetail\b|\bkey \(|failing row|\bparam(eter)?s?\b:|\bvalues?\s*[("]|invalid input|out of range|malformed`)

func withoutRows(tail []string) []string {
	tail = slices.Clone(tail)
	for i := range tail {
		if repeats.MatchString(tail[i]) {
			tail[i] = "(a line that may repeat rows is in the log alone)"
		}
	}
	return tail
}

// unlike says in names what of one schema is not in the other, or is different there.
func (c *catalog) unlike(after *catalog) (changes []string) {
	was, is := c.described(), after.described()
	for _, name := range slices.Sorted(maps.Keys(was)) {
		switch now, there := is[name]; {
		case !there:
			changes = append(changes, name+" is gone")
		case now != was[name]:
			changes = append(changes, name+" is changed")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(is)) {
		if _, there := was[name]; !there {
			changes = append(changes, name+" is new")
		}
	}
	return changes
}

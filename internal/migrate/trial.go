package migrate

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// trial runs files in a clone, one statement at a time, and looks at each over another connection while its transaction is open.
type trial struct {
	scratch *scratch
	runner  *pgx.Conn // what the files run over
	watcher *pgx.Conn // looks on
	blocker *pgx.Conn // stands in the way of what cannot be in a transaction
	first   *catalog  // before all files
	sizes   map[string]size
	sized   bool
	whole   bool // the clone has all that the database has
	folder  bool // what fails is left out
	session bool // of a command: what a statement has set holds for the next, and has run in a clone already
}

const statementMost = "60s" // a statement that loops; there are no rows to work on

func (c *clone) begin(ctx context.Context, database string) (*trial, error) {
	if err := c.scratch.copyOf(ctx, database); err != nil {
		return nil, err
	}
	t := &trial{scratch: c.scratch, whole: c.real != nil && len(c.lacks) == 0 && strings.HasPrefix(c.schema, "a dump")}
	if c.real != nil && len(c.real.sizes) > 0 {
		t.sizes, t.sized = c.real.sizes, true
	}
	err := t.connect(ctx, database)
	if err == nil {
		t.first, err = lookAt(ctx, t.watcher)
	}
	if err != nil {
		t.end()
		return nil, err
	}
	return t, nil
}

func (t *trial) connect(ctx context.Context, database string) (err error) {
	if t.runner, err = t.scratch.runner(ctx, database); err != nil {
		return err
	}
	if t.watcher, err = t.scratch.superuser(ctx, database); err != nil {
		return err
	}
	t.blocker, err = t.scratch.superuser(ctx, database)
	return err
}

func (t *trial) end() {
	for _, c := range []*pgx.Conn{t.runner, t.watcher, t.blocker} {
		if c != nil {
			_ = c.Close(context.Background()) // it has nothing to lose
		}
	}
}

// seen is what one statement was seen to do.
type seen struct {
	held    map[int64]string // strongest lock that its transaction has then, by table
	scanned map[int64]bool   // tables that were there and that it read from one end to the other
	before  *catalog
	after   *catalog
}

// observed is a statement with what was found of it.
type observed struct {
	statement int
	seen
	found  []finding // of the schema
	longer []finding // of locks, and of rows
}

// judge judges one file, with what it says itself may be.
func (t *trial) judge(ctx context.Context, f file) (deploy.JudgedFile, error) {
	allowed, err := f.allowances()
	if err != nil {
		return deploy.JudgedFile{}, err
	}
	of, err := t.try(ctx, f)
	for i := range of.Verdicts {
		of.Verdicts[i].Allowed = allowed[of.Verdicts[i].Rule]
	}
	return of, err
}

// try judges one file as it is.
func (t *trial) try(ctx context.Context, f file) (deploy.JudgedFile, error) {
	of := deploy.JudgedFile{Name: f.name}
	before, err := lookAt(ctx, t.watcher)
	if err != nil {
		return of, err
	}
	if !t.session {
		if err := t.settle(ctx); err != nil {
			return of, err
		}
	}
	var all []observed
	statement, err := 0, error(nil)
	if !f.alone {
		all, statement, err = t.together(ctx, f, before)
		if err == nil {
			t.net(all, before)
		}
	}
	if f.alone || f.needsItsOwn(statement, err) {
		all, statement, err = t.apart(ctx, f, before)
	}
	if err != nil {
		v, err := t.failed(ctx, f, statement, err)
		if err != nil {
			return of, err
		}
		of.Verdicts = append(of.Verdicts, v)
	}
	t.tell(&of, f, all)
	return of, nil
}

// settle makes the session that of the address again.
func (t *trial) settle(ctx context.Context) error {
	_, err := t.runner.Exec(ctx, "reset session authorization; reset role; reset all; set statement_timeout = '"+statementMost+"'")
	return err
}

// together runs a file in one transaction.
func (t *trial) together(ctx context.Context, f file, before *catalog) (all []observed, statement int, err error) {
	err = pgx.BeginFunc(ctx, t.runner, func(pgx.Tx) error {
		scans, err := t.scans(ctx)
		if err != nil {
			return err
		}
		for statement = range f.statements {
			if err := t.do(ctx, f, statement); err != nil {
				return err
			}
			s, err := t.look(ctx, before, scans)
			if err != nil {
				return err
			}
			all, before = append(all, t.observe(f, statement, s)), s.after
		}
		statement = len(f.statements)
		return nil
	})
	return all, statement, err
}

// apart runs each statement for itself: in a transaction, or bare where it must.
func (t *trial) apart(ctx context.Context, f file, before *catalog) (all []observed, statement int, err error) {
	for statement = range f.statements {
		var s seen
		err := pgx.BeginFunc(ctx, t.runner, func(pgx.Tx) error {
			scans, err := t.scans(ctx)
			if err == nil {
				err = t.do(ctx, f, statement)
			}
			if err == nil {
				s, err = t.look(ctx, before, scans)
			}
			return err
		})
		if codeOf(err) == inTransaction {
			s, err = t.bare(ctx, f.piece(statement), before)
		}
		if err != nil {
			return all, statement, err
		}
		all, before = append(all, t.observe(f, statement, s)), s.after
	}
	return all, len(f.statements), nil
}

var madeByOthers = regexp.MustCompile(`(?is)^create\s+(?:role|user|group)\s+(?:"([^"]+)"|([^\s";]+))`)

// send runs one statement as the runner. Roles and extensions, for which that has no right, are made for it.
func (t *trial) send(ctx context.Context, sql string) error {
	words := wordsOf(sql)
	if match := madeByOthers.FindStringSubmatch(sql); match != nil {
		return t.scratch.addRole(ctx, t.watcher, match[1]+strings.ToLower(match[2]))
	}
	if starts(words, "create", "extension") && t.runner.PgConn().TxStatus() != 'E' {
		if _, err := t.watcher.Exec(ctx, sql); err != nil && !exists(err) {
			return err
		}
		return nil
	}
	_, err := t.runner.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// replay runs a file for what it makes.
func (t *trial) replay(ctx context.Context, f file) error {
	if err := t.settle(ctx); err != nil {
		return err
	}
	statement := 0
	err := pgx.BeginFunc(ctx, t.runner, func(pgx.Tx) error {
		for statement = range f.statements {
			if err := t.send(ctx, f.piece(statement)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil || !t.folder && !f.needsItsOwn(statement, err) {
		return err
	}
	err = nil
	for i := range f.statements {
		err = errors.Join(err, t.send(ctx, f.piece(i)))
	}
	return err
}

// modes are PostgreSQL's locks on tables, the weakest first ("Table-Level Locks" in its manual).
var modes = []string{"ACCESS SHARE", "ROW SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "SHARE", "SHARE ROW EXCLUSIVE", "EXCLUSIVE", "ACCESS EXCLUSIVE"}

// keepsOut is the weakest that keeps writers out.
const keepsOut = 4

func strength(mode string) int { return slices.Index(modes, mode) }

var capital = regexp.MustCompile(`([a-z])([A-Z])`)

// modeOf turns AccessExclusiveLock into ACCESS EXCLUSIVE.
func modeOf(name string) string {
	return strings.ToUpper(capital.ReplaceAllString(strings.TrimSuffix(name, "Lock"), "$1 $2"))
}

// look finds out, over the other connection, what the runner's transaction has locked, and over its own what it has read and made.
func (t *trial) look(ctx context.Context, before *catalog, scans map[int64]int64) (s seen, err error) {
	s = seen{before: before, scanned: map[int64]bool{}}
	if s.held, err = t.locks(ctx, true); err != nil {
		return s, err
	}
	now, err := t.scans(ctx)
	if err != nil {
		return s, err
	}
	for table, n := range now {
		if n > scans[table] && t.first.byOID[table] != nil {
			s.scanned[table] = true
		}
		scans[table] = n
	}
	s.after, err = lookAt(ctx, t.runner)
	return s, err
}

// scans is how often the runner has read each table from one end to the other. What it did in transactions before may count still.
func (t *trial) scans(ctx context.Context) (map[int64]int64, error) {
	rows, err := t.runner.Query(ctx, "select c.oid::int8, pg_catalog.pg_stat_get_xact_numscans(c.oid) from pg_catalog.pg_class c where c.relkind in ('r', 'm') and pg_catalog.pg_stat_get_xact_numscans(c.oid) > 0 and c.oid >= 16384")
	if err != nil {
		return nil, err
	}
	counted := map[int64]int64{}
	var table, n int64
	_, err = pgx.ForEachRow(rows, []any{&table, &n}, func() error { counted[table] = n; return nil })
	return counted, err
}

// locks are those of the runner on tables that were there, the strongest of each; or those that it waits for.
func (t *trial) locks(ctx context.Context, granted bool) (map[int64]string, error) {
	rows, err := t.watcher.Query(ctx, `select l.relation::int8, l.mode from pg_catalog.pg_locks l join pg_catalog.pg_database d on d.oid = l.database and d.datname = current_database()
		where l.locktype = 'relation' and l.pid = $1 and l.granted = $2`, t.runner.PgConn().PID(), granted)
	if err != nil {
		return nil, err
	}
	held := map[int64]string{}
	var table int64
	var mode string
	_, err = pgx.ForEachRow(rows, []any{&table, &mode}, func() error {
		if r := t.first.byOID[table]; r != nil && (r.table() || r.view()) && strength(modeOf(mode)) >= strength(held[table]) {
			held[table] = modeOf(mode)
		}
		return nil
	})
	return held, err
}

const (
	blockMost  = 3 * time.Second
	blockEvery = 5 * time.Millisecond
)

// bare runs a statement that PostgreSQL lets into no transaction. All tables are locked before against all but readers, so that it must
// wait: which lock it waits for is seen then.
func (t *trial) bare(ctx context.Context, sql string, before *catalog) (s seen, err error) {
	s = seen{before: before, scanned: map[int64]bool{}}
	tx, err := t.blocker.Begin(ctx)
	if err != nil {
		return s, err
	}
	for _, r := range t.first.Relations {
		if now := before.byOID[r.OID]; now != nil && (r.Kind == "r" || r.Kind == "p") {
			if _, err := tx.Exec(ctx, "lock table "+pgx.Identifier{now.Schema, strings.TrimPrefix(now.Name, now.Schema+".")}.Sanitize()+" in exclusive mode"); err != nil {
				return s, errors.Join(err, tx.Rollback(ctx))
			}
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- t.send(ctx, sql) }()
	err, over := t.waits(ctx, ended, &s)
	err = errors.Join(err, tx.Rollback(ctx))
	if !over {
		err = errors.Join(err, <-ended)
	}
	if err == nil {
		s.after, err = lookAt(ctx, t.watcher)
	}
	return s, err
}

// waits looks until the statement waits for a lock, or has ended without one.
func (t *trial) waits(ctx context.Context, ended <-chan error, s *seen) (err error, over bool) { //nolint:revive // two answers about one statement
	ticker := time.NewTicker(blockEvery)
	defer ticker.Stop()
	late := time.After(blockMost)
	for {
		if s.held, err = t.locks(ctx, false); err != nil || len(s.held) > 0 {
			return err, false
		}
		select {
		case err := <-ended:
			return err, true
		case <-late:
			return nil, false
		case <-ctx.Done():
			return context.Cause(ctx), false
		case <-ticker.C:
		}
	}
}

// failed decides what a failure in the clone means: the same will happen in the database, or nobody knows.
func (t *trial) failed(ctx context.Context, f file, statement int, err error) (deploy.Verdict, error) {
	told, ok := errors.AsType[*pgconn.PgError](err)
	if ctx.Err() != nil || !ok {
		return deploy.Verdict{}, err
	}
	at := min(statement, max(0, len(f.statements)-1))
	if !t.session && (told.Code == "42601" || t.whole && strings.HasPrefix(told.Code, "42") && told.Code != notPermitted) {
		return deploy.Verdict{}, f.failed(ctx, statement, shifted(err, f.statements[at].from), "found on a clone of the schema, before anything ran")
	}
	v := notJudged(sayable(told))
	v.Line, v.Says = f.at(at)
	v.Key = f.key(at, finding{v.Rule, told.Code})
	return v, nil
}

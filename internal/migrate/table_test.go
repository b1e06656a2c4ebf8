package migrate

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.yaml.in/yaml/v4"
)

var update = flag.Bool("update", false, "write the tables of docs/migrations.md")

// sample is one row of testdata/migrations.yaml, which says what its fields are.
type sample struct {
	Do      string   `yaml:"do"`
	With    string   `yaml:"with"`
	Old     string   `yaml:"old"`
	Lock    string   `yaml:"lock"`
	Rewrite bool     `yaml:"rewrite"`
	Scan    bool     `yaml:"scan"`
	Alone   bool     `yaml:"alone"`
	Broken  bool     `yaml:"broken"`
	Class   string   `yaml:"class"`
	Rules   []string `yaml:"rules"`
	Also    string   `yaml:"also"`
}

func samples(t *testing.T) (base string, rows []sample) {
	t.Helper()
	text, err := os.ReadFile("testdata/migrations.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var all struct {
		Base string
		Rows []sample
	}
	if err := yaml.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all.Base, all.Rows
}

// Every row of the table is true of a real PostgreSQL, and Lotse says of it what stands there.
func TestTable(t *testing.T) {
	database(t) // or it is not run
	base, rows := samples(t)
	if len(rows) < 40 {
		t.Fatalf("%d rows", len(rows))
	}
	s := bench(t, base)
	boss := dial(t, cluster.Admin("postgres"))
	execute(t, boss, "create role app", "create database samples")
	setUp := dial(t, cluster.Admin("samples"))
	execute(t, setUp, "grant usage on schema public to app")
	if _, err := setUp.PgConn().Exec(within(t), base).ReadAll(); err != nil {
		t.Fatal(err)
	}
	setUp.Close(within(t))
	begun := time.Now()
	if os.Getenv("LOTSE_PROVE") == "" {
		rows = every(rows, 9) // all of them take a minute
	}
	for i, row := range rows {
		name := fmt.Sprintf("sample%d", i)
		execute(t, boss, "create database "+name+" template samples")
		row.prove(t, name)
		execute(t, boss, "drop database "+name+" with (force)")
	}
	proven := time.Since(begun)
	for i, row := range rows {
		row.judge(t, s, fmt.Sprintf("judged%d", i))
	}
	t.Logf("%d rows, proven in %s, judged in %s", len(rows), proven.Round(time.Millisecond), (time.Since(begun) - proven).Round(time.Millisecond))
}

func every[T any](all []T, nth int) (some []T) {
	for i := 0; i < len(all); i += nth {
		some = append(some, all[i])
	}
	return some
}

// bench is a scratch cluster with the tables of the samples in it.
func bench(t *testing.T, schema string) *scratch {
	t.Helper()
	installed, _, err := found(0)
	if err != nil {
		t.Fatal(err)
	}
	s, err := openScratch(within(t), installed, nobody)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.prepare(within(t), base, []string{"app"}); err != nil {
		t.Fatal(err)
	}
	conn, err := s.runner(within(t), base)
	if err == nil {
		_, err = conn.PgConn().Exec(within(t), schema+"; grant usage on schema public to app").ReadAll()
	}
	if err != nil {
		t.Fatal(err)
	}
	conn.Close(within(t))
	return s
}

// prove runs the migration where rows are, and looks over a second connection.
func (row sample) prove(t *testing.T, name string) {
	t.Helper()
	runner, other := dial(t, cluster.Admin(name)), dial(t, cluster.Admin(name))
	if _, err := runner.PgConn().Exec(within(t), row.With).ReadAll(); err != nil {
		t.Fatalf("%s: %v", row.Do, err)
	}
	if err := row.asOldCode(t, name); err != nil && row.With != "delete from people" {
		t.Errorf("%s: the old code does not work before it: %v", row.Do, err)
	}
	const tables = "select coalesce(json_object_agg(oid, relfilenode::int8), '{}') from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'm')"
	const there = "select coalesce(array_agg(oid::int8), '{}') from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'm', 'v')"
	known := ask[[]int64](t, other, there)
	before := ask[map[string]int64](t, other, tables)
	var lock string
	if row.Alone {
		lock = row.asked(t, name, runner, other, known)
	} else {
		tx, err := runner.Begin(within(t))
		if err == nil {
			_, err = runner.PgConn().Exec(within(t), row.Do).ReadAll()
		}
		if err != nil {
			t.Errorf("%s: %v", row.Do, err)
			return
		}
		lock = lockOf(t, other, runner.PgConn().PID(), known, true)
		if err := tx.Commit(within(t)); err != nil {
			t.Errorf("%s: %v", row.Do, err)
		}
	}
	if lock != row.Lock {
		t.Errorf("%s: it locks in %q, the table says %q", row.Do, lock, row.Lock)
	}
	rewritten := false
	truncates := strings.HasPrefix(row.Do, "truncate")
	for oid, file := range ask[map[string]int64](t, other, tables) {
		was, had := before[oid]
		rewritten = rewritten || had && was != file && !truncates
	}
	if rewritten != row.Rewrite {
		t.Errorf("%s: rewritten is %v, the table says %v", row.Do, rewritten, row.Rewrite)
	}
	if err := row.asOldCode(t, name); (err != nil) != row.Broken {
		t.Errorf("%s: the old code's %q: %v, the table says broken: %v", row.Do, row.Old, err, row.Broken)
	}
}

// asOldCode runs what the old code does, and takes it back.
func (row sample) asOldCode(t *testing.T, name string) error {
	t.Helper()
	conn, err := pgx.Connect(within(t), cluster.Admin(name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	_, err = conn.PgConn().Exec(within(t), "begin; "+row.Old).ReadAll()
	return err
}

// asked finds out which lock a statement wants that cannot be in a transaction: all tables are locked before, so that it must wait.
func (row sample) asked(t *testing.T, name string, runner, other *pgx.Conn, known []int64) (lock string) {
	t.Helper()
	blocker := dial(t, cluster.Admin(name))
	execute(t, blocker, "begin", "lock table people, orders, moods in exclusive mode")
	ended := make(chan error, 1)
	go func() { _, err := runner.Exec(within(t), row.Do); ended <- err }()
	eventually(t, row.Do, func() bool {
		lock = lockOf(t, other, runner.PgConn().PID(), known, false)
		return lock != ""
	})
	execute(t, blocker, "rollback")
	if err := <-ended; err != nil {
		t.Errorf("%s: %v", row.Do, err)
	}
	return lock
}

func lockOf(t *testing.T, other *pgx.Conn, pid uint32, known []int64, granted bool) string {
	t.Helper()
	lock := ""
	for _, mode := range ask[[]string](t, other, "select coalesce(array_agg(mode), '{}') from pg_locks where pid = $1 and locktype = 'relation' and relation = any($2::int8[]::oid[]) and granted = $3", pid, known, granted) {
		if m := modeOf(mode); strength(m) > strength(lock) && strength(m) >= strength("ROW EXCLUSIVE") {
			lock = m
		}
	}
	return lock
}

// judge compares what Lotse says of the migration on an empty clone.
func (row sample) judge(t *testing.T, s *scratch, name string) {
	t.Helper()
	ctx := within(t)
	if err := s.copyOf(ctx, name); err != nil {
		t.Fatal(err)
	}
	setUp, err := s.runner(ctx, name)
	if err == nil {
		_, err = setUp.PgConn().Exec(ctx, row.With).ReadAll()
	}
	if err != nil {
		t.Fatalf("%s: %v", row.Do, err)
	}
	setUp.Close(ctx)
	trial := &trial{scratch: s, whole: true}
	defer trial.end()
	if err := trial.connect(ctx, name); err != nil {
		t.Fatal(err)
	}
	if trial.first, err = lookAt(ctx, trial.watcher); err != nil {
		t.Fatal(err)
	}
	script, err := parse("m/1.sql", []byte(row.Do))
	if err != nil {
		t.Fatal(err)
	}
	got, err := trial.try(ctx, file{name: "1.sql", version: 1, script: script})
	if err != nil {
		t.Errorf("%s: %v", row.Do, err)
		return
	}
	var rules []string
	lock, rewrites, scans := "", false, false
	for _, v := range got.Verdicts {
		rules = append(rules, v.Rule)
		rewrites, scans = rewrites || v.Rewrites, scans || v.Scans && v.Rule != "update-all-rows"
	}
	for _, l := range got.Locks {
		if mode, _, _ := strings.Cut(l, " on "); strength(mode) > strength(lock) {
			lock = mode
		}
	}
	slices.Sort(rules)
	want := slices.Sorted(slices.Values(row.Rules))
	if string(got.Class()) != row.Class || !slices.Equal(slices.Compact(rules), want) || lock != row.Lock || rewrites != row.Rewrite || scans != row.Scan {
		t.Errorf("%s:\n judged %s %v, %q, rewrites %v, scans %v\n  wants %s %v, %q, rewrites %v, scans %v", row.Do, got.Class(), rules, lock, rewrites, scans, row.Class, want, row.Lock, row.Rewrite, row.Scan)
	}
}

// The tables of docs/migrations.md are the rules and the samples, between two marks.
func TestDocsAreTheTable(t *testing.T) {
	const file, begin, end = "../../docs/migrations.md", "<!-- from the table -->\n", "<!-- to here -->"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, opened := bytes.Cut(page, []byte(begin))
	written, after, closed := bytes.Cut(rest, []byte(end))
	if !opened || !closed {
		t.Fatalf("%s has lost its marks", file)
	}
	want := rendered(t)
	if *update {
		if err := os.WriteFile(file, slices.Concat(before, []byte(begin), want, []byte(end), after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !bytes.Equal(written, want) {
		t.Errorf("%s is not what the table says; write it with: go test ./internal/migrate -run Docs -update", file)
	}
}

func rendered(t *testing.T) []byte {
	t.Helper()
	_, rows := samples(t)
	var page bytes.Buffer
	fmt.Fprintf(&page, "\n## %d migrations, each proven\n\n| migration | class | lock | rewrites | old code | rules | safer | also known as |\n|---|---|---|---|---|---|---|---|\n", len(rows))
	for _, r := range rows {
		do := "`" + r.Do + "`"
		if r.With != "" {
			do += " after `" + r.With + "`"
		}
		var safer []string
		for _, name := range r.Rules {
			if s := ruleOf(name).safer; s != "" && !slices.Contains(safer, s) {
				safer = append(safer, s)
			}
		}
		fmt.Fprintf(&page, "| %s | %s | %s | %s | %s `%s` | %s | %s | %s |\n", strings.ReplaceAll(do, "|", `\|`), r.Class, orDash(r.Lock), map[bool]string{true: "yes", false: "no"}[r.Rewrite],
			map[bool]string{true: "fails:", false: "goes on:"}[r.Broken], r.Old, orDash(strings.Join(r.Rules, ", ")), orDash(strings.Join(safer, "; ")), r.Also)
	}
	page.WriteString("\n## The rules\n\n| rule | class | why | safer |\n|---|---|---|---|\n")
	for _, r := range rules {
		fmt.Fprintf(&page, "| `%s` | %s | %s | %s |\n", r.name, r.class, r.reason, orDash(r.safer))
	}
	page.WriteString("\n")
	return page.Bytes()
}

func orDash(text string) string {
	if text == "" {
		return "–"
	}
	return text
}

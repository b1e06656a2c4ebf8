package migrate

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func pieces(t *testing.T, text string) []string {
	t.Helper()
	s, err := parse("m/1.sql", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for i := range s.statements {
		all = append(all, s.piece(i))
	}
	return all
}

// Where a statement ends is what psql says.
func TestSplit(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"plain":             {"select 1; select 2", []string{"select 1;", "select 2"}},
		"nothing":           {" ; -- x\n /* y ; */ ;", nil},
		"quotes":            {`select ';''; ' ; select "a;""b"`, []string{`select ';''; ' ;`, `select "a;""b"`}},
		"escapes":           {`select E'\';' ; select '\'; select e'a''\';'`, []string{`select E'\';' ;`, `select '\';`, `select e'a''\';'`}},
		"type is no E":      {`select date'\'; x`, []string{`select date'\';`, "x"}},
		"dollars":           {"do $$ a; $b$ c; $$; select $1; select $x$;$y$;$x$", []string{"do $$ a; $b$ c; $$;", "select $1;", "select $x$;$y$;$x$"}},
		"no dollars":        {"select a$b$; select c$b$", []string{"select a$b$;", "select c$b$"}},
		"comments":          {"a -- ;\n; b /* ; /* ; */ ; */; c", []string{"a -- ;\n;", "b /* ; /* ; */ ; */;", "c"}},
		"brackets":          {"create rule r as on insert to t do (a; b); c", []string{"create rule r as on insert to t do (a; b);", "c"}},
		"atomic":            {"create or replace function f() returns int begin atomic select 1; select case when true then 2 end; end; select 3", []string{"create or replace function f() returns int begin atomic select 1; select case when true then 2 end; end;", "select 3"}},
		"begin elsewhere":   {"create table t (a int); select 1", []string{"create table t (a int);", "select 1"}},
		"umlauts":           {"select 'ä;ö'; select ü", []string{"select 'ä;ö';", "select ü"}},
		"wrapped":           {"BEGIN;\ncreate table t ();\nCOMMIT;\n", []string{"create table t ();"}},
		"goose":             {"-- +goose Up\na;\n-- +goose StatementBegin\nb; c\n-- +goose StatementEnd\nd;\n-- +goose Down\ndrop;\n", []string{"a;", "b; c", "d;"}},
		"goose, down first": {"-- +goose Down\ndrop;\n-- +goose Up\na;", []string{"a;"}},
		"dbmate":            {"-- migrate:up\na;\n\n-- migrate:down\ndrop;", []string{"a;"}},
		"drizzle":           {"a;\n--> statement-breakpoint\nb;", []string{"a;", "b;"}},
		"byte order mark":   {"\ufeffselect 1", []string{"select 1"}},
	} {
		if got := pieces(t, c.text); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

func TestAnnotations(t *testing.T) {
	for text, alone := range map[string]bool{
		"-- +goose NO TRANSACTION\n-- +goose Up\na;":             true,
		"-- migrate:up transaction:false\na;":                    true,
		"-- migrate:up\na;\n-- migrate:down transaction:false\n": false,
		"-- atlas:txmode none\n\na;":                             true,
		"-- lotse:no-transaction\na;":                            true,
		"a; -- lotse:no-transaction is not here":                 false,
	} {
		if s, err := parse("1.sql", []byte(text)); err != nil || s.alone != alone {
			t.Errorf("%q: alone %v, %v", text, s.alone, err)
		}
	}
}

// What is rolled back by hand, moved, or ends its lines otherwise is the same migration; what runs is not.
func TestChecksum(t *testing.T) {
	sum := func(text string) string {
		s, err := parse("1.sql", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return s.sum
	}
	first := sum("-- +goose Up\na;\n-- +goose Down\nb;\n")
	if sum("-- +goose Up\r\na;\r\n-- +goose Down\r\nc;\r\n") != first {
		t.Error("another way down, or another end of lines, is another migration")
	}
	if sum("-- +goose Up\nb;\n-- +goose Down\nb;\n") == first {
		t.Error("another statement is the same migration")
	}
}

func TestFolder(t *testing.T) {
	folder := fstest.MapFS{}
	for _, name := range []string{"0010_c.sql", "9_b.up.sql", "9_b.down.sql", "20260102030405_d.sql", "1.sql", "atlas.sum", "README.md", "old/0001_x.sql", "30_prisma/migration.sql"} {
		folder["db/"+name] = &fstest.MapFile{Data: []byte("select 1;")}
	}
	all, err := read(folder, "db/")
	var names []string
	for _, f := range all {
		names = append(names, f.name)
	}
	if want := []string{"1.sql", "9_b.up.sql", "0010_c.sql", "30_prisma/migration.sql", "20260102030405_d.sql"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v; want %q", names, err, want)
	}
}

// What cannot be right is refused before a database is asked, with the place and what to do.
func TestRefusedFiles(t *testing.T) {
	for name, c := range map[string]struct {
		file, text, says string
		hint             bool
	}{
		"no number":       {"init.sql", "a;", "m/init.sql", true},
		"same number":     {"01_b.sql", "a;", "m/01_b.sql", true},
		"a program":       {"0002_x.go", "package x", "m/0002_x.go", true},
		"commit inside":   {"2.sql", "a;\ncommit;\nb;", "m/2.sql:2:1", true},
		"rollback":        {"2.sql", "begin;\na;\nrollback;", "m/2.sql:1:1", true},
		"psql":            {"2.sql", "a;\n\\connect x\n", "m/2.sql:2:1", true},
		"copy":            {"2.sql", "a;\n  COPY t (a) FROM stdin;\n1\n\\.\n", "m/2.sql:2:3", true},
		"not UTF-8":       {"2.sql", "\xff", "m/2.sql", false},
		"zero":            {"2.sql", "a\x00", "m/2.sql", false},
		"open block":      {"2.sql", "-- +goose Up\n-- +goose StatementBegin\na;", "m/2.sql:3:1", false},
		"only down":       {"2.sql", "-- +goose Down\na;", "m/2.sql", true},
		"unknown":         {"2.sql", "-- +goose Up\n-- +goose ENVSUB ON\n", "m/2.sql:2:1", false},
		"number too long": {"99999999999999999999_x.sql", "a;", "too long", false},
	} {
		folder := fstest.MapFS{"m/1_a.sql": {Data: []byte("a;")}, "m/" + c.file: {Data: []byte(c.text)}}
		_, err := read(folder, "m")
		if !errors.Is(err, deploy.ErrMigration) || !strings.Contains(err.Error(), c.says) || (deploy.HintOf(err) != "") != c.hint {
			t.Errorf("%s: %v (%s)", name, err, deploy.HintOf(err))
		}
	}
	if _, err := read(fstest.MapFS{}, "m"); !errors.Is(err, deploy.ErrMigration) || deploy.HintOf(err) == "" {
		t.Errorf("no folder: %v", err)
	}
	for _, text := range []string{"savepoint a;\nrollback to a;", "rollback to savepoint a;", "release a;", "set transaction read only;"} {
		if _, err := parse("1.sql", []byte(text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-- +goose Up\nselect $$;$$; /* */ 'a''b' E'\\'' \"x\" ((;")
	f.Add("begin; create function f() begin atomic case end; end; commit")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parse("1.sql", []byte(text))
		if err != nil {
			return
		}
		if len(s.text) != len([]rune(text)) {
			t.Fatal("positions have moved")
		}
		last := 0
		for _, p := range s.statements {
			if p.from < last || p.to <= p.from || p.to > len(s.text) {
				t.Fatalf("statements overlap: %v", s.statements)
			}
			last = p.to
		}
	})
}

package snapshot

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// looked is Look on a database of the cluster, as its administrator sees it.
func looked(t *testing.T, name string, depth Depth) deploy.Look {
	t.Helper()
	l, err := Look(bounded(t), secret.New(theCluster(t).Admin(name)), depth)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A copy that the disk has taken between two looks is what it was, whatever was written meanwhile; and what is not in it, or was not
// there, is named. The copy is one of PostgreSQL's own, file by file, as a platform's is.
func TestLooksAroundACopy(t *testing.T) {
	t.Parallel()
	name, url := database(t)
	cluster := theCluster(t)
	in := func(name, sql string) { execute(t, cluster.Admin(name), sql) }
	in(name, market)
	in(name, "create unlogged table gone_after_a_crash (a int);\ninsert into gone_after_a_crash values (1);\ncreate table bulk (a int);\ninsert into bulk select generate_series(1, 100)")
	before := looked(t, name, LookCount)
	if before.Rows() != 500+500+4+3+100 || len(before.Tables) != 6 || before.Tables[0].Name != `public."Odd name"` {
		t.Fatalf("%+v", before)
	}
	if own, err := Look(bounded(t), url, LookRead); err != nil || own.Schema != before.Schema { // whoever asks
		t.Errorf("as the app's own role: %v, %+v", err, own)
	}
	in(name, "insert into twins values (7, 'before the copy');\ndelete from twins where a = 2;\ntruncate bulk")
	in("postgres", fmt.Sprintf("create database %s_copy template %s", name, name))
	in(name, "insert into twins select 8, 'after the copy' from generate_series(1, 3)")
	around := deploy.Around{Before: before, After: looked(t, name, LookShallow)}
	if exact, all := around.Exact(); exact != 4 || all != 6 {
		t.Errorf("%d of %d exactly", exact, all)
	}
	copied := name + "_copy"
	if wrong := around.Differences(looked(t, copied, LookRead)); len(wrong) > 0 {
		t.Errorf("the copy as it is: %v", wrong)
	}
	for _, c := range []struct{ sql, undo, says string }{
		{"delete from orders where cents = 3", "insert into orders (person, cents) values (1, 3)", "table public.orders has 499 rows, and had 500"},
		{"insert into nothing values (1)", "delete from nothing", "table public.nothing has 1 rows, and had 0"},
		{"delete from twins where a = 1 or a is null", "insert into twins values (1, ''), (1, ''), (null, '')", "table public.twins has 1 rows, and had 3 to 8"},
		{"drop index orders_person_state_idx", "create index on orders (person, state)", "the schema is not the one that was there"},
		{"drop policy own on people", "create policy own on people using (email = current_user)", "the schema is not the one that was there"},
		{"alter table people disable row level security", "alter table people enable row level security", "the schema is not the one that was there"},
		{"alter table nothing rename to something", "alter table something rename to nothing", "table public.nothing is missing"},
		{"create or replace function touch() returns trigger language plpgsql as $$begin return null; end$$",
			"create or replace function touch() returns trigger language plpgsql as $$begin new.seen = now(); return new; end$$", "the schema is not the one that was there"},
	} {
		in(copied, c.sql)
		if wrong := strings.Join(around.Differences(looked(t, copied, LookRead)), "; "); !strings.Contains(wrong, c.says) {
			t.Errorf("%s: %q", c.sql, wrong)
		}
		in(copied, c.undo)
		if wrong := around.Differences(looked(t, copied, LookRead)); len(wrong) > 0 {
			t.Errorf("after %s: %v", c.undo, wrong)
		}
	}
}

// What cannot be asked is an error that repeats nothing of the address.
func TestLooksThatFail(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]error{"not an address": deploy.ErrBadInput, "postgres://shop:hunter2-correct@127.0.0.1:1/app": deploy.ErrUnavailable} {
		if _, err := Look(bounded(t), secret.New(address), LookCount); !errors.Is(err, want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
	if _, err := Look(bounded(t), secret.New("postgres://127.0.0.1:1/app"), "deep"); !errors.Is(err, deploy.ErrBadInput) {
		t.Error(err)
	}
}

package pipeline_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// What lies between two commits is told in the words of their messages, in both directions.
func TestCommits(t *testing.T) {
	b := newBench(t)
	say := func(message string) string {
		b.repo.git("commit", "-q", "--allow-empty", "-m", message)
		return b.repo.git("rev-parse", "HEAD")
	}
	base := say("base")
	say("one\n\nHotfix: yes\nReviewed-by: nobody")
	two := say("two")
	b.repo.git("checkout", "-q", "-b", "side", base)
	side := say("side")
	between := func(of, before string) deploy.Span {
		t.Helper()
		c, err := b.Resolve(t.Context(), b.repo.dir, of)
		if err != nil {
			t.Fatal(err)
		}
		span, err := b.Commits(t.Context(), c, before)
		if err != nil {
			t.Fatal(err)
		}
		return span
	}
	subjects := func(all []deploy.Commit) string {
		var names []string
		for _, c := range all {
			names = append(names, c.Subject)
		}
		return strings.Join(names, " ")
	}
	for _, c := range []struct{ of, before, added, gone string }{
		{two, base, "two one", ""}, {base, two, "", "two one"}, {two, two, "", ""}, {side, two, "side", "two one"},
	} {
		span := between(c.of, c.before)
		if subjects(span.New) != c.added || subjects(span.Gone) != c.gone || span.Unknown {
			t.Errorf("from %.8s to %.8s is %+v", c.before, c.of, span)
		}
	}
	if one := between(two, base).New[1]; one.Message != "one\n\nHotfix: yes\nReviewed-by: nobody" || one.Name != "A" || one.Mail != "a@example.org" || one.At.Unix() != 1700000000 {
		t.Errorf("the commit is %+v", one)
	}
	if span := between(two, strings.Repeat("0", 40)); !span.Unknown || span.Why == "" || strings.Contains(span.Why, b.repo.dir) {
		t.Errorf("what is not there is %+v", span)
	}
}

func TestNames(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"db/2.sql": "", "db/1.sql": "", "dbx/3.sql": "", "a": ""})
	c, err := b.Resolve(t.Context(), b.repo.dir, "HEAD")
	if err != nil {
		t.Fatal(err)
	}
	for folder, want := range map[string][]string{"db": {"db/1.sql", "db/2.sql"}, "none": nil} {
		if got, err := b.Names(t.Context(), c, folder); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s holds %v, %v", folder, got, err)
		}
	}
}

package ledger_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/ledger"
)

// open opens the ledger at path, or a new one where path is empty, and closes it with the test.
func open(t testing.TB, path string, now func() time.Time) *ledger.Ledger {
	t.Helper()
	if path == "" {
		path = filepath.Join(t.TempDir(), "ledger.db")
	}
	l, err := ledger.Open(t.Context(), path, ledger.Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func mustAppend(t testing.TB, l *ledger.Ledger, e deploy.Event) deploy.Event {
	t.Helper()
	e, err := l.Append(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// fill appends n events that use every field.
func fill(t testing.TB, l *ledger.Ledger, n int) (events []deploy.Event) {
	t.Helper()
	for i := range n {
		events = append(events, mustAppend(t, l, deploy.Event{
			Kind: []string{"rollout.begun", "step.done", "rollout.ended"}[i%3], App: "shop", Stage: []string{"dev", "prod"}[i%2],
			Rollout: fmt.Sprintf("r%d", i/3), Release: deploy.Digest("sha256:" + strings.Repeat("ab", 32)), Actor: "p-1234",
			Data: json.RawMessage(fmt.Sprintf(`{"step": "shift", "share": %d}`, i)),
		}))
	}
	return events
}

func allEvents(t testing.TB, l *ledger.Ledger) []deploy.Event {
	t.Helper()
	events, err := l.Events(t.Context(), deploy.EventQuery{})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

func TestEventsComeBackAsTheyWereAppended(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deeper", "a b?c#d%41.db") // a name that would break a careless URL
	l := open(t, path, nil)
	want := fill(t, l, 7)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, path, nil)
	if got := allEvents(t, l); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	for i, e := range want {
		if e.Seq != int64(i+1) || e.At.Location() != time.UTC || len(e.Hash) != 64 {
			t.Errorf("event %d: seq %d, at %v, hash %q", i, e.Seq, e.At, e.Hash)
		}
	}
	if next := mustAppend(t, l, deploy.Event{Kind: "k"}); next.Seq != 8 {
		t.Errorf("the first event after opening again has seq %d, want 8", next.Seq)
	}
	if err := l.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestEventQueries(t *testing.T) {
	l := open(t, "", nil)
	fill(t, l, 9) // stages dev, prod in turn; rollouts r0 (1-3), r1 (4-6), r2 (7-9)
	mustAppend(t, l, deploy.Event{Kind: "other", App: "blog", Stage: "dev"})
	for _, c := range []struct {
		name string
		q    deploy.EventQuery
		want []int64
	}{
		{"all", deploy.EventQuery{}, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}},
		{"after", deploy.EventQuery{After: 8}, []int64{9, 10}},
		{"after the end", deploy.EventQuery{After: 10}, nil},
		{"app", deploy.EventQuery{App: "blog"}, []int64{10}},
		{"stage", deploy.EventQuery{App: "shop", Stage: "prod"}, []int64{2, 4, 6, 8}},
		{"rollout", deploy.EventQuery{Rollout: "r1"}, []int64{4, 5, 6}},
		{"kinds", deploy.EventQuery{Kinds: []string{"rollout.begun", "other"}}, []int64{1, 4, 7, 10}},
		{"last", deploy.EventQuery{Last: 2}, []int64{9, 10}},
		{"last of a kind after one", deploy.EventQuery{After: 1, Kinds: []string{"rollout.begun"}, Last: 5}, []int64{4, 7}},
		{"quotes are no SQL", deploy.EventQuery{App: "' OR 1=1 --"}, nil},
	} {
		events, err := l.Events(t.Context(), c.q)
		if err != nil {
			t.Fatal(c.name, err)
		}
		var got []int64
		for _, e := range events {
			got = append(got, e.Seq)
		}
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestAppendRefusesWhatJSONWouldNotGiveBack(t *testing.T) {
	l := open(t, "", nil)
	for name, e := range map[string]deploy.Event{
		"no kind":         {},
		"not UTF-8":       {Kind: "k", App: "a\xff"},
		"control":         {Kind: "k", Actor: "a\x00b"},
		"not JSON":        {Kind: "k", Data: json.RawMessage(`{"a":`)},
		"JSON, not UTF-8": {Kind: "k", Data: json.RawMessage("\"\xff\"")},
	} {
		if _, err := l.Append(t.Context(), e); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("%s: %v, want ErrBadInput", name, err)
		}
	}
	if got := allEvents(t, l); len(got) != 0 {
		t.Errorf("%d events were appended", len(got))
	}
}

func TestWaitHearsOfAppends(t *testing.T) {
	l := open(t, "", nil)
	mustAppend(t, l, deploy.Event{Kind: "k"})
	if err := second(l.Wait(t.Context(), 0)); err != nil {
		t.Errorf("Wait for an event that is there: %v", err)
	}
	heard := make(chan error, 3)
	for range 2 {
		go func() { heard <- second(l.Wait(t.Context(), 1)) }()
	}
	cancelled, cancel := context.WithCancel(t.Context())
	go func() { heard <- second(l.Wait(cancelled, 5)) }()
	cancel()
	if err := <-heard; !errors.Is(err, context.Canceled) {
		t.Errorf("the first to return said %v, want the cancelled one", err)
	}
	mustAppend(t, l, deploy.Event{Kind: "k"})
	for range 2 {
		if err := <-heard; err != nil {
			t.Error(err)
		}
	}
	go func() { heard <- second(l.Wait(t.Context(), 2)) }()
	l.Close()
	if err := <-heard; !errors.Is(err, deploy.ErrUnavailable) {
		t.Errorf("Wait on a closed ledger: %v, want ErrUnavailable", err)
	}
	if _, err := l.Append(t.Context(), deploy.Event{Kind: "k"}); !errors.Is(err, deploy.ErrUnavailable) {
		t.Errorf("Append on a closed ledger: %v, want ErrUnavailable", err)
	}
}

func TestCancelledAppendChangesNothing(t *testing.T) {
	l := open(t, "", nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Append(ctx, deploy.Event{Kind: "k"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if got := allEvents(t, l); len(got) != 0 {
		t.Errorf("%d events", len(got))
	}
}

// A context that ends in the middle does not leave the caller in doubt: what began is finished, and said so.
func TestCancelInTheMiddleOfAnAppend(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l := open(t, "", func() time.Time { cancel(); return time.Now() }) // the clock is read inside the transaction
	if e, err := l.Append(ctx, deploy.Event{Kind: "k"}); err != nil || e.Seq != 1 {
		t.Errorf("got %v, %v", e, err)
	}
	if got := allEvents(t, l); len(got) != 1 {
		t.Errorf("%d events", len(got))
	}
}

// Ten goroutines append, ask, lease and wait at once; afterwards the chain has every event once.
func TestTenCallersAtOnce(t *testing.T) {
	const callers, each = 10, 20
	l := open(t, "", nil)
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			name := fmt.Sprintf("caller%d", caller)
			stage := deploy.StageRef{App: "shop", Stage: fmt.Sprint(caller % 3)}
			for i := range each {
				e, err := l.Append(t.Context(), deploy.Event{Kind: "k", Rollout: name, Data: json.RawMessage(fmt.Sprint(i))})
				if err != nil {
					t.Error(err)
					return
				}
				if err := second(l.Wait(t.Context(), e.Seq-1)); err != nil {
					t.Error(err)
				}
				mine, err := l.Events(t.Context(), deploy.EventQuery{Rollout: name, Last: 1})
				if err != nil || len(mine) != 1 || mine[0].Hash != e.Hash {
					t.Errorf("what was appended is not the last of %s: %v, %v", name, mine, err)
				}
				lease, err := l.Acquire(t.Context(), stage, name, time.Minute, nil)
				if err == nil {
					err = l.Release(t.Context(), lease)
				}
				if err != nil && !errors.Is(err, deploy.ErrBusy) {
					t.Error(err)
				}
				if _, err := l.Person(t.Context(), name, fmt.Sprintf("%d@example.org", caller%4)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if events := allEvents(t, l); len(events) != callers*each {
		t.Errorf("%d events, want %d", len(events), callers*each)
	}
	if err := l.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if people, err := l.People(t.Context()); err != nil || len(people) != 4 {
		t.Errorf("%d people, want 4; %v", len(people), err)
	}
}

func TestReadOnlyBesideAWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path, nil)
	fill(t, l, 3)
	r, err := ledger.OpenReadOnly(t.Context(), path, ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	mustAppend(t, l, deploy.Event{Kind: "later"})
	if err := r.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if got := allEvents(t, r); len(got) != 4 {
		t.Errorf("the reader sees %d events, want 4", len(got))
	}
	stage := deploy.StageRef{App: "a", Stage: "s"}
	for name, err := range map[string]error{
		"Append":  second(r.Append(t.Context(), deploy.Event{Kind: "k"})),
		"Acquire": second(r.Acquire(t.Context(), stage, "o", time.Second, nil)),
		"Person":  second(r.Person(t.Context(), "n", "m")),
		"Forget":  r.Forget(t.Context(), "p"),
		"Wait":    second(r.Wait(t.Context(), 99)),
	} {
		if !errors.Is(err, deploy.ErrUnsupported) {
			t.Errorf("%s: %v, want ErrUnsupported", name, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestReadOnlyChangesNothingOnDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ledger.db")
	if _, err := ledger.OpenReadOnly(t.Context(), path, ledger.Config{}); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("reading where there is nothing: %v, want ErrNotFound", err)
	}
	l := open(t, path, nil)
	fill(t, l, 3)
	l.Close()
	before := filesIn(t, dir)
	r, err := ledger.OpenReadOnly(t.Context(), path, ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Verify(t.Context()), r.Close()); err != nil {
		t.Error(err)
	}
	after := filesIn(t, dir)
	delete(after, "ledger.db-shm") // empty bookkeeping of SQLite's readers
	delete(after, "ledger.db-wal")
	if !reflect.DeepEqual(before, after) {
		t.Error("reading changed a file")
	}
}

// Somebody who may read but not write the folder, after the controller ended.
func TestReadOnlyInAFolderThatMayNotBeWritten(t *testing.T) {
	if os.Getuid() == 0 {
		t.Skip("root may write everywhere: NOT PROVEN here that a ledger is read in a folder that may not be written")
	}
	path := filepath.Join(t.TempDir(), "d", "ledger.db")
	l := open(t, path, nil)
	fill(t, l, 3)
	l.Close()
	if err := os.Chmod(filepath.Dir(path), 0o500); err != nil {
		t.Fatal(err)
	}
	defer os.Chmod(filepath.Dir(path), 0o700)
	r, err := ledger.OpenReadOnly(t.Context(), path, ledger.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.Verify(t.Context()); err != nil || len(allEvents(t, r)) != 3 {
		t.Errorf("%v, %d events", err, len(allEvents(t, r)))
	}
}

func filesIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

// The file holds names and addresses: it is for its owner alone.
func TestFilesAreForTheirOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d", "ledger.db")
	l := open(t, path, nil)
	mustAppend(t, l, deploy.Event{Kind: "k"})
	matches, err := filepath.Glob(filepath.Dir(path) + "*/*")
	if err != nil || len(matches) < 4 {
		t.Fatalf("only %v; %v", matches, err)
	}
	for _, m := range append(matches, filepath.Dir(path)) {
		info, err := os.Stat(m)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", filepath.Base(m), info.Mode())
		}
	}
}

// rawDB opens the file behind the ledger's back.
func rawDB(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=synchronous(OFF)&_pragma=busy_timeout(5000)")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	return db
}

func BenchmarkAppend(b *testing.B) {
	l := open(b, "", nil)
	for b.Loop() {
		if _, err := l.Append(b.Context(), deploy.Event{Kind: "step.done", App: "shop", Stage: "dev", Rollout: "r1",
			Data: json.RawMessage(`{"step":"shift","share":100}`)}); err != nil {
			b.Fatal(err)
		}
	}
}

package ledger_test

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/ledger"
)

func opened(t *testing.T, cfg ledger.Config) *ledger.Ledger {
	t.Helper()
	l, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func allOf(t *testing.T, l *ledger.Ledger) []deploy.Event {
	t.Helper()
	events, err := l.Events(t.Context(), deploy.EventQuery{})
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// What is imported is, event by event and hash by hash, what was appended elsewhere, also after it went through JSON; and it wakes who waits.
func TestImportIsVerbatim(t *testing.T) {
	one, two := opened(t, ledger.Config{}), opened(t, ledger.Config{})
	for _, e := range []deploy.Event{{Kind: "requested", App: "shop", Stage: "dev", Actor: "p-1", Data: json.RawMessage(`{"a": "<&>\u2028", "b": [1, 2]}`)}, {Kind: "settled", Rollout: "r"}, {Kind: "x"}} {
		draft, err := one.Draft(t.Context(), e)
		if err != nil || len(allOf(t, one)) != int(draft.Seq)-1 {
			t.Fatalf("the draft is %+v, %v", draft, err)
		}
		if err := one.Import(t.Context(), []deploy.Event{draft}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := one.Append(t.Context(), deploy.Event{Kind: "appended"}); err != nil {
		t.Fatal(err)
	}
	var carried []deploy.Event
	data, err := json.Marshal(allOf(t, one))
	if err == nil {
		err = json.Unmarshal(data, &carried)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := two.Import(t.Context(), carried[:1]); err != nil {
		t.Fatal(err)
	}
	if err := two.Import(t.Context(), carried[1:]); err != nil {
		t.Fatal(err)
	}
	if newest, err := two.Wait(t.Context(), 3); err != nil || newest != 4 {
		t.Errorf("who waits hears of %d, %v", newest, err)
	}
	if diff := cmp.Diff(allOf(t, one), allOf(t, two)); diff != "" {
		t.Error(diff)
	}
	for _, l := range []*ledger.Ledger{one, two} {
		if err := l.Verify(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// What does not follow is refused whole, and named.
func TestImportRefuses(t *testing.T) {
	source := opened(t, ledger.Config{})
	for range 4 {
		if _, err := source.Append(t.Context(), deploy.Event{Kind: "x", Data: json.RawMessage(`{"n":1}`)}); err != nil {
			t.Fatal(err)
		}
	}
	good := allOf(t, source)
	change := func(i int, by func(*deploy.Event)) []deploy.Event {
		bad := append([]deploy.Event(nil), good...)
		by(&bad[i])
		return bad
	}
	for name, events := range map[string][]deploy.Event{
		"data":      change(2, func(e *deploy.Event) { e.Data = json.RawMessage(`{"n":2}`) }),
		"time":      change(2, func(e *deploy.Event) { e.At = e.At.Add(time.Nanosecond) }),
		"hash":      change(2, func(e *deploy.Event) { e.Hash = strings.Repeat("0", 64) }),
		"left out":  append(append([]deploy.Event(nil), good[:2]...), good[3]),
		"twice":     append(append([]deploy.Event(nil), good[:3]...), good[2]),
		"not first": good[1:],
	} {
		l := opened(t, ledger.Config{})
		var damage *ledger.Damage
		if err := l.Import(t.Context(), events); !errors.As(err, &damage) || !errors.Is(err, deploy.ErrDamaged) || damage.Seq < 2 || deploy.HintOf(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
		if left := allOf(t, l); len(left) != 0 {
			t.Errorf("%s: %d events were taken over", name, len(left))
		}
		if err := l.Import(t.Context(), good); err != nil {
			t.Errorf("%s: and then the good ones: %v", name, err)
		}
	}
}

// Ids of people are those of PersonID where it has one, also when somebody comes again who was forgotten.
func TestPersonID(t *testing.T) {
	l := opened(t, ledger.Config{PersonID: func(mailbox string) string {
		if strings.HasPrefix(mailbox, "name:") {
			return ""
		}
		return "p-of-" + strings.ToLower(mailbox)
	}})
	id := func(name, mail string) string {
		t.Helper()
		id, err := l.Person(t.Context(), name, mail)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := id("Ada", "Ada@example.org")
	if first != "p-of-mail:ada@example.org" || id("Ada L", "ada@EXAMPLE.org") != first {
		t.Errorf("the id is %q", first)
	}
	if random := id("Ada", ""); !strings.HasPrefix(random, "p-") || random == first || len(random) != 18 {
		t.Errorf("without an address the id is %q", random)
	}
	if err := l.Forget(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if again := id("Ada", "ada@example.org"); again != first {
		t.Errorf("who comes again is %q", again)
	}
	if p, err := l.Lookup(t.Context(), first); err != nil || p.Name != "Ada" || !p.Forgotten.IsZero() {
		t.Errorf("she is %+v, %v", p, err)
	}
}

package ledger_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/ledger"
)

func mustPerson(t *testing.T, l *ledger.Ledger, name, mail string) string {
	t.Helper()
	id, err := l.Person(t.Context(), name, mail)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestPersonIsStablePerMail(t *testing.T) {
	l := open(t, "", nil)
	ada := mustPerson(t, l, "Ada", "ada@example.org")
	for _, c := range []struct {
		name, mail string
		same       bool
	}{
		{"Ada", "ada@example.org", true},
		{"Ada Lovelace", " ADA@Example.ORG ", true},
		{"", "ada@example.org", true},
		{"Ada", "ada@example.com", false},
		{"Ada", "", false},
		{"", "Ada", false},
	} {
		if same := mustPerson(t, l, c.name, c.mail) == ada; same != c.same {
			t.Errorf("%q <%s> is the same person: %v, want %v", c.name, c.mail, same, c.same)
		}
	}
	if p, err := l.Lookup(t.Context(), ada); err != nil || p.Name != "Ada Lovelace" || p.Mail != "ada@example.org" {
		t.Errorf("got %q <%s>, %v, want the name given last", p.Name, p.Mail, err)
	}
	if mustPerson(t, l, "ÄSOP", "") != mustPerson(t, l, "äsop", "") || mustPerson(t, l, "Straße", "") == mustPerson(t, l, "Strasse", "") {
		t.Error("names are not folded as strings.EqualFold does")
	}
	for _, mail := range []string{"", strings.Repeat("a", 3000)} {
		if _, err := l.Person(t.Context(), " ", mail); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("%.10q: %v, want ErrBadInput", mail, err)
		}
	}
	if _, err := l.Lookup(t.Context(), "p-nobody"); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("an unknown id: %v, want ErrNotFound", err)
	}
}

// Ids of two ledgers differ for the same person, so nothing was computed from the address.
func TestPersonIDSaysNothing(t *testing.T) {
	a, b := open(t, "", nil), open(t, "", nil)
	if mustPerson(t, a, "Ada", "ada@example.org") == mustPerson(t, b, "Ada", "ada@example.org") {
		t.Error("two ledgers gave the same id")
	}
}

// After Forget no byte of the name or the address is in any file, the chain is whole, and the id is never given again.
func TestForgetErasesTheBytes(t *testing.T) {
	c := newClock()
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path, c.Now)
	const name, mail = "Augusta Byron", "Augusta.Byron@example.org"
	others := mustPerson(t, l, "Other", "other@example.org")
	id := mustPerson(t, l, "Augusta", mail)
	mustPerson(t, l, name, mail)
	mustAppend(t, l, deploy.Event{Kind: "k", Actor: id})
	if !anyFileHolds(t, path, "Byron") {
		t.Fatal("the name was not on the disk before, so this test would prove nothing")
	}
	for range 2 {
		if err := l.Forget(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	for _, rest := range []string{"Augusta", "Byron", "augusta.byron", "AUGUSTA.BYRON"} {
		if anyFileHolds(t, path, rest) {
			t.Errorf("%q is still on the disk", rest)
		}
	}
	p, err := l.Lookup(t.Context(), id)
	if err != nil || p.Name != "" || p.Mail != "" || !p.Forgotten.Equal(c.Now()) {
		t.Errorf("got %q <%s> forgotten %v, %v", p.Name, p.Mail, p.Forgotten, err)
	}
	if err := l.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	if again := mustPerson(t, l, name, mail); again == id {
		t.Error("the person got the id again that was forgotten")
	}
	if p, err := l.Lookup(t.Context(), others); err != nil || p.Name != "Other" {
		t.Errorf("another person: %q, %v", p.Name, err)
	}
	if err := l.Forget(t.Context(), "p-nobody"); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("forgetting an unknown id: %v, want ErrNotFound", err)
	}
}

func anyFileHolds(t *testing.T, path, text string) bool {
	t.Helper()
	for _, data := range filesIn(t, filepath.Dir(path)) {
		if strings.Contains(data, text) {
			return true
		}
	}
	return false
}

// A reader in the middle of a read keeps old pages alive; Forget says so instead of claiming what is not so.
func TestForgetSaysWhenOldBytesStay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	l := open(t, path, nil)
	id := mustPerson(t, l, "Ada", "ada@example.org")
	reader, err := rawDB(t, path).Begin()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := reader.QueryRow("SELECT count(*) FROM people").Scan(&n); err != nil {
		t.Fatal(err)
	}
	if err := l.Forget(t.Context(), id); !errors.Is(err, deploy.ErrUnavailable) || deploy.HintOf(err) == "" {
		t.Errorf("Forget beside a reader: %v, want ErrUnavailable with a hint", err)
	}
	if p, err := l.Lookup(t.Context(), id); err != nil || p.Name != "" {
		t.Errorf("the name is still shown: %v, %v", p, err)
	}
	if err := reader.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := l.Forget(t.Context(), id); err != nil {
		t.Error(err)
	}
	if anyFileHolds(t, path, "ada@") {
		t.Error("the address is still on the disk")
	}
}

func TestPrintingAPersonShowsTheIDOnly(t *testing.T) {
	p := ledger.Person{ID: "p-1", Name: "Ada", Mail: "ada@example.org"}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "p", p)
	printed := fmt.Sprintf("%v %+v %#v %s %q", p, p, p, p, []ledger.Person{p}) + log.String()
	if strings.Contains(strings.ToLower(printed), "ada") || !strings.Contains(printed, "p-1") {
		t.Error(printed)
	}
}

func TestPlaceNeedsAPath(t *testing.T) {
	l := open(t, "", nil)
	for _, path := range []string{"", "/srv/\xff"} {
		if _, err := l.Place(t.Context(), path); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("%q: %v, want ErrBadInput", path, err)
		}
	}
}

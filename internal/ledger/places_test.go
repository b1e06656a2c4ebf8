package ledger_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func TestPlacesStandBesideTheEvents(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "l.db"), time.Now)
	ctx := t.Context()
	a, errA := l.Place(ctx, "/home/somebody/app")
	again, errAgain := l.Place(ctx, "/home/somebody/app")
	b, errB := l.Place(ctx, "/srv/app")
	if err := errors.Join(errA, errAgain, errB); err != nil {
		t.Fatal(err)
	}
	if a != again || a == b {
		t.Errorf("ids are %s, %s for one path and %s for another", a, again, b)
	}
	if path, err := l.PathOf(ctx, a); err != nil || path != "/home/somebody/app" {
		t.Errorf("PathOf = %q, %v", path, err)
	}
	if _, err := l.PathOf(ctx, "w-never"); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("an unknown id is %v, want ErrNotFound", err)
	}
}

func TestNamesOfPeople(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "l.db"), time.Now)
	ctx := t.Context()
	ada, err := l.Person(ctx, "Ada", "ada@example.org")
	if err != nil {
		t.Fatal(err)
	}
	gone, err := l.Person(ctx, "Bert", "bert@example.org")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Forget(ctx, gone); err != nil {
		t.Fatal(err)
	}
	if names := l.Names(ctx, []string{ada, gone, "p-never"}); len(names) != 1 || names[ada] != "Ada" {
		t.Errorf("Names = %v; want Ada alone", names)
	}
}

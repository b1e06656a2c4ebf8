package password

import (
	"context"
	"strings"
	"testing"
)

func TestMatches(t *testing.T) {
	k, ctx := NewKeeper(1), context.Background()
	hash, err := k.Hash(ctx, "immer der Nase nach")
	if err != nil {
		t.Fatal(err)
	}
	again, err := k.Hash(ctx, "immer der Nase nach")
	if err != nil || again == hash || strings.Contains(hash, "Nase") {
		t.Errorf("%q and %q, %v: no salt?", hash, again, err)
	}
	for _, c := range []struct {
		password, hash string
		want           bool
	}{
		{"immer der Nase nach", hash, true},
		{"immer der Nase nach", again, true},
		{"immer der Nase nach ", hash, false},
		{"", hash, false},
		{"immer der Nase nach", "", false},
		{"", "", false},
	} {
		if got, err := k.Matches(ctx, c.password, c.hash); got != c.want || err != nil {
			t.Errorf("Matches(%q, %q) = %v, %v", c.password, c.hash, got, err)
		}
	}
	if _, err := k.Matches(ctx, "x", "$argon2id$v=19$m=1,t=1,p=1$a$b"); err == nil {
		t.Error("took a hash of another form")
	}
}

func TestWaitingInLineCanBeGivenUp(t *testing.T) {
	k := NewKeeper(1)
	k.turns <- struct{}{}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := k.Hash(ctx, "x"); err != context.Canceled {
		t.Errorf("got %v", err)
	}
}

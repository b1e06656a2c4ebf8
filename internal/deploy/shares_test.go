package deploy_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func TestShares(t *testing.T) {
	type m = map[string]int
	cases := []struct {
		name  string
		now   m
		last  string
		share int
		want  m // nil: ErrUnsupported
	}{
		{"the first release", m{}, "", 100, m{"new": 100}},
		{"the first release with a part", m{}, "", 5, nil},
		{"beside the old", m{"old": 100}, "", 5, m{"new": 5, "old": 95}},
		{"all of it", m{"new": 25, "old": 75}, "", 100, m{"new": 100}},
		{"again", m{"new": 5, "old": 95}, "", 5, m{"new": 5, "old": 95}},
		{"back", m{"new": 25, "old": 75}, "", 0, m{"new": 0, "old": 100}},
		{"back from all", m{"new": 100}, "old", 0, m{"new": 0, "old": 100}},
		{"partly back from all", m{"new": 100}, "old", 40, m{"new": 40, "old": 60}},
		{"nothing at all", m{"new": 100}, "", 0, m{"new": 0}},
		{"three, by the largest remainder", m{"a": 95, "b": 5}, "", 10, m{"new": 10, "a": 86, "b": 4}},
		{"too much", m{"old": 100}, "", 101, nil},
		{"too little", m{"old": 100}, "", -1, nil},
	}
	for _, c := range cases {
		got, err := deploy.Shares(c.now, c.last, "new", c.share)
		if diff := cmp.Diff(c.want, got); diff != "" || errors.Is(err, deploy.ErrUnsupported) != (c.want == nil) {
			t.Errorf("%s: %v (-want +got)\n%s", c.name, err, diff)
		}
	}
}

// Whatever was before, the shares sum to 100 or to nothing, none is negative, and the asked one is given.
func TestSharesSum(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := rapid.MapOf(rapid.StringMatching(`[a-c]`), rapid.IntRange(0, 100)).Draw(t, "now")
		last := rapid.StringMatching(`[a-c]?`).Draw(t, "last")
		share := rapid.IntRange(0, 100).Draw(t, "share")
		next, err := deploy.Shares(now, last, "a", share)
		if err != nil {
			return
		}
		sum := 0
		for _, s := range next {
			if s < 0 {
				t.Fatalf("negative: %v", next)
			}
			sum += s
		}
		if next["a"] != share || sum != 100 && sum != 0 || sum == 0 && share != 0 {
			t.Fatalf("%v", next)
		}
	})
}

package watch

import (
	"math"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Values that can be counted by hand: the lady who tasted tea (R. A. Fisher), coins.
func TestChances(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"four cups of four", drawn(4, 4, 0, 4), 1.0 / 70},
		{"three cups of four", drawn(3, 4, 1, 4), 17.0 / 70},
		{"no more than its share", drawn(2, 4, 2, 4), 1},
		{"none", drawn(0, 100, 5, 100), 1},
		{"all the bad ones, of two", drawn(2, 10, 0, 90), 10.0 * 9 / (100 * 99)},
		{"nothing beside", drawn(5, 10, 0, 0), 1},
		{"eight heads of ten", atLeast(8, 10, 0.5), 56.0 / 1024},
		{"ten of ten at 5 %", atLeast(10, 10, 0.05), math.Pow(0.05, 10)},
		{"no more than expected", atLeast(5, 100, 0.05), 1},
	} {
		if math.Abs(c.got-c.want) > 1e-12*math.Max(c.want, 1e-3) {
			t.Errorf("%s: %g, want %g", c.name, c.got, c.want)
		}
	}
}

// The tail is the sum of its parts, also where they are far too small to be told from zero one by one, and quickly where there are millions.
func TestTailsAreSums(t *testing.T) {
	for _, c := range [][4]uint64{{3, 20, 5, 300}, {15, 40, 15, 60}, {40, 300, 60, 900}, {9, 9, 1, 9}} {
		bad, n, badBeside, beside := c[0], c[1], c[2], c[3]
		want, all, marked := 0.0, n+beside, bad+badBeside
		for x := bad; x <= min(n, marked); x++ {
			if marked-x <= beside {
				want += math.Exp(choose(marked, x) + choose(all-marked, n-x) - choose(all, n))
			}
		}
		if got := drawn(bad, n, badBeside, beside); math.Abs(got-want) > 1e-9*want {
			t.Errorf("%v: %g, want %g", c, got, want)
		}
	}
	if p := drawn(400_000, 1_000_000, 90_000, 9_000_000); p != 0 {
		t.Errorf("hundreds of thousands too many are a chance of %g", p)
	}
	if p := drawn(10_500, 1_000_000, 90_000, 9_000_000); p < 1e-6 || p > 2e-6 {
		t.Errorf("4.7 deviations are a chance of %g", p)
	}
}

// Each question gets its part of the level; what the likely ones do not use falls to the others.
func TestHolm(t *testing.T) {
	ask := func(chances ...float64) (found int) {
		var asked []suspicion
		for _, c := range chances {
			asked = append(asked, suspicion{chance: c, weight: 1, of: deploy.Worse{Endpoint: "/"}})
		}
		return len(holm(asked, 0.03))
	}
	for _, c := range []struct {
		found int
		of    []float64
	}{{0, []float64{0.02, 1, 1}}, {1, []float64{0.009, 1, 1}}, {1, []float64{0.009, 0.016, 1}}, {2, []float64{0.009, 0.014, 1}}, {3, []float64{0.009, 0.014, 0.03}}, {0, nil}} {
		if got := ask(c.of...); got != c.found {
			t.Errorf("%v: %d found, want %d", c.of, got, c.found)
		}
	}
	heavy := []suspicion{{chance: 0.02, weight: 8, of: deploy.Worse{Endpoint: "/heavy"}}, {chance: 0.02, weight: 2}}
	if found := holm(heavy, 0.03); len(found) != 2 || found[0].Endpoint != "/heavy" {
		t.Errorf("what has most of the requests has most of the level: %v", found)
	}
}

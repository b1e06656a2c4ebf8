package market

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var (
	berlin  = Point{52.52, 13.40}
	hamburg = Point{53.55, 9.99}
	leipzig = Point{51.34, 12.37}
	munich  = Point{48.14, 11.58}
	nuremb  = Point{49.45, 11.08}
)

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b Point
		km   float64
	}{
		{berlin, hamburg, 255},
		{berlin, munich, 504},
		{berlin, berlin, 0},
		{Point{0, 0}, Point{0, 180}, 20015},
		{Point{52.52, 13.40}, Point{52.5201, 13.40}, 0.011},
	} {
		if got := Distance(c.a, c.b); math.Abs(got-c.km) > max(0.001, c.km*0.003) {
			t.Errorf("Distance(%v, %v) = %.3f km, want %.3f", c.a, c.b, got, c.km)
		}
	}
}

func TestMatches(t *testing.T) {
	monday := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	days := func(from, to int) Window { return Window{monday.AddDate(0, 0, from), monday.AddDate(0, 0, to)} }
	offered := func(from, to Point, change func(*Transport)) Transport {
		tr := Transport{Draft: Draft{From: Place{Point: from}, To: Place{Point: to}, Window: days(0, 2), Size: Medium, WeightKG: 10, PriceCents: 3000}}
		if change != nil {
			change(&tr)
		}
		return tr
	}
	south := Route{From: berlin, To: munich, MaxDetourKM: 60, Leave: days(0, 2), Room: Medium, MaxKG: 20, WantCents: 3000}
	for _, c := range []struct {
		name  string
		tr    Transport
		found bool
		score float64
	}{
		{"the whole way", offered(berlin, munich, nil), true, 1},
		{"a part of the way", offered(nuremb, munich, nil), true, 0.86},
		{"the other way round", offered(munich, berlin, nil), false, 0},
		{"somewhere else", offered(hamburg, leipzig, nil), false, 0},
		{"too heavy", offered(berlin, munich, func(t *Transport) { t.WeightKG = 21 }), false, 0},
		{"too large", offered(berlin, munich, func(t *Transport) { t.Size = Large }), false, 0},
		{"smaller", offered(berlin, munich, func(t *Transport) { t.Size = Small }), true, 1},
		{"later", offered(berlin, munich, func(t *Transport) { t.Window = days(2, 4) }), false, 0},
		{"half the time", offered(berlin, munich, func(t *Transport) { t.Window = days(1, 3) }), true, 0.76},
		{"half the money", offered(berlin, munich, func(t *Transport) { t.PriceCents = 1500 }), true, 0.91},
	} {
		got := south.Matches([]Transport{c.tr})
		if (len(got) == 1) != c.found {
			t.Errorf("%s: found %v, want %v (detour %.0f km)", c.name, !c.found, c.found, south.Detour(c.tr.From.Point, c.tr.To.Point))
		} else if c.found && math.Abs(got[0].Score-c.score) > 0.01 {
			t.Errorf("%s: score %.2f, want %.2f (detour %.0f km)", c.name, got[0].Score, c.score, got[0].DetourKM)
		}
	}
	ranked := south.Matches([]Transport{offered(nuremb, munich, nil), offered(berlin, munich, nil)})
	if len(ranked) != 2 || ranked[0].DetourKM > ranked[1].DetourKM {
		t.Error("the better match does not come first")
	}
}

// Whatever the exact rule accepts must lie in the box that the database looks in.
func TestBoxHoldsEveryMatch(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	in := func(least, most float64) float64 { return least + random.Float64()*(most-least) }
	matched := 0
	for range 300_000 {
		r := Route{From: Point{in(40, 62), in(-5, 30)}, To: Point{in(40, 62), in(-5, 30)}, MaxDetourKM: in(0, 300)}
		p, d := Point{in(40, 62), in(-5, 30)}, Point{in(40, 62), in(-5, 30)}
		if r.Detour(p, d) > r.MaxDetourKM {
			continue
		}
		matched++
		sw, ne := r.Box()
		for _, x := range []Point{p, d} {
			if x.Lat < sw.Lat || x.Lat > ne.Lat || x.Lng < sw.Lng || x.Lng > ne.Lng {
				t.Fatalf("route %v, point %v matches but is outside of %v – %v", r, x, sw, ne)
			}
		}
	}
	if matched < 500 {
		t.Fatalf("only %d matches: this proved little", matched)
	}
}

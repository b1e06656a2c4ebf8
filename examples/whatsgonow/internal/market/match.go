package market

import (
	"cmp"
	"math"
	"slices"
)

const earthKM = 6371.0088 // mean radius

// Distance is the way between two points along the globe in kilometres, by the
// haversine formula:
//
//	h = sin²(Δφ/2) + cos φ₁ · cos φ₂ · sin²(Δλ/2)
//	d = 2 R · asin √h
//
// It stays exact for points close together, where the law of cosines does not.
func Distance(a, b Point) float64 {
	sin2 := func(x float64) float64 { return math.Sin(x/2) * math.Sin(x/2) }
	h := sin2(rad(b.Lat-a.Lat)) + math.Cos(rad(a.Lat))*math.Cos(rad(b.Lat))*sin2(rad(b.Lng-a.Lng))
	return 2 * earthKM * math.Asin(math.Sqrt(min(1, h)))
}

func rad(deg float64) float64 { return deg * math.Pi / 180 }

// A Route is where a driver goes anyhow, and what they would do for a transport.
type Route struct {
	From, To    Point
	MaxDetourKM float64
	Leave       Window // zero: any time
	Room        Size   // empty: anything fits
	MaxKG       int    // 0: any weight
	WantCents   int    // 0: any price
}

// A Match is a transport that suits a route.
type Match struct {
	Transport
	DetourKM float64 `json:"detour_km"`
	Score    float64 `json:"score"` // 0 to 1
}

// Detour is how many kilometres more the driver covers by going round by the pick-up
// P and the drop-off D:
//
//	detour = d(A,P) + d(P,D) + d(D,B) − d(A,B)
//
// It needs no rule about directions: a transport the other way costs the way there and
// back, and drops out by itself. Roads are longer than great circles by about the same
// factor on both sides of the minus, so that the order of the matches is right though
// the figure is a lower bound.
func (r Route) Detour(pickUp, dropOff Point) float64 {
	return Distance(r.From, pickUp) + Distance(pickUp, dropOff) + Distance(dropOff, r.To) - Distance(r.From, r.To)
}

// Box is the smallest rectangle of latitudes and longitudes that holds every point
// within the route's detour, for a database to look in first.
//
// A detour of at most m by way of any point X means d(A,X) + d(X,B) ≤ d(A,B) + m: X lies
// in an ellipse around A and B with half axes (d+m)/2 and √((d+m)²−d²)/2. The latter is
// more than the former sticks out beyond the ends (m/2), so it is the margin on all sides.
func (r Route) Box() (southWest, northEast Point) {
	d := Distance(r.From, r.To)
	margin := math.Sqrt(math.Pow(d+r.MaxDetourKM, 2)-d*d) / 2
	degree := earthKM * math.Pi / 180
	// A great circle bends towards the pole, past the latitudes of its ends.
	bend := d * d / (8 * earthKM) * math.Tan(rad(max(math.Abs(r.From.Lat), math.Abs(r.To.Lat))))
	high := (margin + bend) / degree
	south, north := min(r.From.Lat, r.To.Lat)-high, max(r.From.Lat, r.To.Lat)+high
	narrowest := math.Cos(rad(min(88, max(math.Abs(south), math.Abs(north)))))
	wide := margin / (degree * narrowest)
	return Point{south, min(r.From.Lng, r.To.Lng) - wide}, Point{north, max(r.From.Lng, r.To.Lng) + wide}
}

// Matches returns the transports that suit the route, the best first.
func (r Route) Matches(ts []Transport) []Match {
	found := []Match{}
	for _, t := range ts {
		if m, ok := r.match(t); ok {
			found = append(found, m)
		}
	}
	slices.SortStableFunc(found, func(a, b Match) int {
		return cmp.Or(-cmp.Compare(a.Score, b.Score), cmp.Compare(a.DetourKM, b.DetourKM))
	})
	return found
}

// The weights of what counts. Past behaviour (10 %) and chance (5 %) wait for ratings;
// until then the others share what is theirs.
const (
	forTime   = 40.0
	forRoute  = 30.0
	forBudget = 15.0
)

func (r Route) match(t Transport) (Match, bool) {
	detour := max(0, r.Detour(t.From.Point, t.To.Point))
	overlap := r.Leave.overlap(t.Window)
	switch {
	case detour > r.MaxDetourKM,
		overlap == 0,
		r.Room != "" && !t.Size.Fits(r.Room),
		r.MaxKG > 0 && t.WeightKG > r.MaxKG:
		return Match{}, false
	}
	likeness, budget := 1.0, 1.0
	if r.MaxDetourKM > 0 {
		likeness = 1 - detour/r.MaxDetourKM
	}
	if r.WantCents > 0 {
		budget = min(1, float64(t.PriceCents)/float64(r.WantCents))
	}
	score := (forTime*overlap + forRoute*likeness + forBudget*budget) / (forTime + forRoute + forBudget)
	return Match{Transport: t, DetourKM: detour, Score: score}, true
}

// overlap is the share of the shorter window that both have in common, 0 to 1.
func (w Window) overlap(other Window) float64 {
	if w.Start.IsZero() && w.End.IsZero() {
		return 1
	}
	start, end := later(w.Start, other.Start), earlier(w.End, other.End)
	shorter := min(w.End.Sub(w.Start), other.End.Sub(other.Start))
	if !end.After(start) || shorter <= 0 {
		return 0
	}
	return float64(end.Sub(start)) / float64(shorter)
}

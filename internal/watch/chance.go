package watch

import (
	"cmp"
	"math"
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// drawn is the chance that at least bad of the n requests of one pile are bad, when all the bad ones of both piles were dealt out by
// lot: the upper tail of the hypergeometric distribution.
func drawn(bad, n, badBeside, beside uint64) float64 {
	all, marked := n+beside, bad+badBeside
	if bad == 0 || float64(bad)*float64(all) <= float64(marked)*float64(n) {
		return 1 // not more than its share
	}
	first := choose(marked, bad) + choose(all-marked, n-bad) - choose(all, n)
	return tail(first, min(marked, n)-bad, func(i uint64) float64 {
		x := float64(bad + i)
		return (float64(marked) - x) * (float64(n) - x) / ((x + 1) * (float64(all) - float64(marked) - float64(n) + x + 1))
	})
}

// atLeast is the chance that at least bad of n requests are bad when each is with the probability p: the upper tail of the binomial
// distribution.
func atLeast(bad, n uint64, p float64) float64 {
	if bad == 0 || float64(bad) <= p*float64(n) {
		return 1
	}
	first := choose(n, bad) + float64(bad)*math.Log(p) + float64(n-bad)*math.Log1p(-p)
	return tail(first, n-bad, func(i uint64) float64 {
		x := float64(bad + i)
		return (float64(n) - x) / (x + 1) * p / (1 - p)
	})
}

// tail sums probabilities from the first, given as its logarithm, each being step times the one before, until the rest is nothing.
func tail(first float64, more uint64, step func(uint64) float64) float64 {
	term, total := 1.0, 1.0
	for i := range more {
		if term *= step(i); term < total*1e-16 {
			break
		}
		total += term
	}
	return min(1, math.Exp(first)*total)
}

// choose is the logarithm of the binomial coefficient.
func choose(n, k uint64) float64 {
	return logFactorial(n) - logFactorial(k) - logFactorial(n-k)
}

func logFactorial(n uint64) float64 {
	l, _ := math.Lgamma(float64(n) + 1)
	return l
}

// holm returns what is no chance at the level for all questions together: the least likely for its weight first, each against its part
// of the level among those that are left. It returns those with an endpoint before those without.
func holm(asked []suspicion, level float64) (found []deploy.Worse) {
	slices.SortStableFunc(asked, func(a, b suspicion) int { return cmp.Compare(a.chance*b.weight, b.chance*a.weight) })
	left := 0.0
	for _, s := range asked {
		left += s.weight
	}
	for _, s := range asked {
		if s.chance*left > level*s.weight {
			break
		}
		found = append(found, s.of)
		left -= s.weight
	}
	slices.SortStableFunc(found, func(a, b deploy.Worse) int { return cmp.Compare(min(1, len(b.Endpoint)), min(1, len(a.Endpoint))) })
	return found
}

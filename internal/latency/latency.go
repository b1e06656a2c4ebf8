// Package latency decides how durations are counted, so that whoever counts them and whoever judges them mean the same: in buckets whose
// bounds grow by a fourth root of two, from 100 µs to 105 s. A quantile is thus at most 19 % too high.
package latency

import (
	"math"
	"slices"
	"time"
)

const (
	// Buckets is how many there are.
	Buckets = 81

	first = 100 * time.Microsecond
)

// Histogram counts durations: element i those up to Bound(i) and longer than Bound(i-1), the last one the rest. A short one ends in zeros.
type Histogram []uint64

// Bound is the upper bound of bucket i: 100 µs · 2^(i/4).
func Bound(i int) time.Duration {
	return time.Duration(float64(first) * math.Pow(2, float64(i)/4))
}

// Bucket is where a duration is counted.
func Bucket(d time.Duration) int {
	if d <= first {
		return 0
	}
	return min(int(math.Ceil(4*math.Log2(float64(d)/float64(first)))), Buckets-1)
}

// Rounded is a duration as people read it: to the millisecond, and short ones to a tenth of one.
func Rounded(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

// Sum is how many durations were counted.
func (h Histogram) Sum() (n uint64) {
	for _, c := range h {
		n += c
	}
	return n
}

// Add returns the sum of two histograms and changes neither.
func (h Histogram) Add(more Histogram) Histogram {
	sum := append(slices.Clone(h), make(Histogram, max(0, len(more)-len(h)))...)
	for i, c := range more {
		sum[i] += c
	}
	return sum
}

// Quantile is the upper bound of the bucket that holds the q-th part (0 < q ≤ 1), and 0 when nothing was counted.
func (h Histogram) Quantile(q float64) time.Duration {
	rank, seen := uint64(math.Ceil(q*float64(h.Sum()))), uint64(0)
	if rank == 0 {
		return 0
	}
	for i, c := range h {
		if seen += c; seen >= rank {
			return Bound(i)
		}
	}
	return Bound(len(h) - 1)
}

package latency

import (
	"slices"
	"testing"
	"time"
)

func TestBuckets(t *testing.T) {
	for _, d := range []time.Duration{0, first, first + 1, time.Millisecond, time.Second, 90 * time.Second, time.Hour} {
		b := Bucket(d)
		if d > Bound(b) && b < Buckets-1 || b > 0 && d <= Bound(b-1) {
			t.Errorf("%v is in the bucket up to %v", d, Bound(b))
		}
	}
}

func TestQuantile(t *testing.T) {
	h := make(Histogram, Buckets)
	if got := h.Quantile(0.5); got != 0 {
		t.Errorf("of nothing: %v", got)
	}
	for _, d := range []time.Duration{0, time.Millisecond, time.Millisecond, time.Second, time.Hour} {
		h[Bucket(d)]++
	}
	if got, want := h.Quantile(0.5), Bound(Bucket(time.Millisecond)); got != want {
		t.Errorf("median %v, want %v", got, want)
	}
	if got, want := h.Quantile(1), Bound(Buckets-1); got != want {
		t.Errorf("maximum %v, want %v", got, want)
	}
}

func TestAdd(t *testing.T) {
	short, long := Histogram{1}, Histogram{1, 2, 3}
	if got := short.Add(long); !slices.Equal(got, Histogram{2, 2, 3}) || got.Sum() != 7 {
		t.Errorf("short and long: %v", got)
	}
	if got := long.Add(short); !slices.Equal(got, Histogram{2, 2, 3}) || !slices.Equal(long, Histogram{1, 2, 3}) {
		t.Errorf("long and short: %v, and long is %v now", got, long)
	}
}

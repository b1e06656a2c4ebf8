package cli

import (
	"testing"
	"time"
)

func TestSinceWhen(t *testing.T) {
	now := time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)
	local := func(y int, m time.Month, d, h, minute int) time.Time {
		return time.Date(y, m, d, h, minute, 0, 0, time.Local)
	}
	for given, want := range map[string]time.Time{
		"":                     {},
		"10m":                  now.Add(-10 * time.Minute),
		"1h30m":                now.Add(-90 * time.Minute),
		"3d":                   now.Add(-72 * time.Hour),
		"2026-11-04T12:00":     local(2026, 11, 4, 12, 0),
		"2026-11-04 12:00":     local(2026, 11, 4, 12, 0),
		"2026-11-04":           local(2026, 11, 4, 0, 0),
		"2026-11-05T11:00:00Z": now.Add(-time.Hour),
	} {
		if got, err := sinceWhen(given, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v; want %v", given, got, err, want)
		}
	}
	for _, given := range []string{"0s", "-5m", "0d", "-1d", "soon", "2027-01-01", "12", "2026-13-01"} {
		if got, err := sinceWhen(given, now); err == nil {
			t.Errorf("%q is taken as %v", given, got)
		}
	}
}

package deploy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// snapshotsOf makes snapshots of these moments; what follows a space is why: "h" by hand, "p" proven, "w" proven wrong, "d" damaged.
func snapshotsOf(t testing.TB, moments ...string) (all []deploy.Snapshot) {
	t.Helper()
	for _, text := range moments {
		moment, marks, _ := strings.Cut(text, " ")
		at, err := time.Parse("2006-01-02T15:04", moment)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(marks, "u") {
			at = time.Time{}
		}
		s := deploy.Snapshot{ID: moment, At: at, Why: deploy.SnapshotDaily}
		if strings.Contains(marks, "h") {
			s.Why = deploy.SnapshotByHand
		}
		if strings.Contains(marks, "p") {
			s.Proof = &deploy.Proof{}
		}
		if strings.Contains(marks, "w") {
			s.Proof = &deploy.Proof{Wrong: "something"}
		}
		if strings.Contains(marks, "d") {
			s.Damaged = "something"
		}
		all = append(all, s)
	}
	return all
}

func TestWhatIsPruned(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) // a Monday
	for _, c := range []struct {
		name string
		keep deploy.Keep
		all  []string
		gone []string
	}{
		{"nothing", deploy.Keep{Daily: 7}, nil, nil},
		{"none is proven: all stay", deploy.Keep{Daily: 1}, []string{"2026-11-20T03:00", "2026-11-21T03:00", "2026-11-22T03:00"}, nil},
		{"one of each day", deploy.Keep{Daily: 2}, []string{"2026-11-20T03:00", "2026-11-21T03:00", "2026-11-22T03:00", "2026-11-22T04:00", "2026-11-23T03:00 p"},
			[]string{"2026-11-20T03:00", "2026-11-21T03:00", "2026-11-22T03:00"}},
		{"what is newer than the proven one stays, and that one", deploy.Keep{Daily: 1}, []string{"2026-11-19T03:00", "2026-11-20T03:00 p", "2026-11-21T03:00 w", "2026-11-22T03:00", "2026-11-23T03:00"}, []string{"2026-11-19T03:00"}},
		{"one that is proven and damaged since proves nothing", deploy.Keep{Daily: 1}, []string{"2026-11-20T03:00", "2026-11-21T03:00 pd"}, nil},
		{"by hand it stays a day", deploy.Keep{Daily: 1}, []string{"2026-11-22T11:00 h", "2026-11-22T13:00 h", "2026-11-23T03:00 p"}, []string{"2026-11-22T11:00"}},
		{"days are those of UTC", deploy.Keep{Daily: 2}, []string{"2026-11-21T23:59", "2026-11-22T00:01", "2026-11-22T23:59", "2026-11-23T00:01 p"}, []string{"2026-11-21T23:59", "2026-11-22T00:01"}},
		{"weeks begin on Monday", deploy.Keep{Weekly: 2}, []string{"2026-11-15T03:00", "2026-11-16T03:00", "2026-11-22T03:00", "2026-11-23T03:00 p"}, []string{"2026-11-15T03:00", "2026-11-16T03:00"}},
		{"the last of a month", deploy.Keep{Monthly: 2}, []string{"2026-09-30T03:00", "2026-10-30T03:00", "2026-10-31T03:00", "2026-11-23T03:00 p"}, []string{"2026-09-30T03:00", "2026-10-30T03:00"}},
		{"the first days of January are of the week before", deploy.Keep{Weekly: 1}, []string{"2025-12-31T03:00", "2026-01-01T03:00", "2026-01-02T03:00 p"}, []string{"2025-12-31T03:00", "2026-01-01T03:00"}},
		{"a damaged one is not the one that is kept for its day", deploy.Keep{Daily: 2}, []string{"2026-11-22T03:00", "2026-11-22T04:00 d", "2026-11-23T03:00 p"}, []string{"2026-11-22T04:00"}},
		{"one whose manifest cannot be read stays", deploy.Keep{Daily: 1}, []string{"2026-11-21T03:00 ud", "2026-11-23T03:00 p"}, nil},
		{"days without one are not counted", deploy.Keep{Daily: 2}, []string{"2026-08-01T03:00", "2026-09-01T03:00", "2026-11-23T03:00 p"}, []string{"2026-08-01T03:00"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var gone []string
			for _, s := range c.keep.Gone(snapshotsOf(t, c.all...), now) {
				gone = append(gone, s.ID)
			}
			if !slices.Equal(gone, c.gone) {
				t.Errorf("%v go, want %v", gone, c.gone)
			}
		})
	}
}

// TestPruningDailyEndsAsAsked prunes each day for a year, each snapshot proven: what is left is 7 days, 4 weeks and 6 months.
func TestPruningDailyEndsAsAsked(t *testing.T) {
	keep := deploy.Keep{Daily: 7, Weekly: 4, Monthly: 6}
	var all []deploy.Snapshot
	for day := time.Date(2026, 1, 1, 3, 0, 0, 0, time.UTC); day.Year() == 2026; day = day.AddDate(0, 0, 1) {
		all = append(all, deploy.Snapshot{ID: day.Format(time.DateOnly), At: day, Proof: &deploy.Proof{}})
		for _, gone := range keep.Gone(all, day) {
			all = slices.DeleteFunc(all, func(s deploy.Snapshot) bool { return s.ID == gone.ID })
		}
	}
	var left []string
	for _, s := range all {
		left = append(left, s.ID)
	}
	want := "[2026-07-31 2026-08-31 2026-09-30 2026-10-31 2026-11-30 2026-12-13 2026-12-20 2026-12-25 2026-12-26 2026-12-27 2026-12-28 2026-12-29 2026-12-30 2026-12-31]"
	if fmt.Sprint(left) != want {
		t.Errorf("%v\nwant %v", left, want)
	}
}

// TestPruningNeverTakesTheProven holds whatever was taken, proven and asked for.
func TestPruningNeverTakesTheProven(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
		var all []deploy.Snapshot
		at := now.AddDate(0, -8, 0)
		newest := -1
		for i := range rapid.IntRange(0, 60).Draw(r, "n") {
			at = at.Add(time.Duration(rapid.IntRange(1, 100).Draw(r, "hours")) * time.Hour)
			s := deploy.Snapshot{ID: fmt.Sprintf("%03d", i), At: at, Why: deploy.SnapshotDaily}
			if rapid.Bool().Draw(r, "proven") {
				s.Proof = &deploy.Proof{}
				newest = i
			}
			all = append(all, s)
		}
		keep := deploy.Keep{Daily: rapid.IntRange(0, 9).Draw(r, "d"), Weekly: rapid.IntRange(0, 9).Draw(r, "w"), Monthly: rapid.IntRange(0, 9).Draw(r, "m")}
		gone := keep.Gone(all, now)
		for _, s := range gone {
			if newest < 0 || s.ID >= all[newest].ID {
				r.Fatalf("%s goes, and the newest proven one is %d", s.ID, newest)
			}
		}
		if len(all)-len(gone) > keep.Daily+keep.Weekly+keep.Monthly+len(all)-newest && newest >= 0 {
			r.Fatalf("%d of %d stay", len(all)-len(gone), len(all))
		}
	})
}

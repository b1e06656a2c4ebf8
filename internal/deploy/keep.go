package deploy

import (
	"slices"
	"time"
)

// Keep is how many snapshots are kept: the last of each of so many days, weeks and months. What was taken by hand or before a migration
// counts as any other, and stays at least a day.
type Keep struct{ Daily, Weekly, Monthly int }

// atLeast is how long a snapshot that was taken for a reason other than the day stays in any case.
const atLeast = 24 * time.Hour

// Gone says which of all, oldest first, are not asked for. Days, weeks (Monday to Sunday) and months are those of UTC; of each the last
// whole snapshot counts, and of each kind the newest so many that have one. What is as new as the newest proven one, or newer, stays;
// where none is proven, all stay. A damaged one is as any other, except that it is never the one that is kept for its day; one whose
// moment is not known, as of a newer Lotse, stays until somebody has looked.
func (k Keep) Gone(all []Snapshot, now time.Time) (gone []Snapshot) {
	proven := -1
	for i, s := range all {
		if s.Damaged == "" && s.Proof != nil && s.Proof.Wrong == "" {
			proven = i
		}
	}
	kept := map[string]bool{}
	newestOf(all, k.Daily, kept, func(t time.Time) string { return t.Format(time.DateOnly) })
	newestOf(all, k.Weekly, kept, func(t time.Time) string {
		return t.AddDate(0, 0, -int(t.Weekday()+6)%7).Format(time.DateOnly)
	})
	newestOf(all, k.Monthly, kept, func(t time.Time) string { return t.Format("2006-01") })
	for i, s := range all {
		byHand := s.Why != SnapshotDaily && now.Sub(s.At) < atLeast
		if i < proven && !s.At.IsZero() && !kept[s.ID] && !byHand {
			gone = append(gone, s)
		}
	}
	return gone
}

// newestOf marks the last whole snapshot of each of the newest n spans.
func newestOf(all []Snapshot, n int, kept map[string]bool, span func(time.Time) string) {
	seen := map[string]bool{}
	for _, s := range slices.Backward(all) {
		of := span(s.At.UTC())
		if s.Damaged != "" || seen[of] || len(seen) == n {
			continue
		}
		seen[of] = true
		kept[s.ID] = true
	}
}

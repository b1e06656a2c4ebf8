package snapshot

import (
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// TestPruneTakesAway what it says, and no more.
func TestPruneTakesAway(t *testing.T) {
	now := time.Date(2026, 11, 1, 3, 0, 0, 0, time.UTC)
	s, _ := store(t, func(c *Config) { c.Clock = func() time.Time { return now } })
	var ids []string
	for range 4 {
		ids = append(ids, take(t, s, deploy.Data{Volumes: map[string]string{"uploads": t.TempDir()}}).ID)
		now = now.AddDate(0, 0, 1)
	}
	if gone, err := s.Prune(bounded(t), stage, deploy.Keep{Daily: 1}); err != nil || len(gone) != 0 {
		t.Fatal(gone, err) // none is proven
	}
	if _, err := s.Prove(bounded(t), stage, ids[2], nil); err != nil {
		t.Fatal(err)
	}
	of, _ := find(stage, ids[0])
	done := s.use(of) // somebody restores it
	gone, err := s.Prune(bounded(t), stage, deploy.Keep{Daily: 1})
	done()
	listed, listErr := s.List(bounded(t), stage)
	if err != nil || listErr != nil || len(gone) != 1 || gone[0].ID != ids[1] || len(listed) != 3 || listed[0].ID != ids[0] {
		t.Fatal(gone, err, listed, listErr)
	}
}

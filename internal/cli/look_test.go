package cli

import (
	"slices"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A freeze and a bad release are told where people look first.
func TestStatusTellsWhatIsWrong(t *testing.T) {
	st := deploy.StageStatus{Stage: deploy.StageRef{App: "shop", Stage: "prod"}, Serves: &deploy.Lane{Release: "sha256:0123456789abcdef", Bad: "rollout r1 to prod: errors"},
		Frozen: &deploy.Frozen{Reason: "holidays", Until: time.Date(2027, 1, 6, 12, 0, 0, 0, time.Local)}}
	want := []string{"shop/prod: " + release(st.Serves.Release) + " is marked as bad: rollout r1 to prod: errors", "shop/prod: frozen until 2027-01-06 12:00:00: holidays; `lotse thaw prod` ends it"}
	if got := notesOf(st); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := notesOf(deploy.StageStatus{Serves: &deploy.Lane{}}); len(got) > 0 {
		t.Errorf("of a stage on which nothing is wrong it says %q", got)
	}
}

package deploy_test

import (
	"errors"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A time zone alone is an error, whoever asks: the parser below would panic.
func TestParseSchedule(t *testing.T) {
	for _, line := range []string{"CRON_TZ=UTC", "TZ=Europe/Berlin", "CRON_TZ=UTC ", "CRON_TZ=X"} {
		if _, err := deploy.ParseSchedule(line); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("%q: %v", line, err)
		}
	}
	for _, line := range []string{"", "* * * *", "CRON_TZ=Nowhere/None * * * * *"} {
		if _, err := deploy.ParseSchedule(line); err == nil {
			t.Errorf("%q is a schedule", line)
		}
	}
	s, err := deploy.ParseSchedule("CRON_TZ=Europe/Berlin 30 4 * * *")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := s.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)), time.Date(2026, 1, 1, 3, 30, 0, 0, time.UTC); !got.Equal(want) {
		t.Errorf("next at %v, not %v", got, want)
	}
}

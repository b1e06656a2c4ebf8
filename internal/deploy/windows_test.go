package deploy_test

import (
	"errors"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func instant(t *testing.T, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestWindows(t *testing.T) {
	const weekend = "Fri 16:00 - Mon 07:00 Europe/Berlin"
	for _, c := range []struct{ window, now, until string }{
		{weekend, "2026-11-20T14:59:59Z", ""},
		{weekend, "2026-11-20T15:00:00Z", "2026-11-23T06:00:00Z"},
		{weekend, "2026-11-22T12:00:00Z", "2026-11-23T06:00:00Z"},
		{weekend, "2026-11-23T06:00:00Z", ""},
		// The clocks go forward on 2026-03-29 and back on 2026-10-25: the window follows them.
		{weekend, "2026-03-27T15:00:00Z", "2026-03-30T05:00:00Z"},
		{weekend, "2026-10-23T13:59:59Z", ""},
		{weekend, "2026-10-23T14:00:00Z", "2026-10-26T06:00:00Z"},
		{"Mon - Tue", "2026-11-23T00:00:00Z", "2026-11-25T00:00:00Z"},
		{"Mon 08:00 - Mon 07:00", "2026-11-23T06:59:00Z", "2026-11-23T07:00:00Z"},
		{"Mon 08:00 - Mon 07:00", "2026-11-23T07:30:00Z", ""},
		{"22:00 - 06:00", "2026-11-23T05:00:00Z", "2026-11-23T06:00:00Z"},
		{"22:00 - 06:00", "2026-11-23T22:00:00Z", "2026-11-24T06:00:00Z"},
		{"22:00 - 06:00", "2026-11-23T12:00:00Z", ""},
		{"12:00 - 13:00 Europe/Berlin", "2026-07-01T10:30:00Z", "2026-07-01T11:00:00Z"},
		{"12:00 - 24:00", "2026-07-01T23:59:00Z", "2026-07-02T00:00:00Z"},
		{"2026-12-24 - 2026-12-26", "2026-12-23T23:59:59Z", ""},
		{"2026-12-24 - 2026-12-26", "2026-12-26T23:59:59Z", "2026-12-27T00:00:00Z"},
		{"2026-12-24 12:00 - 2026-12-24 18:00 Europe/Berlin", "2026-12-24T11:00:00Z", "2026-12-24T17:00:00Z"},
	} {
		w, err := deploy.ParseWindow(c.window)
		if err != nil {
			t.Errorf("%s: %v", c.window, err)
			continue
		}
		until, closed := w.Closed(instant(t, c.now))
		if closed != (c.until != "") || closed && !until.Equal(instant(t, c.until)) {
			t.Errorf("%s at %s: closed %v until %s, want until %q", c.window, c.now, closed, until.UTC(), c.until)
		}
	}
}

func TestWindowsThatAreNone(t *testing.T) {
	for _, text := range []string{"", "Fri", "Fri 16:00", "Fri 16:00-Mon 07:00", "Fri 16:00 - Mon 7:00", "Fri 16:00 - 2026-12-24", "Fri 16:00 - 07:00", "Friday - Monday",
		"Fri 25:00 - Mon 07:00", "Fri 24:01 - Mon 07:00", "Mon 07:00 - Mon 07:00", "10:00 - 10:00", "2026-02-30 - 2026-03-01", "2026-12-26 - 2026-12-24",
		"Fri 16:00 - Mon 07:00 Europe/Nowhere", "Fri 16:00 - Mon 07:00 ../etc", "24.12.2026 - 26.12.2026", "Fri 16:00 x - Mon 07:00"} {
		if _, err := deploy.ParseWindow(text); !errors.Is(err, deploy.ErrBadInput) || deploy.HintOf(err) == "" {
			t.Errorf("%q is %v, hint %q", text, err, deploy.HintOf(err))
		}
	}
}

func TestMoments(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		end  bool
		want string
	}{
		{"2026-12-18", false, "2026-12-17T23:00:00Z"},
		{"2026-12-18", true, "2026-12-18T23:00:00Z"},
		{"2026-12-18 16:00", true, "2026-12-18T15:00:00Z"},
		{"2026-12-18 16:00 UTC", false, "2026-12-18T16:00:00Z"},
	} {
		if got, err := deploy.ParseMoment(c.text, berlin, c.end); err != nil || !got.Equal(instant(t, c.want)) {
			t.Errorf("%s is %v, %v", c.text, got.UTC(), err)
		}
	}
	for _, text := range []string{"", "tomorrow", "16:00", "Fri", "2026-13-01", "2026-12-18T16:00", "18.12.2026"} {
		if _, err := deploy.ParseMoment(text, time.UTC, false); !errors.Is(err, deploy.ErrBadInput) || deploy.HintOf(err) == "" {
			t.Errorf("%q is %v", text, err)
		}
	}
}

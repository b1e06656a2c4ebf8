package local_test

import (
	"encoding/json"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/local"
	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/secret"
)

const patience = 40 * time.Second // the machine that runs this may be busy

func (m *machine) order(stage int, id string, r deploy.Release) deploy.Order {
	return deploy.Order{Rollout: id, Release: r, Stage: m.stages[stage], Settings: []deploy.Setting{
		{Name: "SECRET_TOKEN", Value: secret.New("hunter2-correct-horse")}, {Name: "PORT", Value: secret.New("3000")},
		{Name: "COLOUR", Value: secret.New("#ff8800")}}}
}

func (m *machine) up(t *testing.T, e *local.Engine, stage int, id string, services ...deploy.Service) deploy.Order {
	t.Helper()
	o := m.order(stage, id, m.release(t, id, services...))
	if err := e.Start(within(t, patience), 1, o); err != nil {
		t.Fatal(err)
	}
	return o
}

func fetch(t *testing.T, rt http.RoundTripper, url string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func reach(t *testing.T, m *machine, e *local.Engine, id, path string) (*http.Response, string) {
	t.Helper()
	rt, err := e.Reach(within(t, patience), id)
	if err != nil {
		t.Fatal(err)
	}
	return fetch(t, rt, m.stages[0].URL+path)
}

func about(t *testing.T, m *machine, e *local.Engine, id string) load.About {
	t.Helper()
	var a load.About
	_, body := reach(t, m, e, id, "/about")
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

// until polls a condition that ought to come true by itself.
func until(t *testing.T, what string, d time.Duration, cond func() bool) {
	t.Helper()
	for ctx := within(t, d); !cond(); {
		select {
		case <-ctx.Done():
			t.Fatalf("%s: not within %s", what, d)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

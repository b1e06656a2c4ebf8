package local_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Each way of not starting is named so that a person knows where to look.
func TestWhyAReleaseCannotStart(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	cases := []struct {
		mode  string
		wants []string
		soon  bool // it does not wait for the deadline
	}{
		{"crash", []string{"ended with exit code 3", "3 times in a row", "cannot find the module"}, true},
		{"hang", []string{"listens on its PORT (", "but gave no answer within 6s"}, false},
		{"idle", []string{"did not listen on its PORT (", ") within 6s; it listens on no port at all"}, false},
		{"wrongport", []string{"did not listen on its PORT (", "; it listens on "}, false},
		{"unhealthy", []string{"answers /health with 500: the database is away within 6s"}, false},
	}
	for _, c := range cases {
		t.Run(c.mode, func(t *testing.T) {
			t.Parallel()
			svc := web(c.mode, 1)
			svc.Start = 6 * time.Second
			if c.soon {
				svc.Start = time.Minute
			}
			begun := time.Now()
			err := e.Start(within(t, patience), 1, m.order(0, c.mode, m.release(t, c.mode, svc)))
			if _, ok := errors.AsType[*deploy.StartError](err); !ok {
				t.Fatal(err)
			}
			for _, want := range c.wants {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("it does not say %q: %v", want, err)
				}
			}
			if took := time.Since(begun); c.soon && took > 30*time.Second {
				t.Errorf("it took %s to notice", took)
			}
		})
	}
}

// A program that is not there, and a worker that ends, fail like everything else.
func TestOtherStartFailures(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	for name, svc := range map[string]deploy.Service{
		"nothing": {Name: "api", Command: "./nothing", Path: "/api", Start: 20 * time.Second},
		"worker":  {Name: "mailer", Command: "./app crash", Start: 20 * time.Second},
		"later":   {Name: "mailer", Command: "sh -c 'sleep 0.5; exit 4'", Start: 20 * time.Second},
	} {
		err := e.Start(within(t, patience), 1, m.order(0, name, m.release(t, name, svc, web("good", 1))))
		var failed *deploy.StartError
		if !errors.As(err, &failed) || failed.Service != svc.Name || !strings.Contains(failed.Cause, "ended with exit code") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left := m.leftovers(t, m.stages[0], nil); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// What a service says of itself when it is sick is masked.
func TestSickAnswerIsMasked(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	svc := web("good", 1)
	svc.Health, svc.Start = "/nowhere", time.Second
	// The app answers 404 with a text of its own; the secret is that text.
	o := m.order(0, "sick", m.release(t, "sick", svc))
	o.Settings = []deploy.Setting{{Name: "X", Value: secret.New("404 page not found")}}
	err := e.Start(within(t, patience), 1, o)
	if err == nil || !strings.Contains(err.Error(), "404") || strings.Contains(err.Error(), "page not found") {
		t.Errorf("%v", err)
	}
}

// A port that somebody has taken meanwhile is given up for another; one that a rollout remembers is given to nobody else.
func TestPorts(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	refusing := web("refusing", 1)
	refusing.Start = 20 * time.Second
	m.up(t, e, 0, "refusing", refusing)
	owners := map[string]bool{}
	for _, id := range []string{"a", "b"} {
		m.up(t, e, 0, id, web("good", 2))
	}
	m.up(t, m.open(t, m.stages[1]), 1, "a", web("good", 2))
	claims, err := filepath.Glob(filepath.Join(m.dir, "local", "ports", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range claims {
		owner, _ := os.ReadFile(c)
		owners[string(owner)] = true
	}
	if len(claims) != 7 || len(owners) != 7 {
		t.Errorf("%d ports of %d instances, want 7 of 7", len(claims), len(owners))
	}
}

// An instance that finds its port taken gets another one.
func TestTakenPort(t *testing.T) {
	m := newMachine(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	svc := web("good", 1)
	svc.Start = 20 * time.Second
	o := m.order(0, "late", m.release(t, "late", svc))
	e := m.open(t, m.stages[0])
	services, err := json.Marshal(o.Release.Manifest.Services)
	if err != nil {
		t.Fatal(err)
	}
	// What a Start that died has left: it had chosen the port.
	note := fmt.Sprintf(`{"format":1,"rollout":"late","release":%q,"phase":"starting","since":"2026-01-02T03:04:05Z","services":%s,"ports":{"web":[%d]}}`,
		o.Release.ID, services, taken)
	if err := os.WriteFile(filepath.Join(m.stageDir(m.stages[0]), "rollouts", "late.json"), []byte(note), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(within(t, patience), 1, o); err != nil {
		t.Fatal(err)
	}
	if _, body := reach(t, m, e, "late", "/get?word=x"); body != "x\n" {
		t.Errorf("%q", body)
	}
}

// Claims that a dead process has left without a note are freed, those of others are not.
func TestStaleClaims(t *testing.T) {
	m := newMachine(t)
	m.open(t, m.stages[0])
	ports := filepath.Join(m.dir, "local", "ports")
	for name, owner := range map[string]string{"11": "shop/dev gone.web.0", "12": "shop/prod gone.web.0", "13": "shop/development gone.web.0"} {
		if err := os.WriteFile(filepath.Join(ports, name), []byte(owner), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.open(t, m.stages[0])
	left, err := filepath.Glob(ports + "/*")
	if err != nil || !slices.Equal(left, []string{ports + "/12", ports + "/13"}) {
		t.Errorf("%q %v", left, err)
	}
}

// A release whose bytes are not what they should be is not started.
func TestDamagedRelease(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	r := m.release(t, "missing", web("good", 1))
	r.Manifest.Files[1].Digest = "sha256:" + deploy.Digest(strings.Repeat("0", 64))
	if err := e.Start(within(t, patience), 1, m.order(0, "missing", r)); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("%v", err)
	}
	if left := m.leftovers(t, m.stages[0], nil); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// A rollout id never leads out of the stage's folders.
func TestStrangeIDs(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	m.up(t, e, 0, "real", web("good", 1))
	for _, id := range []string{"..", "../stage", "../rollouts/real", "x/../real", "a/b", "", strings.Repeat("x", 100)} {
		if err := e.Start(within(t, patience), 1, m.order(0, id, m.release(t, "x", web("good", 1)))); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("start %q: %v", id, err)
		}
		if err := e.Check(within(t, patience), id); !errors.Is(err, deploy.ErrUnknown) {
			t.Errorf("check %q: %v", id, err)
		}
		if err := e.Stop(within(t, patience), 1, id, 0); err != nil {
			t.Errorf("stop %q: %v", id, err)
		}
	}
}

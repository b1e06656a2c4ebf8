package local_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

// A keeper that dies is replaced within a second, and its process does not notice.
func TestDeadKeeperIsReplaced(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	m.up(t, e, 0, "kept", web("good", 1))
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- e.Run(ctx) }()
	before := about(t, m, e, "kept")
	dir := m.instance(m.stages[0], "kept", "web", 0)
	status, err := process.Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(status.KeeperPID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "another keeper", 10*time.Second, func() bool {
		now, err := process.Inspect(dir)
		return err == nil && now.Keeper && now.KeeperPID != status.KeeperPID
	})
	if after := about(t, m, e, "kept"); after.Boot != before.Boot {
		t.Error("the process was started again")
	}
	cancel()
	if err := <-ran; err != nil {
		t.Errorf("run: %v", err)
	}
}

// A new controller takes up what an old one has left, starts what is gone, and has the settings for it again.
func TestAdopt(t *testing.T) {
	m := newMachine(t)
	o := m.up(t, m.open(t, m.stages[0]), 0, "left", web("good", 2))
	fresh := m.open(t, m.stages[0])
	if err := fresh.Shift(within(t, patience), 1, "left", 100); err != nil {
		t.Fatal(err)
	}
	untouched, err := process.Inspect(m.instance(m.stages[0], "left", "web", 0))
	if err != nil {
		t.Fatal(err)
	}
	gone, err := process.Inspect(m.instance(m.stages[0], "left", "web", 1))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(unix.Kill(gone.KeeperPID, unix.SIGKILL), unix.Kill(gone.PID, unix.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	until(t, "the end of both", patience, func() bool { // a keeper that is still dying would pass for one that lives
		now, err := process.Inspect(m.instance(m.stages[0], "left", "web", 1))
		return err == nil && !now.Keeper && !now.Process
	})
	if err := fresh.Check(within(t, patience), "left"); !errors.Is(err, deploy.ErrUnhealthy) {
		t.Errorf("with an instance gone: %v", err)
	}
	if err := fresh.Adopt(within(t, patience), "left", o); err != nil {
		t.Fatal(err)
	}
	until(t, "health", patience, func() bool { return fresh.Check(t.Context(), "left") == nil })
	now, err := process.Inspect(m.instance(m.stages[0], "left", "web", 0))
	if err != nil || now.PID != untouched.PID {
		t.Errorf("the instance that was well is another: %v", err)
	}
	if err := fresh.Task(within(t, patience), "left", "check", `test "$SECRET_TOKEN" = hunter2-correct-horse`, nil); err != nil {
		t.Errorf("settings after adoption: %v", err)
	}
	if err := fresh.Adopt(within(t, patience), "nobody", o); !errors.Is(err, deploy.ErrUnknown) {
		t.Errorf("adopt of an unknown rollout: %v", err)
	}
	if list, err := fresh.List(within(t, patience)); err != nil || len(list) != 1 || list[0].Share != 100 {
		t.Errorf("%+v %v", list, err)
	}
}

// A Start that died half way goes on with the instances that it had begun, not with others.
func TestStartGoesOn(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	o := m.up(t, e, 0, "half", web("good", 1))
	boot := about(t, m, e, "half").Boot
	path := filepath.Join(m.stageDir(m.stages[0]), "rollouts", "half.json")
	raw, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, []byte(strings.Replace(string(raw), `"up"`, `"starting"`, 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	fresh := m.open(t, m.stages[0])
	if err := fresh.Shift(within(t, patience), 1, "half", 100); !errors.Is(err, deploy.ErrUnhealthy) {
		t.Errorf("shift to what is still starting: %v", err)
	}
	if err := fresh.Start(within(t, patience), 1, o); err != nil {
		t.Fatal(err)
	}
	if after := about(t, m, fresh, "half").Boot; after != boot {
		t.Error("a second copy was started")
	}
}

// A Stop that is cancelled while it drains is finished by the next, also in another process.
func TestStopGoesOn(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	o := m.up(t, e, 0, "going", web("good", 1))
	if err := e.Shift(within(t, patience), 1, "going", 100); err != nil {
		t.Fatal(err)
	}
	p := m.plan(m.stages[0])
	rt := &http.Transport{DialContext: p.Dial, TLSClientConfig: p.TLS}
	t.Cleanup(rt.CloseIdleConnections)
	req, err := http.NewRequestWithContext(within(t, patience), http.MethodGet, p.URL+"/slow?bytes=1000000&for=1m", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := e.Stop(ctx, 1, "going", time.Minute); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a cancelled stop: %v", err)
	}
	if err := e.Start(within(t, patience), 1, o); !errors.Is(err, deploy.ErrAborted) {
		t.Errorf("a start of what is being stopped: %v", err)
	}
	if err := m.open(t, m.stages[0]).Stop(within(t, patience), 1, "going", 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if left := m.leftovers(t, m.stages[0], nil); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// A Stop ends a Start that is under way.
func TestStopEndsAStart(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	svc := web("hang", 1)
	svc.Start = time.Minute
	started := make(chan error, 1)
	go func() { started <- e.Start(t.Context(), 1, m.order(0, "long", m.release(t, "long", svc))) }()
	until(t, "a start under way", patience, func() bool {
		s, err := process.Inspect(m.instance(m.stages[0], "long", "web", 0))
		return err == nil && s.Process
	})
	if err := e.Stop(within(t, patience), 1, "long", 0); err != nil {
		t.Error(err)
	}
	if err := <-started; !errors.Is(err, deploy.ErrAborted) {
		t.Errorf("start: %v", err)
	}
	if left := m.leftovers(t, m.stages[0], nil); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// served is a process that listens, and how it is replaced by one of the same kind.
type served struct {
	t       *testing.T
	dir     string
	address string
	spec    Spec
}

func newServed(t *testing.T) *served {
	s := &served{t: t, dir: instance(t), address: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	handover := filepath.Join(t.TempDir(), "s")
	s.spec = Spec{Name: "one", Command: self("serve", handover, "first"), Restart: true, Listen: []string{"tcp://" + s.address}, Handover: handover}
	start(t, s.dir, s.spec)
	s.asked()
	return s
}

// asked is the pid of whoever answers.
func (s *served) asked() int {
	s.t.Helper()
	line, err := ask(s.address)
	pid, err2 := strconv.Atoi(line)
	if err := errors.Join(err, err2); err != nil {
		s.t.Fatal(err)
	}
	return pid
}

// replace returns when the new one answers, too.
func (s *served) replace() (pid int, err error) {
	err = keepers().Replace(soon(s.t), s.dir, self("serve", s.spec.Handover, "second"), func(_ context.Context, successor int) error {
		pid = successor
		eventually(s.t, "the new one answers", func() bool { return s.asked() == successor })
		return nil
	})
	return pid, err
}

func TestReplace(t *testing.T) {
	s := newServed(t)
	before := inspect(t, s.dir)
	pid, err := s.replace()
	if err != nil {
		t.Fatal(err)
	}
	if now := inspect(t, s.dir); now.PID != before.PID || !lives(before.PID) {
		t.Errorf("the one before has not had its time: %+v", now)
	}
	if _, err := s.replace(); !errors.Is(err, ErrBusy) {
		t.Errorf("a third beside two: %v", err)
	}
	kill(t, before.PID)
	now := await(t, s.dir, "the new one alone", func(st Status) bool { return st.PID == pid })
	if now.Restarts != 0 || now.KeeperPID != before.KeeperPID || now.Adopted || s.asked() != pid {
		t.Errorf("afterwards: %+v", now)
	}
	kill(t, pid) // what is started again is the new one
	again := await(t, s.dir, "another life", func(st Status) bool { return st.Process && st.PID != pid })
	if s.asked() != again.PID || again.Restarts != 1 {
		t.Errorf("the third is %+v", again)
	}
	if state, err := readState(s.dir); err != nil || !state.Replacement.Done {
		t.Errorf("the state says %+v %v", state.Replacement, err)
	}
	if args := commandOf(t, again.PID); args[len(args)-1] != "second" {
		t.Errorf("started again is %v", args)
	}
}

func commandOf(t *testing.T, pid int) []string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
}

// A keeper that dies while two run leaves both to the next one.
func TestReplaceOutlivesItsKeeper(t *testing.T) {
	for name, oldFirst := range map[string]bool{"the old one ends after it": false, "the old one ends with it": true} {
		t.Run(name, func(t *testing.T) {
			s := newServed(t)
			before := inspect(t, s.dir)
			pid, err := s.replace()
			if err != nil {
				t.Fatal(err)
			}
			kill(t, before.KeeperPID)
			await(t, s.dir, "the keeper's death", func(st Status) bool { return !st.Keeper })
			if oldFirst {
				kill(t, before.PID)
				eventually(t, "the old one's death", func() bool { return !lives(before.PID) })
			}
			start(t, s.dir, s.spec)
			if !oldFirst {
				kill(t, before.PID)
			}
			now := await(t, s.dir, "the new one alone", func(st Status) bool { return st.PID == pid })
			if !now.Adopted || now.Restarts != 0 || s.asked() != pid {
				t.Errorf("afterwards: %+v", now)
			}
			await(t, s.dir, "its listeners", func(st Status) bool { return st.Listening })
			kill(t, pid)
			await(t, s.dir, "another life", func(st Status) bool { return st.Process && st.PID != pid })
		})
	}
}

func TestReplaceRefused(t *testing.T) {
	if err := keepers().Replace(soon(t), t.TempDir(), []string{"x"}, nil); !errors.Is(err, ErrUnknown) {
		t.Errorf("where nothing was started: %v", err)
	}
	s := newServed(t)
	before := s.asked()
	never := func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }
	if err := keepers().Replace(soon(t), s.dir, self("exit", "9"), never); !errors.Is(err, ErrReplace) {
		t.Errorf("one that ends: %v", err)
	}
	if err := keepers().Replace(soon(t), s.dir, []string{"/nowhere"}, never); !errors.Is(err, ErrReplace) {
		t.Errorf("one that is not there: %v", err)
	}
	pid := 0
	unready := errors.New("not ready")
	err := keepers().Replace(soon(t), s.dir, self("sleep"), func(_ context.Context, successor int) error { pid = successor; return unready })
	if !errors.Is(err, unready) || lives(pid) {
		t.Errorf("one that does not become ready: %v; it lives: %v", err, lives(pid))
	}
	if now := inspect(t, s.dir); now.PID != before || s.asked() != before {
		t.Errorf("the one before is gone: %+v", now)
	}
	if err := unix.Kill(inspect(t, s.dir).KeeperPID, unix.SIGUSR1); err != nil { // without an order
		t.Fatal(err)
	}
	if s.asked() != before {
		t.Error("a signal alone has replaced it")
	}
}

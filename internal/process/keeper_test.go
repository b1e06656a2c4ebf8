package process

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"
)

func TestStartInspectStop(t *testing.T) {
	dir := instance(t)
	s := start(t, dir, Spec{Name: "one", Command: self("sleep"), Restart: true})
	if !s.Keeper || !s.Process || s.Ended || !lives(s.PID) {
		t.Fatalf("after Start: %+v", s)
	}
	began := time.Now()
	if err := keepers().Stop(soon(t), dir, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("stopping took %s", took)
	}
	after := inspect(t, dir)
	if after.Keeper || after.Process || !after.Ended || lives(s.PID) || lives(s.KeeperPID) {
		t.Errorf("after Stop: %+v", after)
	}
	if after.LastExit == nil || after.LastExit.Signal != "SIGTERM" {
		t.Errorf("last exit %+v, want SIGTERM", after.LastExit)
	}
	if err := keepers().Stop(soon(t), dir, 0); err != nil {
		t.Errorf("stopping twice: %v", err)
	}
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	dir := instance(t)
	err := keepers().Start(soon(t), dir, Spec{Name: "no", Command: []string{"/nowhere/at-all"}, Restart: true})
	if !errors.Is(err, ErrCannotStart) {
		t.Errorf("got %v, want ErrCannotStart", err)
	}
	if s := inspect(t, dir); s.Keeper || !s.Ended || s.Failure == "" {
		t.Errorf("what is left: %+v", s)
	}
}

func TestRunGivesLinesAndExitCode(t *testing.T) {
	var got []string
	exit, err := Run(context.Background(), Spec{Name: "say", Command: self("say", `a\n`, `b`)}, func(l string) { got = append(got, l) })
	if err != nil || !exit.OK() || len(got) != 2 || got[0] != "a" || got[1] != "b" {
		t.Errorf("got %q, %v, %v", got, exit, err)
	}
	exit, err = Run(context.Background(), Spec{Name: "exit", Command: self("exit", "7")}, nil)
	if err != nil || exit.Code != 7 {
		t.Errorf("got %v, %v, want code 7", exit, err)
	}
}

func TestFollowEndsWithATaskAndHasItsLastLine(t *testing.T) {
	dir := instance(t)
	start(t, dir, Spec{Name: "task", Command: []string{"sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.05; done; printf last"}, Env: []string{"PATH=/usr/bin:/bin"}})
	var got []string
	if err := Follow(soon(t), dir, -1, func(l Line) bool { got = append(got, l.Text); return true }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"1", "2", "3", "last"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	dir := instance(t)
	start(t, dir, Spec{Name: "one", Command: self("sleep")})
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("no longer wanted")
	_, err := Await(ctx, dir, func(Status) bool { cancel(reason); return false })
	if !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
}

func TestWhereNothingWasStarted(t *testing.T) {
	if _, err := Inspect(t.TempDir()); !errors.Is(err, ErrUnknown) {
		t.Errorf("inspect: %v", err)
	}
	for _, dir := range []string{t.TempDir(), "/nowhere/at/all"} {
		if err := keepers().Stop(soon(t), dir, 0); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
}

func TestASecondKeeperIsRefused(t *testing.T) {
	dir := instance(t)
	spec := Spec{Name: "one", Command: self("sleep", dir), Restart: true}
	start(t, dir, spec)
	raw, err := spec.encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := Keep(soon(t), dir, bytes.NewReader(raw)); !errors.Is(err, ErrKept) {
		t.Errorf("got %v", err)
	}
	if n := copies(dir); n != 1 {
		t.Errorf("%d copies run", n)
	}
}

// Only what was never written may be dropped from memory: relocated pages would come back as they were in the file.
func TestOnlyCleanPagesAreDropped(t *testing.T) {
	const smaps = "00400000-00500000 r-xp 00000000 fe:00 1 /bin/lotse\nRss: 4 kB\nAnonymous:             0 kB\n" +
		"00500000-00501000 r--p 00100000 fe:00 1 /bin/lotse\nAnonymous:             4 kB\n" +
		"00501000-00502000 rw-p 00101000 fe:00 1 /bin/lotse\nAnonymous:             0 kB\n" +
		"00600000-00601000 r-xp 00101000 fe:00 1 /lib/other\nAnonymous:             0 kB\n" +
		"00700000-00701000 r--p 00000000 00:00 0\nAnonymous:             0 kB\n"
	got := cleanRanges(smaps, "/bin/lotse")
	if want := []addresses{{0x400000, 0x500000}}; !slices.Equal(got, want) {
		t.Errorf("got %x", got)
	}
}

package process

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

func TestStartTwiceIsOneProcess(t *testing.T) {
	dir := instance(t)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := keepers().Start(soon(t), dir, Spec{Name: "one", Command: self("sleep", dir), Restart: true}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := copies(dir); n != 1 {
		t.Errorf("%d copies run", n)
	}
}

// copies counts the processes that have dir as their last argument and are not keepers.
func copies(dir string) int {
	n := 0
	for _, s := range processes() {
		raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.pid))
		args := strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
		if !s.dead() && len(args) > 2 && args[1] == "child" && args[len(args)-1] == dir {
			n++
		}
	}
	return n
}

func TestKilledInstanceIsBackWithinASecond(t *testing.T) {
	dir := instance(t)
	first := start(t, dir, Spec{Name: "one", Command: self("sleep", dir), Restart: true})
	began := time.Now()
	kill(t, first.PID)
	again := await(t, dir, "a second life", func(s Status) bool { return s.Process && s.PID != first.PID })
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %s", took)
	}
	if again.Restarts != 1 || again.LastExit == nil || again.LastExit.Signal != "SIGKILL" || again.KeeperPID != first.KeeperPID {
		t.Errorf("status %+v, exit %v", again, again.LastExit)
	}
}

// What is written while there is no keeper must be there, masked, in order and once, after a new one has come.
func TestKilledKeeperIsReplacedAndItsProcessAdopted(t *testing.T) {
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			dir := instance(t)
			limit := filepath.Join(t.TempDir(), "limit")
			allow := func(n int) { os.WriteFile(limit, fmt.Append(nil, n), 0o644) }
			spec := Spec{Name: "one", Command: self("count", limit), Restart: true}
			allow(100)
			first := start(t, dir, spec)
			eventually(t, "100 lines", func() bool { return len(texts(t, dir)) == 100 })
			kill(t, first.KeeperPID)
			await(t, dir, "the keeper's death", func(s Status) bool { return !s.Keeper })
			allow(1000)
			if s := inspect(t, dir); !s.Process || s.Ended {
				t.Fatalf("the process died with its keeper: %+v", s)
			}
			// The order to stop is not the only way: the controller comes back and starts what it knows.
			second := start(t, dir, spec)
			if second.PID != first.PID || !second.Adopted || second.KeeperPID == first.KeeperPID || second.Restarts != 0 {
				t.Fatalf("first %+v\nsecond %+v", first, second)
			}
			allow(2000)
			eventually(t, "2000 lines", func() bool { return len(texts(t, dir)) >= 2000 })
			for i, text := range texts(t, dir) {
				if text != fmt.Sprintf("line %d", i+1) {
					t.Fatalf("line %d is %q", i+1, text)
				}
			}
			kill(t, second.PID)
			third := await(t, dir, "a restart by the new keeper", func(s Status) bool { return s.Process && s.PID != second.PID })
			if third.LastExit == nil || !third.LastExit.Unknown || third.Adopted {
				t.Errorf("third %+v, exit %v", third, third.LastExit)
			}
		})
	}
}

func TestOutputIsMaskedAlsoAfterAdoption(t *testing.T) {
	dir := instance(t)
	gate := filepath.Join(t.TempDir(), "gate")
	const value = "hunter2-correct-horse"
	script := `echo "a ` + value + ` b"; while [ ! -e "$0" ]; do sleep 0.01; done; printf 'c hunter2-cor'; sleep 0.05; echo 'rect-horse d'; while :; do sleep 1; done`
	spec := Spec{Name: "one", Command: []string{"/bin/sh", "-c", script, gate}, Env: []string{"PATH=/usr/bin:/bin"},
		Mask: []secret.Text{secret.New(value)}, Restart: true}
	first := start(t, dir, spec)
	eventually(t, "a first line", func() bool { return len(texts(t, dir)) == 1 })
	kill(t, first.KeeperPID)
	await(t, dir, "the keeper's death", func(s Status) bool { return !s.Keeper })
	os.WriteFile(gate, nil, 0o644)
	start(t, dir, spec)
	eventually(t, "a second line", func() bool { return len(texts(t, dir)) == 2 })
	if got, want := texts(t, dir), []string{"a ••• b", "c ••• d"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	// Nothing that is on disk may hold the value, nor may the command line or the environment of the keeper.
	files, _ := filepath.Glob(dir + "/*")
	keeper := inspect(t, dir).KeeperPID
	files = append(files, fmt.Sprintf("/proc/%d/environ", keeper), fmt.Sprintf("/proc/%d/cmdline", keeper))
	for _, f := range files {
		if filepath.Base(f) == fifoName {
			continue
		}
		if raw, _ := os.ReadFile(f); strings.Contains(string(raw), value) && filepath.Base(f) != "cmdline" {
			t.Errorf("%s holds the value", filepath.Base(f))
		}
	}
}

func TestBothKilledAreBothStarted(t *testing.T) {
	dir := instance(t)
	spec := Spec{Name: "one", Command: self("sleep", dir), Restart: true}
	first := start(t, dir, spec)
	kill(t, first.KeeperPID)
	await(t, dir, "the keeper's death", func(s Status) bool { return !s.Keeper })
	kill(t, first.PID)
	await(t, dir, "the process's death", func(s Status) bool { return !s.Process })
	second := start(t, dir, spec)
	if second.PID == first.PID || !second.Process || second.Adopted || second.Restarts != 1 || second.LastExit == nil || !second.LastExit.Unknown {
		t.Errorf("second %+v", second)
	}
	if n := copies(dir); n != 1 {
		t.Errorf("%d copies run", n)
	}
}

// The state of a keeper that could not save (a full disk) names a process that is gone, while another one runs: it must not
// become the first of two.
func TestALostProcessIsNotLeftBesideANewOne(t *testing.T) {
	for _, command := range []string{"keep", "keep-without-cgroup"} {
		t.Run(command, func(t *testing.T) {
			dir := instance(t)
			k := &Keepers{Command: []string{exe(), command}}
			spec := Spec{Name: "one", Command: self("sleep", dir), Restart: true}
			if err := k.Start(soon(t), dir, spec); err != nil {
				t.Fatal(err)
			}
			s, err := readState(dir)
			if err != nil {
				t.Fatal(err)
			}
			kill(t, s.Keeper.PID)
			await(t, dir, "the keeper's death", func(s Status) bool { return !s.Keeper })
			lost := s.Process
			s.Process.Ticks--
			if err := s.save(dir); err != nil {
				t.Fatal(err)
			}
			if err := k.Start(soon(t), dir, spec); err != nil {
				t.Fatal(err)
			}
			if lost.alive() || copies(dir) != 1 {
				t.Errorf("the lost one is alive: %v; %d copies", lost.alive(), copies(dir))
			}
		})
	}
}

// A pid that was given to somebody else must neither be adopted nor killed.
func TestAStrangerWithOurPIDIsLeftAlone(t *testing.T) {
	stranger := startChild(t, "sleep")
	dir := instance(t)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	id, err := identify(stranger)
	if err != nil {
		t.Fatal(err)
	}
	id.Ticks--
	s := state{Phase: running, Process: id, Marker: "nobody", Keeper: identity{PID: 1 << 22}}
	if err := s.save(dir); err != nil {
		t.Fatal(err)
	}
	if got := inspect(t, dir); got.Process {
		t.Error("the stranger is taken for the process")
	}
	after := start(t, dir, Spec{Name: "one", Command: self("sleep", dir), Restart: true})
	if after.PID == stranger || after.Adopted {
		t.Errorf("the stranger was adopted: %+v", after)
	}
	if err := keepers().Stop(soon(t), dir, 0); err != nil {
		t.Fatal(err)
	}
	if !lives(stranger) {
		t.Error("the stranger was killed")
	}
}

func TestListenersOutliveTheProcessAndTheKeeper(t *testing.T) {
	dir := instance(t)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	address := "127.0.0.1:" + strconv.Itoa(freePort(t))
	socket := filepath.Join(dir, strings.Repeat("long", 30), "s")
	if err := os.Mkdir(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	spec := Spec{Name: "proxy", Command: self("serve", socket), Restart: true, Listen: []string{"tcp://" + address}, Handover: socket}
	first := start(t, dir, spec)
	answer := func(want int) {
		t.Helper()
		got, err := ask(address)
		if err != nil || got != strconv.Itoa(want) {
			t.Fatalf("got %q, %v, want %d", got, err, want)
		}
	}
	answer(first.PID)

	kill(t, first.PID) // the connection waits in the queue that the keeper holds
	got, err := ask(address)
	if err != nil {
		t.Fatalf("while it was restarted: %v", err)
	}
	second := await(t, dir, "a restart", func(s Status) bool { return s.Process && s.PID != first.PID })
	if got != strconv.Itoa(second.PID) {
		t.Errorf("answered by %s, want %d", got, second.PID)
	}

	kill(t, second.KeeperPID)
	await(t, dir, "the keeper's death", func(s Status) bool { return !s.Keeper })
	answer(second.PID)
	third := start(t, dir, spec)
	if third.PID != second.PID {
		t.Fatalf("second %+v third %+v", second, third)
	}
	await(t, dir, "the listeners back", func(s Status) bool { return s.Listening })

	kill(t, third.PID)
	if _, err := ask(address); err != nil {
		t.Fatalf("with a keeper that got them back: %v", err)
	}
}

func TestStopWithoutAKeeper(t *testing.T) {
	dir := instance(t)
	first := start(t, dir, Spec{Name: "one", Command: self("stubborn"), Restart: true})
	eventually(t, "that it ignores SIGTERM", func() bool { return slices.Contains(texts(t, dir), "stubborn") })
	kill(t, first.KeeperPID)
	await(t, dir, "the keeper's death", func(s Status) bool { return !s.Keeper })
	if err := keepers().Stop(soon(t), dir, 50*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if s := inspect(t, dir); s.Process || !s.Ended || lives(first.PID) {
		t.Errorf("left: %+v", s)
	}
}

func TestAControllerThatIsGoneIsNoMatter(t *testing.T) {
	dir := instance(t)
	ctx, cancel := context.WithCancel(context.Background())
	if err := keepers().Start(ctx, dir, Spec{Name: "one", Command: self("sleep"), Restart: true}); err != nil {
		t.Fatal(err)
	}
	cancel() // of the Start, which is over
	s := inspect(t, dir)
	if stat, err := readStat(s.KeeperPID); err != nil || stat.session != s.KeeperPID {
		t.Errorf("the keeper is not in a session of its own: %+v, %v", stat, err)
	}
	if stat, err := readStat(s.PID); err != nil || stat.session != s.PID || stat.ppid != s.KeeperPID {
		t.Errorf("the process is not in a session of its own: %+v, %v", stat, err)
	}
}

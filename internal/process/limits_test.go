package process

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// forEverybody copies the test binary to where another user may execute it.
func forEverybody(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lotse")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	from, err := os.Open(exe())
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := os.OpenFile(filepath.Join(dir, "program"), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(to, from); err != nil {
		t.Fatal(err)
	}
	if err := to.Close(); err != nil {
		t.Fatal(err)
	}
	return to.Name()
}

// Kept or run, a process gets the numeric user, nobody else's groups, no way up, no file of ours, and a session of its own.
func TestAProcessHasNoRightsButItsOwn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: dropping the user needs root")
	}
	leaked, err := unix.Open(os.DevNull, unix.O_RDONLY, 0) // without close-on-exec
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leaked)
	old := unix.Umask(0)
	defer unix.Umask(old)
	groups, err := unix.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setgroups([]int{0, 4}); err != nil { // something to lose
		t.Fatal(err)
	}
	defer syscall.Setgroups(groups)
	spec := Spec{Name: "who", Command: []string{forEverybody(t), "child", "who"}, User: &User{UID: 54321, GID: 54322}, Dir: "/"}
	want := []string{"uid=54321 gid=54322 groups=[] no_new_privs=1 umask=022 leader=true dev_stdout=<nil>"}
	var got []string
	if _, err := Run(t.Context(), spec, func(l string) { got = append(got, l) }); err != nil || !slices.Equal(got, want) {
		t.Errorf("run: got %q, %v", got, err)
	}
	dir := instance(t)
	start(t, dir, spec)
	await(t, dir, "the end", func(s Status) bool { return s.Ended && !s.Keeper })
	if got := texts(t, dir); !slices.Equal(got, want) {
		t.Errorf("kept: got %q", got)
	}
	if now := unix.Umask(0); now != 0 {
		t.Errorf("our own umask became %03o", now)
	}
	if privs, _ := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); privs != 0 {
		t.Error("our own thread lost its privileges")
	}
}

func TestAnotherUserNeedsRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("NOT RUN: as root another user is fine")
	}
	_, err := Run(t.Context(), Spec{Name: "who", Command: self("exit", "0"), User: &User{UID: 1, GID: 1}}, nil)
	if err == nil || !strings.Contains(err.Error(), "as user 1") {
		t.Errorf("got %v", err)
	}
}

func TestLimitsHoldWhereTheControllersAre(t *testing.T) {
	limits := Limits{MemoryBytes: 64 << 20, CPUs: 0.5, PIDs: 20}
	dir := instance(t)
	s := start(t, dir, Spec{Name: "limited", Command: self("sleep"), Limits: limits, Restart: true})
	home := cgroupHome()
	has := []string{}
	if home != "" {
		has = subtree(home)
	}
	for _, l := range limits.settings() {
		there := slices.Contains(has, l.controller)
		if slices.Contains(s.Unlimited, l.controller) == there {
			t.Errorf("%s: the controller is there: %v, but Unlimited says %v", l.controller, there, s.Unlimited)
		}
		if !there {
			continue
		}
		state, err := readState(dir)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(state.Cgroup, l.file))
		if err != nil || strings.TrimSpace(string(raw)) != l.value {
			t.Errorf("%s is %q, %v", l.file, raw, err)
		}
	}
	if len(has) < 3 {
		t.Skipf("NOT RUN: that a process beyond its limits is held back: of cpu, memory and pids, cgroup v2 has %v here", has)
	}
}

func TestLimitsInTheWordsOfCgroups(t *testing.T) {
	got := fmt.Sprint(Limits{MemoryBytes: 1 << 20, CPUs: 1.5, PIDs: 7}.settings())
	if want := "[{cpu cpu.max 150000 100000} {memory memory.max 1048576} {pids pids.max 7}]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if n := len(Limits{}.settings()); n != 0 {
		t.Errorf("no limits are %d settings", n)
	}
}

func TestAbilitiesAgreeWithWhatHappens(t *testing.T) {
	named := map[string]Ability{}
	for _, a := range Abilities() {
		if a.Detail == "" {
			t.Errorf("%s says nothing", a.Name)
		}
		named[a.Name] = a
	}
	if named["cgroup"].OK != (cgroupHome() != "") || !named["pidfd"].OK {
		t.Errorf("got %+v", named)
	}
}

func TestBackoff(t *testing.T) {
	var got []time.Duration
	for quick := range 10 {
		got = append(got, backoff(quick))
	}
	ms := time.Millisecond
	want := []time.Duration{0, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms, 10 * time.Second, 10 * time.Second}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if backoff(1_000_000) != 10*time.Second {
		t.Error("it overflows")
	}
}

// A process that ends at once is tried again and again, but not in a circle without pause.
func TestAProcessThatAlwaysEndsIsStartedWithPauses(t *testing.T) {
	dir := instance(t)
	start(t, dir, Spec{Name: "crash", Command: self("exit", "3"), Restart: true})
	began := time.Now()
	s := await(t, dir, "four restarts", func(s Status) bool { return s.Restarts >= 4 })
	if took := time.Since(began); took < 600*time.Millisecond { // 0 + 0.1 + 0.2 + 0.4, less what was over before we looked
		t.Errorf("four restarts took %s", took)
	}
	if s.LastExit == nil || s.LastExit.Code != 3 || s.Ended {
		t.Errorf("status %+v, exit %v", s, s.LastExit)
	}
}

// Without Restart the end of the process is the end of its keeper, and Start begins afresh.
func TestATaskEndsWithItsKeeper(t *testing.T) {
	dir := instance(t)
	spec := Spec{Name: "task", Command: self("exit", "3")}
	for range 2 {
		start(t, dir, spec)
		s := await(t, dir, "the end", func(s Status) bool { return s.Ended && !s.Keeper })
		if s.LastExit == nil || s.LastExit.Code != 3 || s.Restarts != 0 {
			t.Errorf("status %+v, exit %v", s, s.LastExit)
		}
	}
}

func TestATakenAddressIsSaid(t *testing.T) {
	dir := instance(t)
	port := freePort(t)
	busy, err := listen(t.Context(), "tcp://127.0.0.1:"+strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	err = keepers().Start(soon(t), dir, Spec{Name: "p", Command: self("sleep"), Listen: []string{"tcp://127.0.0.1:" + strconv.Itoa(port)}})
	if err == nil || !strings.Contains(err.Error(), "address already in use") || inspect(t, dir).Keeper {
		t.Errorf("got %v", err)
	}
}

// memoryOf reads VmRSS, in KiB.
func memoryOf(t *testing.T, pid int) int {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			return kib
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

func TestAKeeperAtRestIsSmall(t *testing.T) {
	if underRace {
		t.Skip("NOT RUN: the race detector costs more memory than is to be measured; go test without -race runs it")
	}
	dir := instance(t)
	s := start(t, dir, Spec{Name: "small", Command: []string{"/bin/sh", "-c", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done; exec sleep 1000"},
		Env: []string{"PATH=/usr/bin:/bin"}, Restart: true})
	eventually(t, "all output", func() bool {
		lines, err := Lines(dir, 1)
		return err == nil && len(lines) == 1 && lines[0].Text == "line 19999"
	})
	kib := memoryOf(t, s.KeeperPID)
	t.Logf("a keeper has %d KiB resident after 20,000 lines", kib)
	if kib > 10<<10 {
		t.Errorf("a keeper has %d KiB resident", kib)
	}
}

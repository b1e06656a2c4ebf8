package e2e_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setting is one of the unit that `lotse install` would write; several of one name are joined.
func setting(unit, name string) string {
	var all []string
	for line := range strings.Lines(unit) {
		if value, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), name+"="); ok {
			all = append(all, value)
		}
	}
	return strings.Join(all, " ")
}

// sandboxed is a machine whose controller has no more than the unit gives it: capabilities, no_new_privs, what it may write to, and
// whose processes it sees. Of the filter of system calls it has what is known to be missed: see execLacking. Cgroups below the unit's are
// NOT RUN here: only systemd makes them.
func sandboxed(t *testing.T, without string) *machine {
	t.Helper()
	needsRoot(t, "that the unit of systemd gives a controller what it needs")
	m := machineIn(t, folderIn(t, "/srv")) // neither /tmp nor the state folder: read-only
	m.https, m.http = lowPort(t, 600), lowPort(t, 800)
	unit := m.must(m.work, "install", "--print")
	if err := os.Mkdir(m.state, 0o711); err != nil {
		t.Fatal(err)
	}
	caps := slices.DeleteFunc(strings.Fields(setting(unit, "CapabilityBoundingSet")), func(c string) bool { return c == without })
	for i, c := range caps {
		caps[i] = "+" + strings.ToLower(strings.TrimPrefix(c, "CAP_"))
	}
	writable := strings.Fields(setting(unit, "ReadWritePaths"))
	for name, want := range map[string]string{"NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectProc": "invisible"} {
		if setting(unit, name) != want {
			t.Fatalf("the unit has %s=%s, and this test is of %s", name, setting(unit, name), want)
		}
	}
	if len(caps) == 0 || !slices.Contains(writable, m.state) {
		t.Fatalf("of the unit were read the capabilities %v and the paths %v:\n%s", caps, writable, unit)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := "set -e\n"
	for _, path := range writable {
		script += fmt.Sprintf("mount --bind %s %s\n", path, path)
	}
	script += `mount -o remount,bind,ro /
mount -t proc -o hidepid=invisible,nosuid,nodev,noexec proc /proc
exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,` + strings.Join(caps, ",") + " " + self + " " + lacking + ` "$@"`
	m.under = []string{"unshare", "--mount", "--propagation", "private", "sh", "-c", script, "sh"}
	if out, err := exec.Command(m.under[0], append(m.under[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: that the unit of systemd gives a controller what it needs: no such sandbox can be had here: %v\n%s", err, out)
	}
	return m
}

// lacking makes this program run another one that lacks system calls.
const lacking = "lacking-system-calls"

// execLacking becomes another program to which the kernel seems to have no clone3 and no fchmodat2. A unit with RestrictNamespaces= has
// no clone3, and one with SystemCallFilter= lacks what is newer than its systemd. These are the calls which a deploy made, under strace,
// that the filter of systemd 252 does not let through (but for pkey_alloc of V8, which takes an error).
func execLacking(argv []string) error {
	runtime.LockOSThread()
	const load, equal, answer = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{
		{Code: load, K: 0}, // seccomp_data.nr, seccomp(2)
		{Code: equal, K: unix.SYS_CLONE3, Jt: 2},
		{Code: equal, K: unix.SYS_FCHMODAT2, Jt: 1},
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("install the filter of system calls: %w", err)
	}
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return err
	}
	return syscall.Exec(path, argv, os.Environ())
}

func needsRoot(t *testing.T, what string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: " + what + ": this test is not run as root")
	}
}

// lowPort is one for which a process needs a right.
func lowPort(t *testing.T, from int) int {
	t.Helper()
	for port := from; port < from+200; port++ {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatalf("none of 200 ports from %d is free", from)
	return 0
}

// A deploy, a database, a second release under load, a death of the controller and one of an instance, a release that cannot start, and
// the end of it all, with what the unit gives and nothing more.
func TestUnitIsEnough(t *testing.T) {
	m := sandboxed(t, "")
	m.serve()
	m.isSandboxed(t)
	repo := m.repository(map[string]string{"lotse.yaml": m.roadFile(ownDatabase), "release.txt": "0\n", "db/1_places.sql": "CREATE TABLE places (name text);\n"})
	m.must(repo, "deploy")
	if got := m.sql("dev", "SELECT count(*) FROM places"); got != "0" {
		t.Errorf("the database says %q", got)
	}
	m.must(repo, "promote", "staging")

	plan := m.plan(hostOf("dev"))
	plan.Gets, plan.Fresh, plan.Uploads = 4, 2, 1
	h := m.loaded(plan)
	m.commit(repo, map[string]string{"release.txt": "1\n"})
	m.must(repo, "deploy")
	m.killController()
	m.serve()
	h.Kill(func() { m.kill("instance " + m.instances()[0]) })
	m.more(h, 200)
	if r := h.Stop(); r.Failed != 0 {
		t.Errorf("%d requests failed: %s", r.Failed, r.Summary())
	}
	m.whereItListens(t)
}

// isSandboxed looks at the controller itself.
func (m *machine) isSandboxed(t *testing.T) {
	t.Helper()
	pid := m.controller.Process.Pid // unshare, sh and setpriv have become it
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mounts", pid))
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`(?m)^NoNewPrivs:\s*1$`).Match(status) || !regexp.MustCompile(`(?m)^Seccomp:\s*2$`).Match(status) || regexp.MustCompile(`(?m)^CapBnd:\s*000001ffffffffff$`).Match(status) {
		t.Errorf("it has rights that it should not have:\n%s", status)
	}
	if !regexp.MustCompile(`(?m)^\S+ / \S+ ro[, ]`).Match(mounts) {
		t.Errorf("it may write anywhere:\n%s", mounts)
	}
}

// whereItListens makes a mistake whose message needs a look at the sockets of another user's process.
func (m *machine) whereItListens(t *testing.T) {
	t.Helper()
	repo := m.repository(map[string]string{"release.txt": "0\n",
		"lotse.yaml": m.appFile("bin/app wrongport", 1, quick, "start: 3s")})
	if r := m.lotse(repo, "deploy"); r.code != 1 || !listensElsewhere.MatchString(r.err) {
		t.Errorf("exit code %d:\n%s", r.code, r.err)
	}
}

var listensElsewhere = regexp.MustCompile(`; it listens on [0-9]`)

// Each capability of the unit is there for something: without it, one of these fails.
func TestEveryCapabilityIsNeeded(t *testing.T) {
	if !proving() {
		t.Skip("NOT RUN: that every capability of the unit is needed: `make prove` does")
	}
	needsRoot(t, "that every capability of the unit is needed")
	probe := machineIn(t, folder(t))
	for c := range strings.FieldsSeq(setting(probe.must(probe.work, "install", "--print"), "CapabilityBoundingSet")) {
		t.Run(c, func(t *testing.T) {
			m := sandboxed(t, c)
			why := m.fails()
			t.Logf("without %s: %s", c, why)
			if why == "" {
				t.Errorf("nothing fails without %s", c)
			}
		})
	}
}

// fails says what does not work: to start, to deploy with a database, to say where an app listens, to end what is stubborn.
func (m *machine) fails() string {
	argv := append(slices.Clone(m.under), m.bin.lotse, "serve", "--state", m.state, "--https", strconv.Itoa(m.https), "--http", strconv.Itoa(m.http))
	var said strings.Builder
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stderr = &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err.Error()
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-ended
	}()
	for limit := time.After(30 * time.Second); ; {
		if _, err := m.api.Ping(m.t.Context()); err == nil {
			break
		}
		select {
		case <-ended:
			return "the controller ends: " + said.String()
		case <-limit:
			return "the controller does not answer"
		case <-time.After(20 * time.Millisecond):
		}
	}
	sticky := strings.Replace(m.roadFile(ownDatabase), "mkdir -p bin", "mkdir -m 1777 sticky && touch sticky/file && mkdir -p bin", 1)
	repo := m.repository(map[string]string{"lotse.yaml": strings.ReplaceAll(sticky, "drain: 15s", "drain: 40s"), "release.txt": "0\n",
		"db/1_places.sql": "CREATE TABLE places (name text);\n"})
	var old []string
	for _, text := range []string{"0\n", "1\n"} {
		old = m.instances()
		m.commit(repo, map[string]string{"release.txt": text})
		if r := m.lotse(repo, "deploy"); r.code != 0 {
			return r.err
		}
	}
	bad := m.repository(map[string]string{"release.txt": "0\n",
		"lotse.yaml": m.appFile("bin/app wrongport", 1, quick, "start: 3s")})
	if r := m.lotse(bad, "deploy"); !listensElsewhere.MatchString(r.err) {
		return r.err
	}
	return m.leftAfter(10*time.Second, old)
}

// leftAfter says what should have ended or gone by itself: instances of a release that has cooled off end at the first signal, and
// checkouts are removed, whatever steps make in them.
func (m *machine) leftAfter(d time.Duration, old []string) string {
	limit := time.After(d)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		now := m.instances()
		trash, _ := filepath.Glob(filepath.Join(m.state, "pipeline", "work", "trash-*")) // the only error is a bad pattern
		if len(trash) == 0 && !slices.ContainsFunc(old, func(name string) bool { return slices.Contains(now, name) }) {
			return ""
		}
		select {
		case <-limit:
			return fmt.Sprintf("still there after %s: the instances %v, of which should be gone %v; the checkouts %v", d, now, old, trash)
		case <-tick.C:
		}
	}
}

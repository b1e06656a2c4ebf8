package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// running is one process of a machine, and what it is: "controller", "proxy", "keeper X", "instance X" or "other".
type running struct {
	pid int
	is  string
}

const proxyKeeper = "keeper proxy"

// processes finds everything that runs below the state folder, by what the kernel says: the words of its command, the folder it is
// in and its environment. What our own records say of it is not asked.
func (m *machine) processes() []running {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		m.t.Fatal(err)
	}
	var all []running
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if is := m.identify(filepath.Join("/proc", e.Name())); is != "" {
			all = append(all, running{pid, is})
		}
	}
	return all
}

func (m *machine) identify(proc string) string {
	command, err := os.ReadFile(filepath.Join(proc, "cmdline"))
	if err != nil || len(command) == 0 { // gone, or a zombie
		return ""
	}
	words := strings.Split(strings.TrimRight(string(command), "\x00"), "\x00")
	switch {
	case words[0] == m.bin.lotse && len(words) > 1 && !slices.ContainsFunc(words, m.below):
		return "" // of another machine, or a command that the test itself runs
	case words[0] == m.bin.lotse && words[1] == "serve":
		return "controller"
	case words[0] == m.bin.lotse && words[1] == "proxy":
		return "proxy"
	case words[0] == m.bin.lotse && words[1] == "keep" && words[2] == filepath.Join(m.state, "proxy", "keeper"):
		return proxyKeeper
	case words[0] == m.bin.lotse && words[1] == "keep":
		return "keeper " + filepath.Base(words[2])
	}
	dir, err := os.Readlink(filepath.Join(proc, "cwd"))
	if err != nil || !m.below(dir) {
		return ""
	}
	if home := variable(proc, "HOME"); m.below(home) && filepath.Base(filepath.Dir(home)) == "homes" {
		return "instance " + filepath.Base(home)
	}
	return "other " + strings.Join(words, " ")
}

func (m *machine) below(path string) bool {
	return path == m.state || strings.HasPrefix(path, m.state+"/")
}

func variable(proc, name string) string {
	raw, err := os.ReadFile(filepath.Join(proc, "environ"))
	if err != nil {
		return ""
	}
	for kv := range bytes.SplitSeq(raw, []byte{0}) {
		if value, ok := bytes.CutPrefix(kv, []byte(name+"=")); ok {
			return string(value)
		}
	}
	return ""
}

// census counts what runs.
func (m *machine) census() census {
	c := census{}
	for _, p := range m.processes() {
		c[p.is]++
	}
	return c
}

type census map[string]int

func (c census) String() string {
	var b strings.Builder
	for _, is := range slices.Sorted(maps.Keys(c)) {
		fmt.Fprintf(&b, "%d× %s; ", c[is], is)
	}
	return b.String()
}

// whole is what is to run when these instances serve: one of each, and nothing else.
func whole(instances ...string) census {
	c := census{"controller": 1, "proxy": 1, proxyKeeper: 1}
	for _, i := range instances {
		c["instance "+i], c["keeper "+i] = 1, 1
	}
	return c
}

// awaitCensus waits until exactly this runs, and goes on doing so for a second: a second copy that would come has come by then.
func (m *machine) awaitCensus(want census) {
	m.t.Helper()
	var since time.Time
	m.await("exactly one of everything runs: "+want.String(), 60*time.Second, func() bool {
		if !maps.Equal(m.census(), want) {
			since = time.Time{}
			return false
		}
		if since.IsZero() {
			since = time.Now()
		}
		return time.Since(since) > time.Second
	})
}

// pidOf is the process id of the one process of this kind.
func (m *machine) pidOf(is string) int {
	m.t.Helper()
	var found []int
	for _, p := range m.processes() {
		if p.is == is {
			found = append(found, p.pid)
		}
	}
	if len(found) != 1 {
		m.t.Fatalf("%d processes are %s\n%s", len(found), is, m.census())
	}
	return found[0]
}

// kill ends one process without warning and returns when the kernel has closed all that it had open: only then is its pidfd
// readable (pidfd_open(2)).
func (m *machine) kill(is string) {
	m.t.Helper()
	if is == "controller" {
		m.killController()
		return
	}
	m.end(running{m.pidOf(is), is})
}

// end does that to a process that may be gone already.
func (m *machine) end(p running) {
	m.t.Helper()
	fd, err := unix.PidfdOpen(p.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		m.t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		m.t.Fatal(err)
	}
	m.await(p.is+" is dead", 10*time.Second, func() bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n == 1 && err == nil
	})
}

// instances are the names of what runs of the app now, in order.
func (m *machine) instances() []string {
	var names []string
	for is := range m.census() {
		if name, ok := strings.CutPrefix(is, "instance "); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

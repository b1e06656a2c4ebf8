package process

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// controllerGroup is where our unit of systemd has the controller, and with it all keepers: beside the cgroups of the instances and
// not above them (DelegateSubgroup=, systemd.resource-control(5)). A cgroup that passes limits on to others may hold no process.
const controllerGroup = "lotse-controller"

// cgroupHome is the directory below which ours are made, or "" where none can be made.
func cgroupHome() string {
	mount := cgroupMount()
	if mount == "" {
		return ""
	}
	base, limits := cgroupBase(ownCgroup(), os.Geteuid() == 0)
	return makeHome(filepath.Join(mount, base), limits)
}

// cgroupBase is where home is to be, and whether limits can be passed on there. In our unit of systemd that is the cgroup which was
// delegated to it. Else root takes the top of the hierarchy, so that a tree does not end with the service that has started it. Others
// take the cgroup they are in, which is theirs when it was delegated to them; they must not pass limits on: systemd could then start
// nothing in it any more, not even the next controller.
func cgroupBase(own string, root bool) (base string, limits bool) {
	switch {
	case filepath.Base(own) == controllerGroup:
		return filepath.Dir(own), true
	case root:
		return "/", true
	}
	return own, false
}

func makeHome(base string, limits bool) string {
	home := filepath.Join(base, "lotse")
	if err := os.Mkdir(home, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return ""
	}
	if unix.Access(home, unix.W_OK) != nil {
		return ""
	}
	if !limits {
		return home
	}
	// Each controller alone: one that cannot be had must not cost the others.
	for _, c := range controllers(base) {
		_ = os.WriteFile(filepath.Join(base, "cgroup.subtree_control"), []byte("+"+c), 0)
		_ = os.WriteFile(filepath.Join(home, "cgroup.subtree_control"), []byte("+"+c), 0)
	}
	return home
}

// cgroupMount finds where the v2 hierarchy is mounted.
func cgroupMount() string {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if strings.HasPrefix(after, "cgroup2 ") && len(fields) > 4 {
			return fields[4]
		}
	}
	return ""
}

// ownCgroup is the path of this process in the v2 hierarchy.
func ownCgroup() string {
	raw, _ := os.ReadFile("/proc/self/cgroup")
	for line := range strings.Lines(string(raw)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path
		}
	}
	return "/"
}

// controllers lists those of cpu, memory and pids that a cgroup has.
func controllers(dir string) []string { return controllersIn(filepath.Join(dir, "cgroup.controllers")) }

// subtree lists those that a cgroup passes on to the ones below it.
func subtree(dir string) []string { return controllersIn(filepath.Join(dir, "cgroup.subtree_control")) }

func controllersIn(file string) []string {
	raw, _ := os.ReadFile(file) // not there, none
	var ours []string
	for c := range strings.FieldsSeq(string(raw)) {
		if slices.Contains([]string{"cpu", "memory", "pids"}, c) {
			ours = append(ours, c)
		}
	}
	return ours
}

// cgroupName makes a directory name that is readable and, by where, unique.
func cgroupName(name, where string) string {
	readable := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '-'
	}, name)
	sum := sha256.Sum256([]byte(where))
	return readable[:min(len(readable), 60)] + "-" + hex.EncodeToString(sum[:6])
}

// makeCgroup makes the cgroup and sets its limits. It returns "" where there can be none, and the limits that do not hold.
func makeCgroup(home, name string, limits Limits) (dir string, unlimited []string, err error) {
	asked := limits.settings()
	if home != "" {
		dir = filepath.Join(home, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			dir = ""
		}
	}
	for _, s := range asked {
		if dir == "" || !slices.Contains(controllers(dir), s.controller) {
			unlimited = append(unlimited, s.controller)
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, s.file), []byte(s.value), 0); err != nil {
			return "", nil, fmt.Errorf("limit %s to %s: %w", s.controller, s.value, err)
		}
	}
	return dir, unlimited, nil
}

type setting struct{ controller, file, value string }

// settings are the files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst) that hold the limits.
func (l Limits) settings() []setting {
	var s []setting
	if l.CPUs > 0 {
		const period = 100_000 // µs, the kernel's default
		s = append(s, setting{"cpu", "cpu.max", fmt.Sprintf("%d %d", max(1000, int64(l.CPUs*period)), period)})
	}
	if l.MemoryBytes > 0 {
		s = append(s, setting{"memory", "memory.max", strconv.FormatInt(l.MemoryBytes, 10)})
	}
	if l.PIDs > 0 {
		s = append(s, setting{"pids", "pids.max", strconv.Itoa(l.PIDs)})
	}
	return s
}

// cgroupMembers lists who is alive in a cgroup and those below it.
func cgroupMembers(dir string) []identity {
	boot := bootID()
	var found []identity
	for _, d := range cgroupDirs(dir) {
		raw, _ := os.ReadFile(filepath.Join(d, "cgroup.procs")) // gone is empty
		for field := range strings.FieldsSeq(string(raw)) {
			pid, err := strconv.Atoi(field)
			if err != nil {
				continue
			}
			if s, err := readStat(pid); err == nil && !s.dead() {
				found = append(found, identity{pid, s.ticks, boot})
			}
		}
	}
	return found
}

// cgroupDirs lists a cgroup and all below it, parents first.
func cgroupDirs(dir string) []string {
	dirs := []string{dir}
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, cgroupDirs(filepath.Join(dir, e.Name()))...)
		}
	}
	return dirs
}

// cgroupKill ends all members at one instant (Linux 5.14).
func cgroupKill(dir string) error {
	return os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
}

func cgroupRemove(dir string) error {
	dirs := cgroupDirs(dir)
	for _, d := range slices.Backward(dirs) {
		if err := unix.Rmdir(d); err != nil && err != unix.ENOENT {
			return err
		}
	}
	return nil
}

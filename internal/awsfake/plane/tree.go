package plane

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// mark is the variable by which processes of an instance are known, beside their parents and their working folder.
const mark = "PLANE_INSTANCE"

// processes returns the pids of everything that belongs to the instance, as systemd's control group would know them: what
// descends from its processes, what carries its mark, and what works or lies below its folder (a process may leave its
// parent, its session and its environment, seldom its folder).
func (i *Instance) processes() []int {
	entries, _ := os.ReadDir("/proc")
	parents := map[int]int{}
	ours := map[int]bool{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		parent, alive := parentOf(pid)
		if !alive {
			continue
		}
		parents[pid] = parent
		ours[pid] = i.owns(pid)
	}
	for _, pid := range i.units() {
		ours[pid] = true
	}
	for grew := true; grew; {
		grew = false
		for pid, parent := range parents {
			if !ours[pid] && ours[parent] {
				ours[pid], grew = true, true
			}
		}
	}
	var all []int
	for pid, is := range ours {
		if _, alive := parents[pid]; is && alive {
			all = append(all, pid)
		}
	}
	slices.Sort(all)
	return all
}

// parentOf reads the parent of a process; a zombie counts as gone.
func parentOf(pid int) (parent int, alive bool) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:])) // the name before it may hold anything
	if len(fields) < 2 || fields[0] == "Z" || fields[0] == "X" {
		return 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return parent, err == nil
}

func (i *Instance) owns(pid int) bool {
	dir := "/proc/" + strconv.Itoa(pid)
	for _, link := range []string{"cwd", "exe"} {
		if to, err := os.Readlink(filepath.Join(dir, link)); err == nil && strings.HasPrefix(to, i.real+"/") {
			return true
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "environ"))
	return err == nil && slices.Contains(strings.Split(string(raw), "\x00"), mark+"="+i.real)
}

// signal sends a signal to everything that belongs to the instance.
func (i *Instance) signal(s syscall.Signal) {
	for _, pid := range i.processes() {
		_ = syscall.Kill(pid, s) // gone meanwhile
	}
}

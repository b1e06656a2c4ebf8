package process

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// markerName is the variable that marks every process of a tree that did not replace its environment.
const markerName = "LOTSE_TREE"

// tree finds and ends everything that a process has started. Where it has a cgroup, that is exact: nothing leaves a cgroup by
// forking. Elsewhere a process belongs to it that carries the marker, is in the session of the root, descends from one that
// belongs, or descends from reaper, to which the kernel gives orphans.
type tree struct {
	cgroup string   // its directory; empty when there is none
	marker string   // the value of markerName; empty before anything was started
	root   identity // the process that was started
	reaper int      // a keeper's own pid while it is a child subreaper; 0 when nobody is
}

// members lists who is alive.
func (t tree) members() []identity {
	if t.cgroup != "" {
		return cgroupMembers(t.cgroup)
	}
	boot := bootID()
	all := processes()
	byPID := make(map[int]stat, len(all))
	for _, s := range all {
		byPID[s.pid] = s
	}
	known := map[int]bool{}
	var found []identity
	for _, s := range all {
		if !s.dead() && t.owns(s, byPID, known, boot) {
			found = append(found, identity{s.pid, s.ticks, boot})
		}
	}
	return found
}

// owns decides about one process and, on the way, about its ancestors.
func (t tree) owns(s stat, all map[int]stat, known map[int]bool, boot string) bool {
	if ours, ok := known[s.pid]; ok {
		return ours
	}
	known[s.pid] = false // ends a circle, which a changing process table can seem to have
	ours := t.isRoot(s, boot) || t.inSession(s, all, boot) || t.marked(s.pid)
	if !ours && t.reaper != 0 && s.ppid == t.reaper {
		ours = true
	}
	if parent, ok := all[s.ppid]; !ours && ok && s.ppid > 1 && s.pid != t.reaper {
		ours = t.owns(parent, all, known, boot)
	}
	if s.pid == os.Getpid() || s.pid == t.reaper {
		ours = false
	}
	known[s.pid] = ours
	return ours
}

func (t tree) isRoot(s stat, boot string) bool {
	return s.pid == t.root.PID && s.ticks == t.root.Ticks && boot == t.root.Boot
}

// inSession reports whether s is in the session that the root has made. As long as a session has a member, its number is
// given to no new process; the start times tell whether it is still that session.
func (t tree) inSession(s stat, all map[int]stat, boot string) bool {
	if t.root.PID == 0 || s.session != t.root.PID || boot != t.root.Boot || s.ticks < t.root.Ticks {
		return false
	}
	leader, ok := all[s.session]
	return !ok || leader.ticks == t.root.Ticks
}

func (t tree) marked(pid int) bool {
	if t.marker == "" {
		return false
	}
	return bytes.Equal(marker(pid), []byte(t.marker))
}

// marker returns the marker in the environment of a process, or nil.
func marker(pid int) []byte {
	environ, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return nil
	}
	for entry := range bytes.SplitSeq(environ, []byte{0}) {
		if value, ok := bytes.CutPrefix(entry, []byte(markerName+"=")); ok {
			return value
		}
	}
	return nil
}

// signal sends sig to every member.
func (t tree) signal(sig unix.Signal) {
	for _, id := range t.members() {
		_ = id.signal(sig) // gone or not ours to signal: the caller looks again
	}
}

// terminate asks every member to end. One that was stopped is woken, or it could not.
func (t tree) terminate() {
	t.signal(unix.SIGTERM)
	t.signal(unix.SIGCONT)
}

// kill sends SIGKILL to everything there is.
func (t tree) kill() {
	if t.cgroup != "" && cgroupKill(t.cgroup) == nil {
		return
	}
	t.signal(unix.SIGKILL)
}

// killTime is how long the kernel gets to let go of a tree after SIGKILL.
const killTime = 10 * time.Second

// end is terminate, then kill after grace, and returns when nothing is left. reap is called between looks. A cancel ends
// the grace, not the ending.
func (t tree) end(ctx context.Context, grace time.Duration, reap func()) error {
	if grace > 0 && len(t.members()) > 0 {
		t.terminate()
		if t.gone(ctx, grace, reap) {
			t.remove()
			return nil
		}
	}
	deadline := time.Now().Add(killTime)
	for pause := time.Millisecond; len(t.members()) > 0; pause = min(2*pause, 20*time.Millisecond) {
		if time.Now().After(deadline) {
			return ErrNotEnded
		}
		// Again and again: something may have been forked between the look and the signal.
		t.kill()
		reap()
		time.Sleep(pause) //nolint:forbidigo // a cancel does not end the ending, and members are not children that tell
	}
	t.remove()
	return nil
}

// gone waits until the tree is empty.
func (t tree) gone(ctx context.Context, atMost time.Duration, reap func()) bool {
	over := time.NewTimer(atMost)
	defer over.Stop()
	for pause := 2 * time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		reap()
		if len(t.members()) == 0 {
			return true
		}
		select {
		case <-over.C:
			return false
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}

// remove takes the empty cgroup away.
func (t tree) remove() {
	if t.cgroup == "" {
		return
	}
	deadline := time.Now().Add(time.Second)
	for {
		err := cgroupRemove(t.cgroup)
		if err == nil || !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return // an empty directory that stays does no harm: the next start uses it again
		}
		time.Sleep(time.Millisecond) //nolint:forbidigo // the last member is dead but not yet buried, of which no event tells
	}
}

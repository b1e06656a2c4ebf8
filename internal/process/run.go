package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Run runs one command in the foreground and returns when it and everything that it has started are gone: what a command
// leaves behind when it ends is killed. output gets each line of stdout and stderr in order, one at a time, masked, and is never
// called after Run has returned; nil drops them. A slow output slows the command down.
//
// An exit code other than 0 is no error: see Exit. An error means that the command could not be started (ErrCannotStart), that
// ctx ended (its cause; the tree got SIGTERM and, after Spec.Grace, SIGKILL), or that something would not die (ErrNotEnded). The
// command is killed when the caller dies; Sweep ends what it has left behind then. Many may run at once.
//
// Without a cgroup a process escapes only when it has replaced its environment, left the session and lost its parent.
func Run(ctx context.Context, spec Spec, output func(line string)) (Exit, error) {
	return run(ctx, spec, output, cgroupHome())
}

func run(ctx context.Context, spec Spec, output func(line string), cgroups string) (Exit, error) {
	if err := ctx.Err(); err != nil {
		return Exit{}, context.Cause(ctx)
	}
	if len(spec.Command) == 0 {
		return Exit{}, fmt.Errorf("run %s: %w: the command is empty", spec.Name, ErrCannotStart)
	}
	if output == nil {
		output = func(string) {}
	}
	mark, err := runMarker()
	if err != nil {
		return Exit{}, fmt.Errorf("run %s: %w", spec.Name, err)
	}
	cgroup, _, err := makeCgroup(cgroups, mark, spec.Limits)
	if err != nil {
		return Exit{}, fmt.Errorf("run %s: %w: %w", spec.Name, ErrCannotStart, err)
	}
	t := tree{cgroup: cgroup, marker: mark}
	defer t.remove()
	read, write, err := os.Pipe()
	if err != nil {
		return Exit{}, fmt.Errorf("run %s: %w", spec.Name, err)
	}
	defer read.Close()
	// os.Pipe makes both ends non-blocking, and the child shares the flag: a command that writes faster than it is read would
	// fail with EAGAIN.
	if err := unix.SetNonblock(int(fdOf(write)), false); err != nil {
		write.Close()
		return Exit{}, fmt.Errorf("run %s: %w", spec.Name, err)
	}
	if spec.User != nil && os.Geteuid() == 0 {
		// Its user may then also open /dev/stdout.
		if err := write.Chown(int(spec.User.UID), int(spec.User.GID)); err != nil {
			write.Close()
			return Exit{}, fmt.Errorf("run %s: %w", spec.Name, err)
		}
	}
	l := &launch{spec: &spec, output: write, env: []string{markerName + "=" + mark}, cgroup: cgroup, withParent: unix.SIGKILL}
	id, exited, err := launchAndWait(l)
	write.Close()
	if err != nil {
		return Exit{}, fmt.Errorf("run %s: %w", spec.Name, err)
	}
	t.root, t.cgroup = id, l.cgroup
	lines := make(chan struct{})
	go func() {
		defer close(lines)
		readAll(read, NewMask(spec.Mask), output)
	}()
	exit, err := finish(ctx, t, spec.grace(), exited)
	// Whoever has escaped may hold the pipe open for ever: what is in it now is all there is.
	_ = read.SetReadDeadline(time.Now().Add(time.Second))
	<-lines
	if err != nil {
		return exit, fmt.Errorf("run %s: %w", spec.Name, err)
	}
	return exit, nil
}

// finish waits for the end of the command, or brings it about, and ends what is left of its tree.
func finish(ctx context.Context, t tree, grace time.Duration, exited <-chan syscall.WaitStatus) (Exit, error) {
	nothing := func() {}
	select {
	case status := <-exited:
		return exitOf(status), t.end(context.Background(), 0, nothing)
	case <-ctx.Done():
	}
	if err := t.end(context.Background(), grace, nothing); err != nil {
		return Exit{Code: -1, Unknown: true, At: time.Now()}, errors.Join(err, context.Cause(ctx))
	}
	return exitOf(<-exited), context.Cause(ctx)
}

// launchAndWait starts the process from a thread that lives as long as it does: when the caller dies, the thread does, and
// the kernel kills the process (PR_SET_PDEATHSIG, which counts threads).
func launchAndWait(l *launch) (identity, <-chan syscall.WaitStatus, error) {
	type started struct {
		id  identity
		err error
	}
	up := make(chan started)
	exited := make(chan syscall.WaitStatus, 1)
	go func() {
		runtime.LockOSThread()
		id, err := l.start()
		up <- started{id, err}
		if err != nil {
			return
		}
		var status syscall.WaitStatus
		for {
			if _, err := syscall.Wait4(id.PID, &status, 0, nil); err != syscall.EINTR {
				break
			}
		}
		exited <- status
	}()
	s := <-up
	return s.id, exited, s.err
}

// readAll hands on lines until nobody holds the other end of the pipe, or its deadline is over.
func readAll(pipe *os.File, mask *Mask, yield func(string)) {
	out := newOutput(mask, false, yield)
	buf := make([]byte, 32<<10)
	for {
		n, err := pipe.Read(buf)
		_, _ = out.Write(buf[:n]) // its writers do not fail
		if err != nil {
			break
		}
	}
	_ = out.Close()
}

// runMarker names a run and, for Sweep, the process that it belongs to.
func runMarker() (string, error) {
	me, err := identify(os.Getpid())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("run.%d.%d.%s", me.PID, me.Ticks, rand.Text()), nil
}

// runner is the caller of the run that a marker names.
func runner(mark string) (identity, bool) {
	parts := strings.Split(mark, ".")
	if len(parts) != 4 || parts[0] != "run" {
		return identity{}, false
	}
	pid, err := strconv.Atoi(parts[1])
	ticks, err2 := strconv.ParseUint(parts[2], 10, 64)
	return identity{pid, ticks, bootID()}, err == nil && err2 == nil
}

// Sweep ends what the Runs of callers that are dead have left behind, on the whole machine as far as this user may, and
// returns how many processes that were. Call it when a controller starts. It touches nothing that a keeper keeps, and no run
// whose caller is alive.
func Sweep(ctx context.Context) (ended int, err error) {
	return sweep(ctx, cgroupHome())
}

func sweep(ctx context.Context, cgroups string) (ended int, err error) {
	left := map[string]tree{}
	add := func(mark string, t tree) {
		if caller, ok := runner(mark); ok && !caller.alive() {
			left[mark] = t
		}
	}
	for _, s := range processes() {
		mark := string(marker(s.pid))
		add(mark, tree{marker: mark})
	}
	entries, _ := os.ReadDir(cgroups) // none where there are no cgroups
	for _, e := range entries {
		add(e.Name(), tree{cgroup: filepath.Join(cgroups, e.Name()), marker: e.Name()})
	}
	for _, t := range left {
		ended += len(t.members())
		err = errors.Join(err, t.end(ctx, 0, func() {}))
	}
	return ended, err
}

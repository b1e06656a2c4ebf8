package process

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Keep is the body of `lotse keep DIR`: it reads a Spec from stdin as Keepers.Start writes it, and keeps the process until
// it has ended or is stopped. It belongs into a process of its own, whose signals, children and garbage collector it takes
// over. SIGTERM and the end of ctx stop the process, with its grace, and then return nil; SIGHUP, SIGINT and the death of the
// parent mean nothing. It returns ErrKept when another keeper lives in dir.
func Keep(ctx context.Context, dir string, stdin io.Reader) error {
	return keep(ctx, dir, stdin, cgroupHome())
}

func keep(ctx context.Context, dir string, stdin io.Reader, cgroups string) error {
	spec, err := decodeSpec(stdin)
	if err != nil {
		return err
	}
	lock, err := lockFile(filepath.Join(dir, lockName))
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(lock) // freed by the kernel when we are gone, not a moment before
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGTERM, unix.SIGCHLD, unix.SIGHUP, unix.SIGINT, unix.SIGUSR1)
	k := &keeper{dir: dir, spec: spec, cgroups: cgroups, signals: signals, handed: make(chan []*os.File, 1)}
	if err := k.prepare(); err != nil {
		return k.fail(err)
	}
	defer k.journal.close()
	return k.run(ctx)
}

// keeper is the life of one process over its restarts. Everything happens in the goroutine of run, but for reading output.
type keeper struct {
	dir     string
	spec    Spec
	cgroups string // where cgroups are made; empty nowhere
	state   state
	signals chan os.Signal

	journal   *journal
	listeners []*os.File
	handed    chan []*os.File // listeners that a running process has given back

	ended   <-chan struct{} // the adopted process has ended
	up      time.Time       // when the process was started, monotonic
	quick   int             // how often in a row it ended soon
	again   <-chan time.Time
	unsaved bool   // the state on disk is older than ours
	known   string // the marks that are on disk
}

// prepare takes over what the keeper before us has left.
func (k *keeper) prepare() error {
	if len(k.spec.Command) == 0 {
		return fmt.Errorf("%w: the command is empty", ErrCannotStart)
	}
	before, err := readState(k.dir)
	if err != nil && !errors.Is(err, ErrUnknown) {
		// A damaged state must not keep the app down. What it would have told, the marker and the cgroup, is lost with it.
		before = state{}
	}
	k.state = before
	if k.state.Marker == "" {
		k.state.Marker = rand.Text()
	}
	k.state.Replaces = true
	if r := k.state.Replacement; r != nil && r.Process.alive() && !k.state.Process.alive() {
		k.state.Process, r.Process, r.Done = r.Process, identity{}, true // what it was to replace ended unseen
	}
	k.state.Keeper, err = identify(os.Getpid())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeeper, err)
	}
	// Orphans of the tree become our children, so that they are found and buried.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("%w: become a subreaper: %w", ErrKeeper, err)
	}
	k.journal, err = openJournal(k.dir, k.spec)
	return err
}

// run is the keeper's life.
func (k *keeper) run(ctx context.Context) error {
	if k.adoptable() {
		k.adopt()
	} else if err := k.first(ctx); err != nil {
		return k.fail(err)
	}
	k.rest()
	for k.state.Phase != ended {
		select {
		case <-ctx.Done():
			k.stop()
		case s := <-k.signals:
			k.signalled(ctx, s)
		case <-k.ended:
			k.over(ctx, Exit{Code: -1, Unknown: true, At: time.Now()})
		case <-k.again:
			k.restart(ctx)
		case files := <-k.handed:
			k.hold(files)
		case <-k.retrySave():
			k.save()
		}
	}
	return nil
}

func (k *keeper) signalled(ctx context.Context, s os.Signal) {
	switch s {
	case unix.SIGTERM:
		k.stop()
	case unix.SIGUSR1:
		k.replace()
	case unix.SIGCHLD:
		if exit := k.reap(); exit != nil {
			k.over(ctx, *exit)
		}
	}
}

// retrySave is nil, and so never ready, unless the last save failed.
func (k *keeper) retrySave() <-chan time.Time {
	if !k.unsaved {
		return nil
	}
	return time.After(time.Second)
}

// save writes the state. A disk that is full must not harm the process: what could not be saved is tried again.
func (k *keeper) save() {
	k.unsaved = k.state.save(k.dir) != nil
	if !k.unsaved {
		k.known = k.marks()
	}
}

// marks is what a process is found by when nobody knows its pid.
func (k *keeper) marks() string { return k.state.Marker + " " + k.state.Cgroup }

func (k *keeper) adoptable() bool {
	return k.state.Process.alive() && k.state.Phase != stopping && k.state.Phase != ended
}

// adopt goes on with a process that another keeper has started.
func (k *keeper) adopt() {
	k.ended = waitForEnd(k.state.Process)
	k.state.Phase, k.state.Adopted = running, true
	k.state.Listening = len(k.spec.Listen) == 0
	k.up = time.Now()
	k.journal.read(true)
	if len(k.spec.Listen) > 0 && k.spec.Handover != "" {
		go k.takeBack(k.ended)
	}
	k.save()
}

// waitForEnd is for a process that is not our child.
func waitForEnd(id identity) <-chan struct{} {
	fd, err := id.open()
	done := make(chan struct{})
	if err != nil {
		close(done) // it has just ended
		return done
	}
	go func() {
		_ = wait(-1, fd)
		unix.Close(fd)
		close(done)
	}()
	return done
}

// takeBack asks the adopted process for its listeners until it has given them or is gone.
func (k *keeper) takeBack(gone <-chan struct{}) {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, 2*time.Second) {
		if files, err := takeListeners(k.spec.Handover, k.spec.Listen); err == nil {
			k.handed <- files
			return
		}
		select {
		case <-gone:
			return
		case <-time.After(pause):
		}
	}
}

// hold takes listeners that came back.
func (k *keeper) hold(files []*os.File) {
	if k.listeners != nil { // the process was started again meanwhile, with fresh ones
		closeFiles(files)
		return
	}
	k.listeners = files
	k.state.Listening = true
	k.save()
}

// first starts the process for the first time in this keeper's life.
func (k *keeper) first(ctx context.Context) error {
	again := k.state.Phase == running || k.state.Phase == waiting // it ended while nobody was there to see it
	k.sweep()
	k.state.Started, k.state.Failure, k.state.Kind = time.Time{}, "", ""
	if again {
		k.state.Restarts++
		if k.state.Phase == running {
			k.state.Last = &Exit{Code: -1, Unknown: true, At: time.Now()}
		}
	} else {
		k.state.Restarts, k.state.Last = 0, nil
	}
	k.state.Phase, k.state.Process, k.state.Adopted = starting, identity{}, false
	return k.start(ctx)
}

// sweep ends what an earlier run may have left, so that nothing runs twice.
func (k *keeper) sweep() {
	t := k.tree()
	if t.end(context.Background(), 0, func() { k.reap() }) != nil {
		k.journal.note("something of the run before did not end")
	}
}

func (k *keeper) tree() tree {
	t := k.state.tree()
	t.reaper = os.Getpid()
	return t
}

// start executes the process, once.
func (k *keeper) start(ctx context.Context) error {
	if len(k.listeners) < len(k.spec.Listen) {
		files, err := listenAll(ctx, k.spec.Listen)
		if err != nil {
			return err
		}
		k.listeners = files
	}
	k.state.Listening = true
	var err error
	k.state.Cgroup, k.state.Unlimited, err = makeCgroup(k.cgroups, cgroupName(k.spec.Name, k.dir), k.spec.Limits)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCannotStart, err)
	}
	if k.known != k.marks() {
		k.save() // the marker and the cgroup must be on disk before anything can carry them; later, no restart waits for a disk
	}
	out, err := k.journal.writeEnd(k.spec.User)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeeper, err)
	}
	defer out.Close()
	l := k.launch(&k.spec, out)
	k.state.Process, err = launchAside(&l)
	if err != nil {
		return err
	}
	k.up = time.Now()
	k.state.Cgroup = l.cgroup
	k.state.Phase, k.state.Started, k.state.Adopted = running, k.up, false
	k.state.Failure, k.state.Kind = "", ""
	k.ended = nil
	k.journal.read(false)
	k.save()
	return nil
}

func (k *keeper) launch(spec *Spec, out *os.File) launch {
	l := launch{spec: spec, output: out, passed: k.listeners, cgroup: k.state.Cgroup}
	l.env = append(l.env, markerName+"="+k.state.Marker)
	if n := len(k.listeners); n > 0 {
		l.env = append(l.env, "LISTEN_FDS="+strconv.Itoa(n), "LISTEN_FDNAMES="+listenNames(k.spec.Listen))
	}
	return l
}

// listenNames makes names without the colon that separates them.
func listenNames(addresses []string) string {
	names := make([]string, len(addresses))
	for i, a := range addresses {
		names[i] = strings.ReplaceAll(strings.TrimPrefix(a, "tcp://"), ":", "_")
	}
	return strings.Join(names, ":")
}

// launchAside starts the process from a thread that ends with it.
func launchAside(l *launch) (identity, error) {
	type result struct {
		id  identity
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread()
		id, err := l.start()
		done <- result{id, err}
	}()
	r := <-done
	return r.id, r.err
}

// reap buries every child that has ended and returns the exit of the process if it was among them.
func (k *keeper) reap() *Exit {
	var exit *Exit
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return exit
		}
		if pid == k.state.Process.PID && !k.state.Adopted {
			e := exitOf(syscall.WaitStatus(status))
			exit = &e
			k.state.Last = exit
		} else {
			k.nextEnded(pid, syscall.WaitStatus(status))
		}
	}
}

// bury waits for the exit of the process, which is dead or about to be.
func (k *keeper) bury() {
	var status syscall.WaitStatus
	for {
		_, err := syscall.Wait4(k.state.Process.PID, &status, 0, nil)
		if err == syscall.EINTR {
			continue
		}
		if err == nil {
			exit := exitOf(status)
			k.state.Last = &exit
		}
		return
	}
}

func exitOf(status syscall.WaitStatus) Exit {
	e := Exit{Code: status.ExitStatus(), At: time.Now()}
	if status.Signaled() {
		e.Code, e.Signal = -1, unix.SignalName(status.Signal())
	}
	return e
}

// stop ends the tree as it was ordered, and the keeper with it.
func (k *keeper) stop() {
	grace := readOrder(k.dir, k.spec.grace())
	k.again, k.ended = nil, nil
	k.state.Phase = stopping
	k.save()
	before := k.state.Last
	err := k.tree().end(context.Background(), grace, func() { k.reap() })
	if k.state.Last == before && k.state.Process.PID != 0 && !k.state.Adopted && err == nil {
		k.bury()
	}
	if k.state.Last == before && k.state.Process.PID != 0 {
		k.state.Last = &Exit{Code: -1, Unknown: true, At: time.Now()}
	}
	k.journal.drain()
	if err != nil {
		k.state.Failure = err.Error()
		k.journal.note(err.Error())
	}
	k.state.Process = identity{}
	k.finish()
}

// finish is the end of a keeper that has nothing left to keep.
func (k *keeper) finish() {
	k.tree().remove()
	closeFiles(k.listeners)
	k.state.Phase, k.state.Listening, k.state.Cgroup = ended, false, ""
	k.save()
}

// fail is the end of a keeper whose process could not be started. Who waits for it reads why in the state.
func (k *keeper) fail(err error) error {
	k.state.Failure, k.state.Kind = err.Error(), kindOf(err)
	k.state.Process = identity{}
	k.finish()
	return err
}

package process

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Await returns the first Status of dir for which until is true. It sleeps in the kernel until the state changes, or the
// process or its keeper dies, and looks once a second besides. dir must exist; as long as nothing was ever started there, until
// sees the zero Status. A cancel returns the context's cause.
func Await(ctx context.Context, dir string, until func(Status) bool) (Status, error) {
	w, err := watch(ctx, dir, unix.IN_MOVED_TO)
	if err != nil {
		return Status{}, err
	}
	defer w.close()
	for {
		w.arm(dir)
		status, err := Inspect(dir)
		if err != nil && !errors.Is(err, ErrUnknown) {
			return status, err
		}
		if until(status) {
			return status, nil
		}
		if err := w.wait(ctx); err != nil {
			return status, err
		}
	}
}

// watcher sleeps until something happens in a directory, or to the processes that its state names.
type watcher struct {
	inotify, cancel int
	processes       []int // pidfds
	stop            func() bool
}

func watch(ctx context.Context, dir string, events uint32) (*watcher, error) {
	inotify, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	if _, err := unix.InotifyAddWatch(inotify, dir, events); err != nil {
		unix.Close(inotify)
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	cancel, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(inotify)
		return nil, fmt.Errorf("watch %s: %w", dir, err)
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_, _ = unix.Write(cancel, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	return &watcher{inotify, cancel, nil, func() bool {
		if stop() {
			return true
		}
		<-done // it must not write into a file that was closed
		return false
	}}, nil
}

func (w *watcher) close() {
	w.stop()
	w.disarm()
	unix.Close(w.inotify)
	unix.Close(w.cancel)
}

func (w *watcher) disarm() {
	for _, fd := range w.processes {
		unix.Close(fd)
	}
	w.processes = nil
}

// arm takes hold of the processes that the state names. It comes before the look at them: what dies after that look wakes.
func (w *watcher) arm(dir string) {
	w.disarm()
	s, err := readState(dir)
	if err != nil {
		return
	}
	for _, id := range []identity{s.Keeper, s.Process} {
		if fd, err := id.open(); err == nil {
			w.processes = append(w.processes, fd)
		}
	}
}

// wait returns nil when something may have changed, at the latest after a second.
func (w *watcher) wait(ctx context.Context) error {
	if err := wait(1000, append([]int{w.inotify, w.cancel}, w.processes...)...); err != nil {
		return fmt.Errorf("wait for a change: %w", err)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// What happened is read from the files; the events only wake.
	buf := make([]byte, 4096)
	for {
		if n, err := unix.Read(w.inotify, buf); n <= 0 || err != nil {
			return nil //nolint:nilerr // EAGAIN: all were read
		}
	}
}

package process

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const replaceName = "replace"

// replacement is what stands in the file "replace", and then in the state.
type replacement struct {
	Order   string   `json:"order"`
	Command []string `json:"command"`

	Process identity `json:"process"`           // beside the one that is to end; zero when it has ended, or has become it
	Last    *Exit    `json:"exit,omitempty"`    // it ended before the other
	Failure string   `json:"failure,omitempty"` // it could not be started
	Done    bool     `json:"done,omitempty"`    // it is the process
}

// Replace starts another process of dir beside the one that runs, on the same listeners, with the same output, in the same cgroup and with
// this command, which is that of every restart from then on. How the new one takes over from the old one is between these two: ready says
// when it has, and begins when it is started. Replace returns nil then; the old one is expected to end by itself, and whichever is left is
// what the keeper keeps. When the new one ends before, or ready fails, the new one is ended, the old one goes on, and the error says why
// (ErrReplace) with the last lines that were said. ErrBusy while one before is under way: until the old one has ended.
func (k *Keepers) Replace(ctx context.Context, dir string, command []string, ready func(ctx context.Context, pid int) error) error {
	if _, err := readState(dir); err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	door, err := lockWithin(ctx, filepath.Join(dir, doorName))
	if err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	defer door.Close()
	order, err := k.orderReplacement(dir, command)
	if err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	begun, err := awaitReplacement(ctx, dir, order, func(r replacement) bool { return r.Process.PID != 0 || r.over() })
	if err == nil && !begun.over() {
		err = k.whenReady(ctx, dir, order, begun, ready)
	} else if err == nil {
		err = begun.err()
	}
	if err != nil {
		return fmt.Errorf("replace: %w", err)
	}
	return nil
}

func (k *Keepers) orderReplacement(dir string, command []string) (string, error) {
	s, err := readState(dir)
	switch {
	case err != nil:
		return "", err
	case !s.Keeper.alive() || s.Phase != running:
		return "", fmt.Errorf("%w: nothing runs that could be replaced", ErrReplace)
	case !s.Replaces:
		return "", fmt.Errorf("%w: its keeper is of a version that cannot", ErrReplace)
	case s.Replacement != nil && s.Replacement.Process.alive():
		return "", fmt.Errorf("%w: the replacement before has not ended yet", ErrBusy)
	case !s.Listening:
		return "", fmt.Errorf("%w: its keeper is new and has not got the listeners back yet", ErrBusy)
	}
	order := rand.Text()
	raw, err := json.Marshal(replacement{Order: order, Command: command})
	if err != nil {
		return "", err
	}
	if err := writeAside(filepath.Join(dir, replaceName), raw); err != nil {
		return "", err
	}
	return order, s.Keeper.signal(unix.SIGUSR1)
}

// whenReady waits for the new process, and ends one that does not become ready.
func (k *Keepers) whenReady(ctx context.Context, dir, order string, begun replacement, ready func(context.Context, int) error) error {
	waiting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	said := make(chan error, 1)
	go func() { said <- ready(waiting, begun.Process.PID) }()
	ended := make(chan error, 1)
	go func() {
		r, err := awaitReplacement(waiting, dir, order, replacement.over)
		ended <- errors.Join(err, r.err())
	}()
	select {
	case err := <-said:
		if err == nil {
			return nil
		}
		return errors.Join(fmt.Errorf("%w: %w", ErrReplace, err), endReplacement(ctx, dir, order, begun))
	case err := <-ended:
		return err
	}
}

// endReplacement kills one that did not become ready, whatever has become of ctx.
func endReplacement(ctx context.Context, dir, order string, begun replacement) error {
	if err := begun.Process.signal(unix.SIGKILL); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), killTime, ErrNotEnded)
	defer cancel()
	_, err := awaitReplacement(ctx, dir, order, replacement.over)
	return err
}

func awaitReplacement(ctx context.Context, dir, order string, until func(replacement) bool) (replacement, error) {
	var last replacement
	_, err := Await(ctx, dir, func(now Status) bool {
		s, err := readState(dir)
		if err == nil && s.Replacement != nil && s.Replacement.Order == order {
			last = *s.Replacement
		}
		return until(last) || !now.Keeper
	})
	if err == nil && !until(last) {
		err = fmt.Errorf("%w: the keeper has ended", ErrReplace)
	}
	return last, err
}

func (r replacement) over() bool { return r.Done || r.Failure != "" || r.Last != nil }

func (r replacement) err() error {
	switch {
	case r.Failure != "":
		return fmt.Errorf("%w: %s", ErrReplace, r.Failure)
	case r.Last != nil:
		return fmt.Errorf("%w: the new process ended with %s", ErrReplace, r.Last)
	}
	return nil
}

// replace starts the process that was ordered.
func (k *keeper) replace() {
	path := filepath.Join(k.dir, replaceName)
	raw, err := os.ReadFile(path)
	var next replacement
	if err != nil || json.Unmarshal(raw, &next) != nil || k.state.Phase != running || k.state.Replacement != nil && k.state.Replacement.Process.alive() {
		return
	}
	os.Remove(path)
	k.state.Replacement = &next
	if err := k.startNext(&next); err != nil {
		next.Failure = err.Error()
	}
	k.save()
}

func (k *keeper) startNext(next *replacement) error {
	spec := k.spec
	spec.Command = next.Command
	out, err := k.journal.writeEnd(spec.User)
	if err != nil {
		return err
	}
	defer out.Close()
	l := k.launch(&spec, out)
	next.Process, err = launchAside(&l)
	return err
}

// succeeded goes on with the replacement when the process before it has ended, and reports whether there is one.
func (k *keeper) succeeded(exit Exit) bool {
	r := k.state.Replacement
	if r == nil || !r.Process.alive() {
		return false
	}
	k.journal.note(fmt.Sprintf("the process before ended: %s; its replacement goes on", exit))
	k.state.Process, r.Process, r.Done = r.Process, identity{}, true
	k.spec.Command = r.Command
	k.state.Started, k.up, k.quick = time.Now(), time.Now(), 0
	if k.state.Adopted = !k.isChild(k.state.Process.PID); k.state.Adopted {
		k.ended = waitForEnd(k.state.Process)
	}
	k.save()
	return true
}

// isChild tells what we have started from what a keeper before us has.
func (k *keeper) isChild(pid int) bool {
	ended, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	return err == nil && ended == 0
}

// nextEnded is for a replacement that did not come to it.
func (k *keeper) nextEnded(pid int, status syscall.WaitStatus) {
	r := k.state.Replacement
	if r == nil || r.Process.PID != pid {
		return
	}
	exit := exitOf(status)
	r.Process, r.Last = identity{}, &exit
	k.journal.note(fmt.Sprintf("a replacement ended: %s; the process before goes on", exit))
	k.save()
}

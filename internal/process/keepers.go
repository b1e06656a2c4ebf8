package process

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keeperEnv is the whole environment of a keeper: one that rests needs little memory and one thread.
func keeperEnv() []string {
	return []string{"GOMAXPROCS=1", "GOGC=25", "GOMEMLIMIT=16MiB", "GOTRACEBACK=single", "LANG=C.UTF-8"}
}

func (k *Keepers) logger() *slog.Logger {
	if k.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return k.Log
}

func (k *Keepers) start(ctx context.Context, dir string, spec Spec) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("start %s: %w", spec.Name, err)
	}
	door, err := lockWithin(ctx, filepath.Join(dir, doorName))
	if err != nil {
		return fmt.Errorf("start %s: %w", spec.Name, err)
	}
	defer door.Close()
	for {
		kept, err := locked(filepath.Join(dir, lockName))
		if err != nil {
			return fmt.Errorf("start %s: %w", spec.Name, err)
		}
		if !kept {
			return k.spawn(ctx, dir, spec)
		}
		s, err := settled(ctx, dir)
		if err != nil {
			return fmt.Errorf("start %s: %w", spec.Name, err)
		}
		if s.Phase == running || s.Phase == waiting {
			return nil
		}
	}
}

// settled waits until the keeper of dir is dead, or runs its process and is not about to end it.
func settled(ctx context.Context, dir string) (state, error) {
	var last state
	_, err := Await(ctx, dir, func(now Status) bool {
		s, err := readState(dir)
		last = s
		up := err == nil && (s.Phase == running || s.Phase == waiting) && s.Keeper.alive()
		return up || !now.Keeper
	})
	if last.Phase == running && !last.Keeper.alive() {
		last = state{} // it died while we looked
	}
	return last, err
}

// spawn starts a keeper and waits until it runs the process.
func (k *Keepers) spawn(ctx context.Context, dir string, spec Spec) error {
	// An order to stop that is still there was for somebody else.
	if err := os.Remove(filepath.Join(dir, stopName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("start %s: %w", spec.Name, err)
	}
	encoded, err := spec.encode()
	if err != nil {
		return fmt.Errorf("start %s: %w", spec.Name, err)
	}
	said, err := os.OpenFile(filepath.Join(dir, keeperName), os.O_CREATE|os.O_TRUNC|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("start %s: %w", spec.Name, err)
	}
	defer said.Close()
	argv := append(slices.Clip(k.Command), dir)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(encoded), said, said
	cmd.Env, cmd.Dir = keeperEnv(), "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w: %w", spec.Name, ErrKeeper, err)
	}
	gone := make(chan struct{})
	go func() { // ends with the keeper; it must be buried by somebody
		defer close(gone)
		_ = cmd.Wait() // what it has to say stands in the state
	}()
	s, err := k.up(ctx, dir, cmd.Process.Pid, gone)
	if err == nil {
		err = s.err()
	}
	if err == nil && s.Keeper.PID != cmd.Process.Pid {
		text, _ := os.ReadFile(filepath.Join(dir, keeperName))
		err = fmt.Errorf("%w: %s", ErrKeeper, strings.TrimSpace(string(text[max(0, len(text)-2000):])))
	}
	if err != nil {
		if s.Phase == ended {
			<-gone // it has said its last word
		}
		return fmt.Errorf("start %s: %w", spec.Name, err)
	}
	k.logger().Info("process kept", "name", spec.Name, "pid", s.Process.PID, "keeper", s.Keeper.PID, "adopted", s.Adopted, "restarts", s.Restarts)
	return nil
}

// up waits until the keeper has started or adopted the process, or has ended.
func (k *Keepers) up(ctx context.Context, dir string, keeper int, gone <-chan struct{}) (state, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	over := errors.New("the keeper has ended")
	go func() {
		select {
		case <-gone:
			cancel(over)
		case <-ctx.Done():
		}
	}()
	var s state
	_, err := Await(ctx, dir, func(Status) bool {
		now, err := readState(dir)
		s = now
		return err == nil && now.Keeper.PID == keeper && now.Phase != starting && now.Phase != ""
	})
	if errors.Is(err, over) {
		s, err = readState(dir)
		if errors.Is(err, ErrUnknown) {
			err = nil // it did not even come to writing a state
		}
	}
	return s, err
}

// order is what stands in the file "stop".
type order struct {
	Grace time.Duration `json:"grace"`
}

// readOrder returns the grace that Stop has ordered, or the one given.
func readOrder(dir string, grace time.Duration) time.Duration {
	raw, err := os.ReadFile(filepath.Join(dir, stopName))
	if err != nil {
		return grace
	}
	var o order
	if json.Unmarshal(raw, &o) != nil {
		return grace
	}
	return o.Grace
}

func (k *Keepers) stop(ctx context.Context, dir string, grace time.Duration) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	door, err := lockWithin(ctx, filepath.Join(dir, doorName))
	if err != nil {
		return fmt.Errorf("stop %s: %w", dir, err)
	}
	defer door.Close()
	if err := k.stopKeeper(ctx, dir, grace); err != nil {
		return fmt.Errorf("stop %s: %w", dir, err)
	}
	lock, err := lockWithin(ctx, filepath.Join(dir, lockName))
	if err != nil {
		return fmt.Errorf("stop %s: %w", dir, err)
	}
	defer lock.Close()
	if err := k.stopOrphan(ctx, dir, grace); err != nil {
		return fmt.Errorf("stop %s: %w", dir, err)
	}
	return nil
}

// stopKeeper lets the keeper do it, and ends a keeper that does not.
func (k *Keepers) stopKeeper(ctx context.Context, dir string, grace time.Duration) error {
	kept, err := locked(filepath.Join(dir, lockName))
	if err != nil || !kept {
		return err
	}
	raw, err := json.Marshal(order{grace})
	if err != nil {
		return err
	}
	if err := writeAside(filepath.Join(dir, stopName), raw); err != nil {
		k.logger().Warn("the order to stop could not be written, the keeper takes its own grace", "dir", dir, "err", err)
	}
	limit, cancel := context.WithTimeoutCause(ctx, grace+killTime+2*time.Second, ErrNotEnded)
	defer cancel()
	asked := identity{}
	_, err = Await(limit, dir, func(now Status) bool {
		// A keeper that has only just begun is not yet in the state; look again until it is.
		if s, err := readState(dir); err == nil && s.Keeper != asked && s.Keeper.signal(unix.SIGTERM) == nil && s.Keeper.alive() {
			asked = s.Keeper
		}
		return !now.Keeper && !asked.alive()
	})
	if !errors.Is(err, ErrNotEnded) {
		return err
	}
	if err := asked.signal(unix.SIGKILL); err != nil {
		return err
	}
	k.logger().Warn("a keeper did not end and was killed", "dir", dir)
	return nil
}

// stopOrphan ends what a dead keeper has left. The caller holds the keeper's lock.
func (k *Keepers) stopOrphan(ctx context.Context, dir string, grace time.Duration) error {
	s, err := readState(dir)
	if errors.Is(err, ErrUnknown) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.Phase == ended {
		return s.tree().end(ctx, 0, func() {})
	}
	ran := s.Process.alive()
	if err := s.tree().end(ctx, grace, func() {}); err != nil {
		return err
	}
	if ran || s.Phase == running {
		s.Last = &Exit{Code: -1, Unknown: true, At: time.Now()}
	}
	s.Phase, s.Process, s.Cgroup, s.Listening = ended, identity{}, "", false
	if err := s.save(dir); err != nil { // it has ended all the same
		k.logger().Warn("the state of a stopped process could not be written", "dir", dir, "err", err)
	}
	return nil
}

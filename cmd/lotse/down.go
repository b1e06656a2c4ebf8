package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// down ends every process that was started below the state folder: the controller, then the proxy, which answers what is in
// flight, then the instances. The data stays. Twice is fine.
func down(ctx context.Context, p place, log *slog.Logger) error {
	if err := endController(ctx, p); err != nil {
		return err
	}
	keepers, err := openKeepers(log)
	if err != nil {
		return err
	}
	if err := keepers.Stop(ctx, p.keeper(), proxyGrace); err != nil {
		return err
	}
	instances, err := p.instances()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, dir := range instances {
		group.Go(func() error { return keepers.Stop(ctx, dir, instanceGrace) })
	}
	return group.Wait()
}

// instanceGrace is what instances get when everything is ended: the proxy is gone, so that nothing is in flight in them.
const instanceGrace = 10 * time.Second

// endController asks the controller of the folder to end, and waits until it has.
func endController(ctx context.Context, p place) error {
	for begun := time.Now(); ; {
		pid, err := p.controller()
		if err != nil || pid == 0 {
			return err
		}
		if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("ending the controller: %w", err)
		}
		if time.Since(begun) > 30*time.Second {
			return fmt.Errorf("the controller (process %d) does not end", pid)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

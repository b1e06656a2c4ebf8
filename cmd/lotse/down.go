package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/engine/local"
)

// down ends every process that was started below the state folder: the controller, then the proxy, which answers what is in
// flight, then the instances, then the databases that they used. The data stays. Twice is fine.
func down(ctx context.Context, p place, log *slog.Logger) error {
	keepers, err := openKeepers(log)
	if err != nil {
		return err
	}
	if err := keepers.Stop(ctx, p.controllerKeeper(), controllerGrace); err != nil {
		return err
	}
	if err := endController(ctx, p); err != nil {
		return err
	}
	if err := keepers.Stop(ctx, p.keeper(), proxyGrace); err != nil {
		return err
	}
	instances, err := p.instances()
	if err != nil {
		return err
	}
	if err := each(ctx, instances, func(ctx context.Context, dir string) error { return keepers.Stop(ctx, dir, instanceGrace) }); err != nil {
		return err
	}
	stages, err := p.databases()
	if err != nil {
		return err
	}
	return each(ctx, stages, func(ctx context.Context, dir string) error { return local.StopDatabase(ctx, keepers, dir) })
}

// each does it for all at once, whatever becomes of one.
func each(ctx context.Context, dirs []string, do func(context.Context, string) error) error {
	var group errgroup.Group
	for _, dir := range dirs {
		group.Go(func() error { return do(ctx, dir) })
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
		if err := endProcess(ctx, pid); err != nil {
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

// endProcess ends a controller. One that systemd runs is ended by systemd, which would start it again.
func endProcess(ctx context.Context, pid int) error {
	groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid)) // gone, or no Linux: nobody else's
	if command := stopCommand(string(groups)); command != nil {
		return run(ctx, command)
	}
	if err := unix.Kill(pid, unix.SIGTERM); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// stopCommand is how systemd is asked to stop the unit that a process belongs to, as /proc/PID/cgroup has it; nil where that is none
// of ours.
func stopCommand(groups string) []string {
	for line := range strings.Lines(groups) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3) // cgroups(7)
		if len(fields) != 3 || fields[1] != "" && fields[1] != "name=systemd" {
			continue
		}
		path := strings.Split(fields[2], "/")
		switch {
		case !slices.Contains(path, unitName):
		case slices.ContainsFunc(path, func(part string) bool { return strings.HasPrefix(part, "user@") }):
			return []string{"systemctl", "--user", "stop", unitName}
		default:
			return []string{"systemctl", "stop", unitName}
		}
	}
	return nil
}

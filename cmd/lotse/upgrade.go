package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// proxyReady is what a new proxy gets to read its state and take over. The one before does not accept changes meanwhile.
const proxyReady = 20 * time.Second

// upgrade puts the proxy of this program in the place of the one that runs, without losing a connection, and returns its process id. The one
// before finishes what it has begun. After an error it goes on.
func upgrade(ctx context.Context, state string) (pid int, err error) {
	p := place(state)
	keepers, err := openKeepers(slog.New(slog.DiscardHandler))
	if err != nil {
		return 0, err
	}
	exe, err := self()
	if err != nil {
		return 0, err
	}
	switch err := proxy.Readable(p.at("proxy", "table")); {
	case errors.Is(err, proxy.ErrNewer):
		return 0, deploy.Hint(fmt.Errorf("%w: %w", deploy.ErrRefused, err), "this lotse is older than the one that runs: take that one, or a newer one")
	case err != nil:
		return 0, fmt.Errorf("%w: %w", deploy.ErrDamaged, err)
	}
	client := proxy.NewClient(p.control())
	err = keepers.Replace(ctx, p.keeper(), p.proxyCommand(exe), func(ctx context.Context, successor int) error {
		pid = successor
		return proxyIs(ctx, client, successor)
	})
	switch {
	case errors.Is(err, process.ErrUnknown):
		return 0, deploy.Hint(fmt.Errorf("%w: no proxy runs below %s", deploy.ErrNotFound, p), "`lotse serve` starts it")
	case errors.Is(err, process.ErrBusy):
		return 0, deploy.Hint(fmt.Errorf("%w: %w", deploy.ErrBusy, err), "try again when the proxy before has finished what it had begun")
	case err != nil:
		return 0, deploy.Hint(fmt.Errorf("%w: %w", deploy.ErrUnavailable, err), "the proxy before goes on; what the new one said is in "+p.keeper())
	}
	return pid, nil
}

func (p place) proxyCommand(exe string) []string { return []string{exe, "proxy", "--state", string(p)} }

// proxyIs waits until the proxy with this process id steers.
func proxyIs(ctx context.Context, client *proxy.Client, pid int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, proxyReady, fmt.Errorf("the new proxy has not taken over within %s", proxyReady))
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if now, err := client.PID(ctx); err == nil && now == pid {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

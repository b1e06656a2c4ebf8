package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/DeRuina/timberjack"
	"golang.org/x/sync/errgroup"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/privacy"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// ports are where the proxy listens. They are chosen once and kept, so that addresses stay what they were.
type ports struct {
	HTTPS int `json:"https"`
	HTTP  int `json:"http"`
}

// choices of ports: the ones that browsers take for granted, else the ones that need no right.
var choices = []ports{{443, 80}, {8443, 8080}}

// listens returns the addresses of the ports: HTTPS and HTTP by turns, as proxy.Config.Listeners wants them.
func (p ports) listens() []string {
	var all []string
	for _, host := range loopbacks() {
		all = append(all, "tcp://"+net.JoinHostPort(host, strconv.Itoa(p.HTTPS)), "tcp://"+net.JoinHostPort(host, strconv.Itoa(p.HTTP)))
	}
	return all
}

// loopbacks are the addresses that *.localhost stands for (RFC 6761 §6.3); a machine may be without IPv6.
func loopbacks() []string {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		return []string{"127.0.0.1"}
	}
	l.Close()
	return []string{"127.0.0.1", "::1"}
}

// settlePorts chooses the ports and keeps the choice. Where they are others than before, the proxy that still listens there is
// ended: only a new one can have new ports.
func (p place) settlePorts(ctx context.Context, k *process.Keepers, asked ports) (ports, error) {
	kept := p.keptPorts()
	at, err := choosePorts(asked, kept)
	if err != nil || at == kept {
		return at, err
	}
	if err := k.Stop(ctx, p.keeper(), proxyGrace); err != nil {
		return at, fmt.Errorf("ending the proxy on the ports before: %w", err)
	}
	return at, p.keepPorts(at)
}

// choosePorts returns the ports that were asked for; where one was not, the one of before, or of the first pair that is free.
func choosePorts(asked, kept ports) (ports, error) {
	var tried []ports
	var taken []error
	for _, c := range append([]ports{kept}, choices...) {
		c = ports{cmp.Or(asked.HTTPS, c.HTTPS), cmp.Or(asked.HTTP, c.HTTP)}
		if c.HTTPS == 0 || c.HTTP == 0 || slices.Contains(tried, c) {
			continue
		}
		if c == kept {
			return c, nil
		}
		err := c.free(kept)
		if err == nil {
			return c, nil
		}
		tried = append(tried, c)
		if len(taken) == 0 || taken[len(taken)-1].Error() != err.Error() { // both pairs may miss on the port that was asked for
			taken = append(taken, err)
		}
	}
	return ports{}, deploy.Hint(errors.Join(taken...), "end what listens there, or name other ports with --https and --http")
}

// keptPorts are the ports of before; zero where there are none.
func (p place) keptPorts() ports {
	var kept ports
	if b, err := os.ReadFile(p.at("proxy", "ports.json")); err != nil || json.Unmarshal(b, &kept) != nil {
		return ports{}
	}
	return kept
}

func (p place) keepPorts(c ports) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(p.at("proxy"), 0o700), os.WriteFile(p.at("proxy", "ports.json"), b, 0o600))
}

// free reports whether both ports can be had on every loopback address, or are ours already, and says why not.
func (p ports) free(ours ports) error {
	for _, host := range loopbacks() {
		for _, port := range []int{p.HTTPS, p.HTTP} {
			if port == ours.HTTPS || port == ours.HTTP {
				continue
			}
			l, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port)))
			if err != nil {
				return fmt.Errorf("%w: port %d: %w", deploy.ErrBadInput, port, errors.Unwrap(err))
			}
			l.Close()
		}
	}
	return nil
}

// proxyGrace is the drain of what is in flight, and some.
const proxyGrace = 40 * time.Second

// startProxy makes sure that the proxy runs under its keeper, and waits until it answers.
func startProxy(ctx context.Context, p place, k *process.Keepers, at ports) (*proxy.Client, error) {
	exe, err := self()
	if err != nil {
		return nil, err
	}
	spec := process.Spec{
		Name:     "lotse-proxy",
		Command:  p.proxyCommand(exe),
		Dir:      string(p),
		Env:      []string{"PATH=" + os.Getenv("PATH")},
		Listen:   at.listens(),
		Handover: p.handover(),
		Restart:  true,
		Grace:    proxyGrace,
	}
	if err := k.Start(ctx, p.keeper(), spec); err != nil {
		return nil, fmt.Errorf("starting the proxy: %w", err)
	}
	client := proxy.NewClient(p.control())
	for deadline := time.Now().Add(10 * time.Second); ; {
		err := client.Ping(ctx)
		if err == nil {
			return client, nil
		}
		if time.Now().After(deadline) {
			return nil, deploy.Hint(fmt.Errorf("the proxy does not answer: %w", err), "its output is in "+p.keeper())
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// watchProxy gives the proxy a new keeper within a second of the death of the one before.
func watchProxy(ctx context.Context, p place, k *process.Keepers, at ports, log *slog.Logger) error {
	for {
		_, err := process.Await(ctx, p.keeper(), func(s process.Status) bool { return !s.Keeper })
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the controller is being ended, which is no error
		}
		if err == nil {
			_, err = startProxy(ctx, p, k, at)
		}
		log.Warn("the proxy's keeper had died", "repaired", err == nil, "error", err)
		if err != nil {
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// runProxy is the body of `lotse proxy`, a process of its own under a keeper. It needs nothing but its state folder.
func runProxy(ctx context.Context, p place, log *slog.Logger) error {
	listeners, err := process.Inherited()
	if err != nil {
		return err
	}
	authority, err := proxy.OpenAuthority(p.authority(), nil)
	if err != nil {
		return err
	}
	access := &timberjack.Logger{Filename: p.at("proxy", "access.log"), MaxSize: 64, MaxBackups: 8, MaxAge: 30, Compression: "gzip"}
	defer access.Close()
	names := &privacy.Pseudonyms{}
	files, err := filesOf(listeners)
	if err != nil {
		return err
	}
	before, err := proxy.Succeed(ctx, p.control())
	if err != nil {
		return err
	}
	defer before.Close()
	inPlace := make(chan struct{})
	server, err := proxy.New(proxy.Config{StateDir: p.at("proxy", "table"), Listeners: listeners, Control: p.control(),
		Authority: authority, Log: log, AccessLog: access, Pseudonym: names.Of, Predecessor: before, Ready: func() { close(inPlace) }})
	if err != nil {
		return err
	}
	ctx, end := context.WithCancel(ctx)
	defer end()
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer end() // also when a successor has taken over
		return server.Run(running)
	})
	group.Go(func() error {
		select {
		case <-inPlace:
			return process.ShareListeners(running, p.handover(), files)
		case <-running.Done():
			return nil
		}
	})
	return group.Wait()
}

// filesOf returns descriptors of the listeners that stay open when the server closes its own.
func filesOf(listeners []net.Listener) ([]*os.File, error) {
	files := make([]*os.File, len(listeners))
	for i, l := range listeners {
		filer, ok := l.(interface{ File() (*os.File, error) })
		if !ok {
			return nil, fmt.Errorf("listener %d has no descriptor", i)
		}
		f, err := filer.File()
		if err != nil {
			return nil, err
		}
		files[i] = f
	}
	return files, nil
}

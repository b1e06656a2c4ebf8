package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/cli"
	"github.com/lotse-eu/lotse/internal/demo"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// demoAt is the demo's folder: beside the clone, or, where root's own folders are closed to the users that instances run
// as, in the place for the state of services.
func demoAt(o cli.DemoOptions) (demoPlace, error) {
	if o.StateGiven {
		return demoPlace(filepath.Clean(o.State)), nil
	}
	here, err := filepath.Abs(".demo")
	if err != nil {
		return "", err
	}
	if os.Getuid() != 0 || place(filepath.Dir(here)).passable() == nil {
		return demoPlace(here), nil
	}
	return "/var/lib/lotse-demo", nil
}

// demoPlace is the demo's folder: the state folder of its controller, and beside it what else it needs.
type demoPlace string

func (d demoPlace) at(name string) string { return filepath.Join(string(d), name) }
func (d demoPlace) state() place          { return place(d.at("state")) }
func (d demoPlace) controller() string    { return d.at("controller") }

func runDemo(ctx context.Context, o cli.DemoOptions) error {
	at, err := demoAt(o)
	if err != nil {
		return err
	}
	keepers, err := openKeepers(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	example, err := filepath.Abs(filepath.Join("examples", "whatsgonow"))
	if err != nil {
		return err
	}
	return demo.Run(ctx, demo.Parts{
		Dir:     string(at),
		State:   string(at.state()),
		Example: example,
		Say:     o.Say,
		Serve:   func(ctx context.Context) (demo.Controller, error) { return at.serve(ctx, keepers) },
		Verbs:   o.Verbs(string(at.state())),
		Authority: func() (string, *x509.CertPool, error) {
			authority, err := proxy.OpenAuthority(at.state().authority(), nil)
			if err != nil {
				return "", nil, err
			}
			return authority.CertPath(), authority.Pool(), nil
		},
		Dial: proxy.DialLocalhost(nil),
	})
}

// endDemo ends what the demo started and deletes its folder.
func endDemo(ctx context.Context, o cli.DemoOptions) error {
	at, err := demoAt(o)
	if err != nil {
		return err
	}
	if !demo.Made(string(at)) {
		o.Say("There is no demo in " + string(at) + ".")
		return nil
	}
	keepers, err := openKeepers(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	if err := keepers.Stop(ctx, at.controller(), 30*time.Second); err != nil {
		return err
	}
	if err := down(ctx, at.state(), slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	if err := demo.Remove(string(at)); err != nil {
		return err
	}
	o.Say("The demo is gone, with everything in " + string(at) + ".")
	return nil
}

// serve makes sure that the demo's controller runs, and waits until it answers.
func (d demoPlace) serve(ctx context.Context, k *process.Keepers) (*api.Client, error) {
	exe, err := self()
	if err != nil {
		return nil, err
	}
	spec := process.Spec{Name: "lotse-demo-controller", Command: []string{exe, "serve", "--state", string(d.state())}, Dir: string(d),
		Env: os.Environ(), Restart: true, Grace: 30 * time.Second}
	if d.outdated() {
		if err := k.Stop(ctx, d.controller(), spec.Grace); err != nil {
			return nil, fmt.Errorf("ending the controller of an earlier build: %w", err)
		}
	}
	if err := k.Start(ctx, d.controller(), spec); err != nil {
		return nil, fmt.Errorf("starting the controller: %w", err)
	}
	client := api.NewClient(d.state().socket())
	for deadline := time.Now().Add(30 * time.Second); ; {
		_, err := client.Ping(ctx)
		if err == nil {
			return client, nil
		}
		if time.Now().After(deadline) {
			return nil, deploy.Hint(fmt.Errorf("the controller does not answer: %w%s", err, lastLines(d.controller())), "its output is in "+d.controller())
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// outdated reports whether the controller that runs is not the program that is here now: it was built again meanwhile.
func (d demoPlace) outdated() bool {
	pid, err := d.state().controller()
	if err != nil || pid == 0 {
		return false
	}
	running, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && strings.HasSuffix(running, " (deleted)")
}

func lastLines(dir string) string {
	lines, err := process.Lines(dir, 10)
	if err != nil {
		return ""
	}
	var text strings.Builder
	for _, l := range lines {
		text.WriteString("\n  " + l.Text)
	}
	return text.String()
}

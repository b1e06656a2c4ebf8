package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/load"
	keeping "github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// house is the whole product with a state folder of its own: the one binary, a controller, and what that starts.
type house struct {
	dir, state string
	bin, app   string // lotse, and the app of internal/load
	https      string // port
	http       string
	controller *process
	releases   int // how many were made that none before is like
}

// openHouse builds and starts. What it returns is to be closed also after an error.
func openHouse(ctx context.Context) (*house, error) {
	dir, err := os.MkdirTemp("/tmp", "bench") // short, for unix sockets
	if err != nil {
		return nil, err
	}
	h := &house{dir: dir, state: filepath.Join(dir, "s"), bin: filepath.Join(dir, "lotse"), app: filepath.Join(dir, "app")}
	if err := os.Chmod(dir, 0o755); err != nil { // instances and steps run as users of their own
		return h, err
	}
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", dir+"/",
		"github.com/lotse-eu/lotse/cmd/lotse", "github.com/lotse-eu/lotse/internal/load/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return h, fmt.Errorf("build: %w\n%s", err, out)
	}
	return h, h.serve(ctx)
}

func (h *house) serve(ctx context.Context) error {
	https, err1 := freeAddress()
	http, err2 := freeAddress()
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	_, httpPort, err1 := net.SplitHostPort(http)
	_, httpsPort, err2 := net.SplitHostPort(https)
	err := errors.Join(err1, err2)
	if err != nil {
		return err
	}
	h.https, h.http = httpsPort, httpPort
	return h.run(ctx)
}

// run starts a controller, on the ports of before.
func (h *house) run(ctx context.Context) (err error) {
	if h.controller, err = start(h.bin, "serve", "--state", h.state, "--https", h.https, "--http", h.http); err != nil {
		return err
	}
	if err := until(ctx, func() error { _, err := h.lotse(ctx, h.dir, "status"); return err }); err != nil {
		return fmt.Errorf("the controller does not answer: %w: %s", err, h.controller.output.text)
	}
	return nil
}

// close ends everything and removes the folder.
func (h *house) close() error {
	var failed error
	if h.controller != nil {
		failed = h.controller.stop()
	}
	keepers := &keeping.Keepers{Command: []string{h.bin, "keep"}, Log: slog.New(slog.DiscardHandler)}
	for _, dir := range append(h.instances(), h.proxy()) {
		failed = errors.Join(failed, keepers.Stop(context.Background(), dir, 10*time.Second)) // also after an interrupt
	}
	return errors.Join(failed, os.RemoveAll(h.dir))
}

// instances are the folders of the kept instances.
func (h *house) instances() []string {
	dirs, _ := filepath.Glob(filepath.Join(h.state, "local", "*", "*", "instances", "*")) // the pattern is well formed
	return dirs
}

func (h *house) proxy() string { return filepath.Join(h.state, "proxy", "keeper") }

// lotse runs a command and returns what it printed.
func (h *house) lotse(ctx context.Context, dir string, args ...string) (string, error) {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, h.bin, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &errs
	cmd.Env = append(os.Environ(), "LOTSE_STATE="+h.state)
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("lotse %s: %w\n%s%s", strings.Join(args, " "), err, out.String(), errs.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// deploy deploys and returns what the ledger knows of it, as `lotse show --json` says it.
func (h *house) deploy(ctx context.Context, dir string) (deploy.Rollout, error) {
	id, err := h.lotse(ctx, dir, "deploy", "--detach")
	if err != nil {
		return deploy.Rollout{}, err
	}
	return h.rollout(ctx, dir, id)
}

// rollout waits for its end.
func (h *house) rollout(ctx context.Context, dir, id string) (deploy.Rollout, error) {
	if _, err := h.lotse(ctx, dir, "follow", id); err != nil {
		return deploy.Rollout{}, err
	}
	text, err := h.lotse(ctx, dir, "show", id, "--json")
	if err != nil {
		return deploy.Rollout{}, err
	}
	var r deploy.Rollout
	return r, json.Unmarshal([]byte(text), &r)
}

// commit writes files into a repository, which is made where there is none, and commits everything.
func (h *house) commit(ctx context.Context, dir string, files map[string]string) error {
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			return err
		}
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "-A"}, {"commit", "-q", "--allow-empty", "-m", "a change"}} {
		if _, err := said(ctx, dir, append([]string{"git", "-c", "user.name=B", "-c", "user.email=b@example.invalid", "-c", "commit.gpgsign=false"}, args...)...); err != nil {
			return err
		}
	}
	return nil
}

func said(ctx context.Context, dir string, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return string(out), nil
}

const benchHost = "dev.bench.localhost"

// appFiles are an app of two instances whose one step copies a program that is there, so that a deploy costs what Lotse costs.
func (h *house) appFiles(release int) map[string]string {
	return map[string]string{"release.txt": fmt.Sprintln(release), "lotse.yaml": fmt.Sprintf(`app: bench
pipeline:
  app: { run: mkdir -p bin && cp %s bin/app, reads: [release.txt], makes: [bin/app] }
services:
  web: { command: bin/app good, path: /, health: /health, instances: 2, files: [release.txt] }
stages:
  dev: { url: "https://%s", access: open, stable: %s, watch: 0s, warm: 1s, drain: 10s }
`, h.app, benchHost, benchStable)}
}

const benchStable = 100 * time.Millisecond

// plan reaches the bench's app as people's browsers would.
func (h *house) plan() (load.Plan, error) {
	authority, err := proxy.OpenAuthority(filepath.Join(h.state, "authority"), nil)
	if err != nil {
		return load.Plan{}, err
	}
	return load.Plan{URL: "https://" + net.JoinHostPort(benchHost, h.https), Dial: proxy.DialLocalhost(nil),
		TLS: &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12}}, nil
}

// inHouse runs a bench in a house of its own, with a repository of files.
func inHouse(ctx context.Context, body func(h *house, repo string) error) (err error) {
	h, err := openHouse(ctx)
	if h != nil {
		defer func() { err = errors.Join(err, h.close()) }()
	}
	if err != nil {
		return err
	}
	repo := filepath.Join(h.dir, "repo")
	if err := os.Mkdir(repo, 0o755); err != nil {
		return err
	}
	return body(h, repo)
}

// hammer starts load of every kind, and returns when it is really on.
func (h *house) hammer(ctx context.Context) (*load.Hammer, error) {
	p, err := h.plan()
	if err != nil {
		return nil, err
	}
	p.Gets, p.Fresh, p.Uploads, p.Downloads, p.Sockets, p.Streams = 4, 2, 2, 2, 2, 2
	p.UploadBytes, p.DownloadBytes, p.DownloadTime, p.Pause = 256<<10, 256<<10, 2*time.Second, 10*time.Millisecond
	hammer := load.Start(ctx, p)
	on, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := hammer.Await(on, 50); err != nil {
		hammer.Stop()
		return nil, err
	}
	return hammer, nil
}

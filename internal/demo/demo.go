// Package demo shows what Lotse does on one machine, with nothing but Lotse: an example app from a commit to an HTTPS
// address, and a second commit under load. Everything it makes lies in one folder, and goes with it.
package demo

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/load"
)

// Parts is what the demo needs from its neighbours; cmd/lotse hands it in.
type Parts struct {
	Dir     string // the demo's folder
	Example string // folder of the app that is deployed; it is copied, never changed
	State   string // where the controller keeps everything
	Say     func(line string)

	// Serve makes sure that a controller runs, and returns when it answers.
	Serve func(context.Context) (Controller, error)
	// Database makes sure that PostgreSQL runs, and returns the address of a database for the app.
	Database func(context.Context) (Database, error)
	// Deploy deploys the app's commit and shows it as `lotse deploy` does.
	Deploy func(ctx context.Context, q deploy.Request) error
	// Authority is the file of the certificate that signs for *.localhost, and its pool.
	Authority func() (file string, pool *x509.CertPool, err error)
	// Dial finds *.localhost.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Controller is what the demo asks of the controller: *api.Client.
type Controller interface {
	History(ctx context.Context, app, stage string, limit int) ([]deploy.Rollout, error)
}

// marker is in every folder that the demo made; nothing without it is ever removed.
const marker = ".made-by-lotse-demo"

// Run shows it. Run again, it is quick and changes nothing.
func Run(ctx context.Context, p Parts) error {
	if err := p.makeDir(); err != nil {
		return err
	}
	p.say("The demo's folder is %s", p.Dir)
	db, err := p.Database(ctx)
	if err != nil {
		return err
	}
	app, err := p.prepareApp(ctx, db)
	if err != nil {
		return err
	}
	controller, err := p.Serve(ctx)
	if err != nil {
		return err
	}
	first, err := p.deploy(ctx, controller, app)
	if err != nil {
		return err
	}
	pool, err := p.proveTLS(ctx, first.URL)
	if err != nil {
		return err
	}
	if err := p.second(ctx, controller, app, first.URL, pool); err != nil {
		return err
	}
	return p.epilogue(ctx, controller, app, first)
}

func (p Parts) say(format string, args ...any) { p.Say(fmt.Sprintf(format, args...)) }

// makeDir makes the demo's folder, or finds its own. Anybody's else is left alone.
func (p Parts) makeDir() error {
	entries, err := os.ReadDir(p.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 && !Made(p.Dir) {
		return deploy.Hint(fmt.Errorf("%w: %s is not empty and was not made by the demo", deploy.ErrBadInput, p.Dir), "name another folder with --dir")
	}
	return errors.Join(os.MkdirAll(p.Dir, 0o711), os.WriteFile(filepath.Join(p.Dir, marker), nil, 0o600))
}

// Made reports whether a folder is the demo's.
func Made(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, marker))
	return err == nil
}

// Remove deletes the demo's folder. What runs in it must have ended. No folder is fine; one that the demo did not make is
// refused.
func Remove(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if !Made(dir) {
		return fmt.Errorf("%w: %s was not made by the demo, and stays", deploy.ErrBadInput, dir)
	}
	if err := openUp(dir); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// openUp makes folders writable: Go writes its module cache so that nobody changes it by mistake, and only root may remove
// what lies in such a folder.
func openUp(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode()&0o200 == 0 {
			err = os.Chmod(path, info.Mode().Perm()|0o200) //nolint:gosec // the folder is the demo's own, and about to go
		}
		return err
	})
}

func (p Parts) deploy(ctx context.Context, c Controller, app *repo) (deploy.Rollout, error) {
	head, err := app.head(ctx)
	if err != nil {
		return deploy.Rollout{}, err
	}
	p.say("\nlotse deploy   # commit %.8s", head)
	if err := p.Deploy(ctx, deploy.Request{Dir: app.dir}); err != nil {
		return deploy.Rollout{}, err
	}
	history, err := c.History(ctx, "", "", 1)
	if err == nil && len(history) == 0 {
		err = fmt.Errorf("%w: the rollout is not in the ledger", deploy.ErrNotFound)
	}
	if err != nil {
		return deploy.Rollout{}, err
	}
	return history[0], nil
}

// proveTLS asks the address the way a browser does that trusts the authority and nothing else.
func (p Parts) proveTLS(ctx context.Context, url string) (*x509.CertPool, error) {
	file, pool, err := p.Authority()
	if err != nil {
		return nil, err
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: p.Dial, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("asking %s: %w", url, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", url, answer.Status)
	}
	p.say("%s answers %s over %s, with a certificate that %s signed", url, answer.Status, answer.Proto, file)
	return pool, nil
}

// second deploys a second commit while clients hammer, once.
func (p Parts) second(ctx context.Context, c Controller, app *repo, url string, pool *x509.CertPool) error {
	changed, err := app.secondCommit(ctx)
	if err != nil || !changed {
		return err
	}
	p.say("\nA second commit follows while 12 clients hammer %s.", url)
	hammer := load.Start(ctx, load.Plan{URL: url, TLS: &tls.Config{RootCAs: pool}, Dial: p.Dial, Paths: app.paths(), Gets: 8, Fresh: 4,
		Pause: 20 * time.Millisecond})
	if err := hammer.Await(ctx, 50); err != nil {
		hammer.Stop()
		return err
	}
	_, err = p.deploy(ctx, c, app)
	report := hammer.Stop()
	if err != nil {
		return err
	}
	p.say("Meanwhile: %s", report.Summary())
	if report.Failed > 0 {
		return fmt.Errorf("%d of %d requests failed during the second deploy", report.Failed, report.Requests)
	}
	return nil
}

// epilogue says what there is to click at and to type.
func (p Parts) epilogue(ctx context.Context, c Controller, app *repo, first deploy.Rollout) error {
	history, err := c.History(ctx, first.Stage.App, "", 0)
	if err != nil {
		return err
	}
	file, _, err := p.Authority()
	if err != nil {
		return err
	}
	p.say("\nRollouts, the newest first")
	for _, r := range history {
		p.say("  %s  %-9s  release %-12s  commit %.8s  %s", r.ID, r.Outcome, orDash(r.Release.Short()), r.Commit, r.Began.Local().Format(time.DateTime))
	}
	p.say("\nLook at it        %s", first.URL)
	p.say("Trust it          sudo bin/lotse trust --state %s   (or: curl --cacert %s %s)", p.State, file, first.URL)
	p.say("Change it         cd %s, edit, git commit -a, lotse deploy --state %s", app.dir, p.State)
	p.say("See it            bin/lotse status --state %s", p.State)
	p.say("Take it away      make demo-down")
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

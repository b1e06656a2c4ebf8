// Package demo shows what Lotse does on one machine, with nothing but Lotse: an example app from a commit to dev, staging and prod,
// then a push that reaches dev by itself, a promotion and a rollback of prod under load. Everything it makes lies in one folder, and
// goes with it.
package demo

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Parts is what the demo needs from its neighbours; cmd/lotse hands it in.
type Parts struct {
	Dir     string // the demo's folder
	Example string // folder of the app that is deployed; it is copied, never changed
	State   string // where the controller keeps everything
	Say     func(line string)

	// Serve makes sure that a controller runs, and returns when it answers.
	Serve func(context.Context) (Controller, error)
	// Verbs ask for rollouts and show them as the command line does.
	Verbs Verbs
	// Authority is the file of the certificate that signs for *.localhost, and its pool.
	Authority func() (file string, pool *x509.CertPool, err error)
	// Dial finds *.localhost.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Verbs are those of the command line, with what they show and the errors that they end with.
type Verbs interface {
	Deploy(ctx context.Context, q deploy.Request) error
	Promote(ctx context.Context, q deploy.Move) error
	Rollback(ctx context.Context, q deploy.Move) error
	Follow(ctx context.Context, id string) error
}

// Controller is what the demo asks of the controller: *api.Client.
type Controller interface {
	History(ctx context.Context, app, stage string, limit int) ([]deploy.Rollout, error)
	Status(ctx context.Context) ([]deploy.StageStatus, error)
	Password(ctx context.Context, stage deploy.StageRef) (secret.Text, error)
}

// marker is in every folder that the demo made; nothing without it is ever removed.
const marker = ".made-by-lotse-demo"

// Run shows it. Run again, it goes on where it was ended, or is quick and changes nothing.
func Run(ctx context.Context, p Parts) error {
	if err := p.makeDir(); err != nil {
		return err
	}
	p.say("The demo's folder is %s", p.Dir)
	app, err := p.prepareApp(ctx)
	if err != nil {
		return err
	}
	controller, err := p.Serve(ctx)
	if err != nil {
		return err
	}
	s := &story{Parts: p, controller: controller, app: app}
	for _, chapter := range []func(context.Context) error{s.threeStages, s.secondTrip, s.epilogue} {
		if err := chapter(ctx); err != nil {
			return err
		}
	}
	return nil
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

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/local"
)

// dropDatabase deletes the database of a stage while no controller can want it.
func dropDatabase(ctx context.Context, state, app, stage string) error {
	p := place(state)
	if !filepath.IsLocal(app) || !filepath.IsLocal(stage) || app != filepath.Base(app) || stage != filepath.Base(stage) {
		return fmt.Errorf("%w: %q is no app, or %q no stage", deploy.ErrBadInput, app, stage)
	}
	dir := p.at("local", app, stage)
	if _, err := os.Stat(filepath.Join(dir, "postgres")); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %s/%s has no database in %s", deploy.ErrNotFound, app, stage, state)
	}
	unlock, err := p.lock()
	if errors.Is(err, deploy.ErrBusy) {
		return deploy.Hint(fmt.Errorf("%w: a controller runs, and may have releases that work with the database", deploy.ErrBusy), "lotse down")
	}
	if err != nil {
		return err
	}
	defer unlock()
	log := slog.New(slog.DiscardHandler)
	keepers, err := openKeepers(log)
	if err != nil {
		return err
	}
	engine, err := local.Open(local.Config{App: app, Stage: stage, Dir: dir, Keepers: keepers, Log: log})
	if err != nil {
		return err
	}
	return engine.DropDatabase(ctx)
}

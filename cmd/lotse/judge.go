package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/migrate"
)

// judgeMigrations judges files of a folder of the work tree, on a schema that the others make. Without files it is the last one; with all,
// each of them against those before it.
func judgeMigrations(ctx context.Context, dir, folder string, files []string, all bool) (deploy.Judgement, error) {
	if folder == "" {
		var err error
		if folder, err = migrationsFolder(dir); err != nil {
			return deploy.Judgement{}, err
		}
	}
	if !filepath.IsAbs(folder) {
		folder = filepath.Join(dir, folder)
	}
	// The folder's parent is part of the name: supabase/migrations is known by it.
	root, within := filepath.Dir(filepath.Dir(folder)), path.Join(filepath.Base(filepath.Dir(folder)), filepath.Base(folder))
	names, err := migrate.Files(os.DirFS(root), within)
	if err != nil {
		return deploy.Judgement{}, err
	}
	for _, f := range files {
		if !slices.Contains(names, f) {
			return deploy.Judgement{}, deploy.Hint(fmt.Errorf("%w: %s has no migration %s", deploy.ErrNotFound, filepath.Base(folder), f), "its files are: "+strings.Join(names, ", "))
		}
	}
	judge := migrate.New(migrate.Config{Log: slog.New(slog.DiscardHandler)})
	if len(names) == 0 {
		return deploy.Judgement{}, nil
	}
	if !all {
		if len(files) == 0 {
			files = names[len(names)-1:]
		}
		return judge.Judge(ctx, deploy.MigrationQuestion{Files: os.DirFS(root), Dir: within, Ran: others(names, files)})
	}
	return judge.JudgeEach(ctx, os.DirFS(root), within)
}

func others(all, without []string) (rest []string) {
	for _, name := range all {
		if !slices.Contains(without, name) {
			rest = append(rest, name)
		}
	}
	return rest
}

// migrationsFolder is what lotse.yaml says.
func migrationsFolder(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, "lotse.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", deploy.Hint(fmt.Errorf("%w: there is no lotse.yaml in this folder", deploy.ErrNotFound), "name the folder with the migrations")
	}
	if err != nil {
		return "", fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	}
	app, err := config.Read("lotse.yaml", text)
	if err != nil {
		return "", err
	}
	for _, s := range app.Stages {
		if s.Database.Migrations != "" {
			return s.Database.Migrations, nil
		}
		if command := s.Database.Migrate; command != "" {
			return "", deploy.Hint(fmt.Errorf("%w: `%s` migrates the database of %s, and has no folder that could be read", deploy.ErrUnsupported, command, s.Name), "it is tried on a clone of the database by each rollout, and by `lotse plan promote`; or name the folder with its SQL files")
		}
	}
	return "", deploy.Hint(fmt.Errorf("%w: lotse.yaml names no migrations", deploy.ErrNotFound), "name the folder with the migrations")
}

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lotse-eu/lotse/internal/cli"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/survey"
)

// surveyOf looks at a folder for `lotse init`. Through an os.Root no link leads out of it.
func surveyOf(ctx context.Context, dir string) (cli.Survey, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return cli.Survey{}, fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	}
	defer root.Close()
	facts := survey.Facts{Folder: filepath.Base(dir), Git: survey.AskGit(ctx, dir)}
	if installed, err := postgres.Find(); err == nil {
		facts.Postgres = installed.Major
	}
	found, err := survey.Look(root.FS(), facts)
	return cli.Survey{App: found.App, File: found.File, Found: notes(found.Found), Decide: notes(found.Decide), Next: notes(found.Next)}, err
}

func notes(all []survey.Note) []cli.SurveyNote {
	said := []cli.SurveyNote{}
	for _, n := range all {
		said = append(said, cli.SurveyNote(n))
	}
	return said
}

package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// withDatabase is good with a database of the app, and one of its stage.
func withDatabase(app, stage string) []byte {
	return []byte(strings.Replace(string(withStage(stage)), "stages:", "database: "+app+"\nstages:", 1))
}

func TestReadSnapshots(t *testing.T) {
	usual := deploy.SnapshotRule{At: "03:00", Keep: deploy.Keep{Daily: 7, Weekly: 4, Monthly: 6}}
	with := func(change func(*deploy.SnapshotRule)) deploy.SnapshotRule {
		r := usual
		change(&r)
		return r
	}
	schema, _ := compiled(t)
	for _, c := range []struct {
		app, stage string
		want       deploy.SnapshotRule
	}{
		{"{postgres: 15}", "", usual},
		{"{postgres: 15, snapshots: off}", "", with(func(r *deploy.SnapshotRule) { r.At = "" })},
		{"{postgres: 15, snapshots: false}", "", with(func(r *deploy.SnapshotRule) { r.At = "" })},
		{"{postgres: 15}", "database: {snapshots: off}", with(func(r *deploy.SnapshotRule) { r.At = "" })},
		{"{url: DB, snapshots: {at: 02:30 Europe/Berlin, keep: {daily: 3}, to: s3://backups/prod, check: bin/check, drills: weekly}}", "",
			deploy.SnapshotRule{At: "02:30 Europe/Berlin", Keep: deploy.Keep{Daily: 3}, To: "s3://backups/prod", Check: "bin/check", Drills: "weekly"}},
	} {
		file := withDatabase(c.app, c.stage)
		app, err := config.Read("lotse.yaml", file)
		if err != nil {
			t.Errorf("%s %s: %v", c.app, c.stage, err)
			continue
		}
		if diff := cmp.Diff(c.want, app.Stages[0].Database.Snapshots); diff != "" {
			t.Errorf("%s %s: %s", c.app, c.stage, diff)
		}
		if db := app.Stages[0].Database; db.Postgres == 0 && db.URL == "" {
			t.Errorf("%s %s: the database is gone: %+v", c.app, c.stage, db)
		}
		if err := schema.Validate(asEditorsSeeIt(t, file)); err != nil {
			t.Errorf("%s %s: the schema: %v", c.app, c.stage, err)
		}
	}
}

func TestMistakesInSnapshots(t *testing.T) {
	for said, want := range map[string]string{
		"yes please":             "database.snapshots must be off, or a mapping",
		"true":                   "database.snapshots must be off, or a mapping",
		`{at: "25:00"}`:          "database.snapshots.at must be a time of the day",
		`{at: "03:00 Mars/One"}`: "database.snapshots.at must be a time of the day",
		"{to: backups}":          "database.snapshots.to must be an absolute folder, or s3://BUCKET/PREFIX",
		"{to: s3://}":            "database.snapshots.to must be an absolute folder, or s3://BUCKET/PREFIX",
		"{to: /srv/../etc}":      "database.snapshots.to must be an absolute folder, or s3://BUCKET/PREFIX",
		"{keep: {weekly: 2}}":    "database.snapshots.keep must keep at least 1 daily",
		"{drills: never}":        "database.snapshots.drills must be every, weekly, monthly",
		"{when: 03:00}":          "database.snapshots.when",
	} {
		_, err := config.Read("lotse.yaml", withDatabase("{postgres: 15, snapshots: "+said+"}", ""))
		if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", said, err)
		}
	}
}

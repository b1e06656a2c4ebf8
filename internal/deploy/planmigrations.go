package deploy

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
)

// plannedMigrations judges what a request would bring. Files of a commit that was not built are read from it.
func (c *Controller) plannedMigrations(ctx context.Context, w *walk, d *DatabasePlan) error {
	if w.stage.Database.Migrate != "" {
		return c.plannedCommand(ctx, w, d)
	}
	if len(d.Run) == 0 {
		return nil
	}
	running, err := c.runningBeside(ctx, w)
	if err != nil || running == nil {
		return err
	}
	files, err := c.filesOf(ctx, w, w.stage.Database.Migrations)
	if err != nil {
		return err
	}
	j, err := c.judged(ctx, w, files)
	if err != nil {
		return c.planUnjudged(w, d, files, running, err)
	}
	return c.planJudged(ctx, w, d, j, running)
}

// planUnjudged says why nothing is known of the migrations, and whether they would be let in.
func (c *Controller) planUnjudged(w *walk, d *DatabasePlan, files fs.FS, running []Running, why error) error {
	d.Says += "; they were not judged: " + c.hide(why.Error())
	if errors.Is(why, ErrUnsupported) {
		if err := w.mayRunUnjudged(why, files, running); err != nil {
			refusal := c.refusal(err)
			d.Refused = &refusal
		}
	}
	return nil // a plan says what it knows
}

func (c *Controller) planJudged(ctx context.Context, w *walk, d *DatabasePlan, j Judgement, running []Running) error {
	w.allow(j)
	db := w.stage.Database
	waiting, err := c.mustWait(ctx, j, running, db)
	if err != nil {
		return err
	}
	c.hideVerdicts(j.Files)
	d.Judged, d.Wait = &j, waiting
	if err := j.refused(waiting, db.Migrate != "" && len(running) > 0); err != nil {
		refusal := c.refusal(err)
		d.Refused = &refusal
	}
	if len(waiting) > 0 {
		d.Says += fmt.Sprintf("; %d of them wait until that is gone", len(waiting))
	}
	return nil
}

// filesOf are the files of the release, or of the folder of its commit where there is no release yet.
func (c *Controller) filesOf(ctx context.Context, w *walk, folder string) (fs.FS, error) {
	if w.Release != "" {
		release, err := c.Builder.Release(ctx, w.Release)
		if err != nil {
			return nil, err
		}
		return c.Builder.Files(ctx, release)
	}
	names, err := c.Builder.Names(ctx, w.commit, folder)
	if err != nil {
		return nil, err
	}
	var packed bytes.Buffer // an archive is a file system that can be read
	z := zip.NewWriter(&packed)
	for _, name := range names {
		text, err := c.Builder.File(ctx, w.commit, name)
		if err != nil {
			return nil, err
		}
		entry, err := z.Create(path.Clean(name))
		if err == nil {
			_, err = entry.Write(text)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return zip.NewReader(bytes.NewReader(packed.Bytes()), int64(packed.Len()))
}

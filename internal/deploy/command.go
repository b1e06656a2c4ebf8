package deploy

import (
	"context"
	"errors"
	"fmt"

	"github.com/lotse-eu/lotse/internal/secret"
)

// A command that migrates by itself runs as a whole: nothing of it can wait. So what old code cannot stand is refused where old code runs,
// until somebody says that it may be.

// command is the one of the stage's database, ready to be run on the database at address. Its output is the log of that name.
func (w *walk) command(address secret.Text, log string) (MigrationCommand, error) {
	db := w.stage.Database
	ahead, ok := w.c.opened(w.Stage).(TasksAhead)
	if !ok {
		return MigrationCommand{}, Hint(fmt.Errorf("%w: it runs nothing of a release before it starts, as `%s` would be", ErrUnsupported, db.Migrate),
			"migrations: a folder of SQL files, as most tools write them")
	}
	order := w.order()
	return MigrationCommand{Line: db.Migrate, History: db.History, Settings: order.Settings,
		Run: func(ctx context.Context, instead []Setting) error {
			all := append([]Setting{{Name: db.Variable(), Value: address}}, instead...)
			return ahead.TaskAhead(ctx, order, log, db.Migrate, lastOf(all), func(line string) { w.output(log, line) })
		}}, nil
}

// commandLog is the name under which logs have what a command has said.
const commandLog = "migrate"

// lastOf leaves of settings of one name the last.
func lastOf(all []Setting) (kept []Setting) {
	for i, s := range all {
		later := false
		for _, o := range all[i+1:] {
			later = later || o.Name == s.Name
		}
		if !later {
			kept = append(kept, s)
		}
	}
	return kept
}

// judgedCommand has the command tried out. ErrUnsupported where the release is not made yet.
func (c *Controller) judgedCommand(ctx context.Context, w *walk, log string) (Judgement, error) {
	if w.release.ID == "" {
		return Judgement{}, fmt.Errorf("%w: the release is not built yet, and `%s` runs in it", ErrUnsupported, w.stage.Database.Migrate)
	}
	address, err := w.databaseURL()
	if err != nil {
		return Judgement{}, err
	}
	command, err := w.command(address, log)
	if err != nil {
		return Judgement{}, err
	}
	return c.Migrate.Judge(ctx, MigrationQuestion{URL: address, Command: &command})
}

// plannedCommand judges the command of a release that is there.
func (c *Controller) plannedCommand(ctx context.Context, w *walk, d *DatabasePlan) error {
	d.Says = fmt.Sprintf("`%s` runs before the release starts, while the one before goes on", w.stage.Database.Migrate)
	running, err := c.runningBeside(ctx, w)
	if err != nil || running == nil {
		return err
	}
	if w.Release != "" {
		if w.release, err = c.Builder.Release(ctx, w.Release); err != nil {
			return err
		}
	}
	j, err := c.judgedCommand(ctx, w, "")
	switch {
	case errors.Is(err, ErrUnsupported) && w.Release == "":
		d.Says += "; it is tried on a clone of the database when the release is built"
		return nil
	case err != nil:
		return c.planUnjudged(w, d, nil, running, err)
	}
	return c.planJudged(ctx, w, d, j, running)
}

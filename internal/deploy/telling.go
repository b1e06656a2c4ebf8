package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// KindTold is the event that ends the telling of one notice about one rollout. It comes after the rollout's own last event and changes
// nothing of what is known of the rollout.
const KindTold = "told"

// Told is the data of KindTold.
type Told struct {
	Notice  string `json:"notice"`
	Of      int64  `json:"of,omitempty"`     // the event about data that was told; 0: it was a rollout
	Kind    string `json:"kind"`             // slack, discord, webhook
	Attempt int    `json:"attempt"`          // how many this controller made; 0: none
	Failed  string `json:"failed,omitempty"` // why it was given up; empty: it was accepted
}

// Tells reports whether a rollout to this stage that ended so is told.
func (n Notice) Tells(stage string, outcome Outcome) bool {
	switch outcome {
	case Reverted:
		return n.TellsFailures(stage)
	case Settled, Over:
		return n.tells(stage, "success")
	default: // nothing happened, or not yet
		return false
	}
}

// TellsFailures reports whether what fails on this stage is told.
func (n Notice) TellsFailures(stage string) bool { return n.tells(stage, "failure") }

func (n Notice) tells(stage, on string) bool {
	return n.For(stage) && (len(n.On) == 0 || slices.Contains(n.On, on))
}

// For reports whether anything of this stage is told.
func (n Notice) For(stage string) bool { return len(n.Stages) == 0 || slices.Contains(n.Stages, stage) }

// NoticeTest asks for a test message.
type NoticeTest struct {
	Dir    string `json:"dir"`              // folder of lotse.yaml, as it stands there, committed or not
	Stage  string `json:"stage,omitempty"`  // whose settings hold the address; empty: the first that the notice is about
	Notice string `json:"notice,omitempty"` // empty: all
}

// NoticeResult is what became of one test message.
type NoticeResult struct {
	Notice string `json:"notice"`
	Kind   string `json:"kind"`
	Stage  string `json:"stage"`
	Told   bool   `json:"told"`
	Status int    `json:"status,omitempty"` // of HTTP; 0: no answer came
	Why    string `json:"why,omitempty"`    // what was answered, or why nothing was; never the address
	Hint   string `json:"hint,omitempty"`
}

// Described returns the app as a rollout's own lotse.yaml has it, and what its stage is given now. Where that file is gone with its
// commit, it is that of the app's last release that settled anywhere.
func (c *Controller) Described(ctx context.Context, r Rollout) (App, Settings, error) {
	w := c.newWalk(r.ID)
	w.Rollout = r
	err := c.reequip(ctx, w)
	if err == nil {
		return w.app, w.settings, nil
	}
	rollouts, unread := c.rollouts(ctx, EventQuery{App: r.Stage.App})
	for _, o := range slices.Backward(rollouts) {
		if o.Outcome == Settled && o.Release != r.Release {
			w.Release, w.Commit = o.Release, o.Commit
			again := c.reequip(ctx, w)
			return w.app, w.settings, again
		}
	}
	return App{}, Settings{}, errors.Join(err, unread)
}

// Draft returns the app as lotse.yaml in a folder has it now, committed or not, and what a stage of it is given; empty is the first.
func (c *Controller) Draft(ctx context.Context, dir, stage string) (App, Settings, error) {
	if !filepath.IsAbs(dir) {
		return App{}, Settings{}, fmt.Errorf("%w: the folder %q must be named from the root", ErrBadInput, dir)
	}
	file, err := os.ReadFile(filepath.Join(dir, "lotse.yaml"))
	if errors.Is(err, os.ErrNotExist) {
		return App{}, Settings{}, Hint(fmt.Errorf("%w: there is no lotse.yaml in %s", ErrNotFound, dir), "run it in the folder of the app")
	}
	if err != nil {
		return App{}, Settings{}, fmt.Errorf("%w: %w", ErrBadInput, err)
	}
	app, err := c.Read("lotse.yaml", file)
	if err != nil {
		return App{}, Settings{}, err
	}
	of, err := app.stage(stage)
	if err != nil {
		return App{}, Settings{}, err
	}
	settings, err := c.Settings(ctx, dir, app.Name, of)
	return app, settings, err
}

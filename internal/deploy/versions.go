package deploy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// ValueVersions are the versions of variables that something runs with, by name: ids of the vault that say nothing of any value. Variables
// of lotse.yaml and of an env_file have none.
type ValueVersions map[string]string

// VariableVersion is one version of a variable, as listings show it.
type VariableVersion struct {
	Number int       `json:"version"` // counts the changes of the name
	Since  time.Time `json:"since,omitzero"`
	By     string    `json:"by,omitempty"`   // opaque id of who set it
	Now    bool      `json:"now,omitempty"`  // it is what the next rollout gets
	Gone   string    `json:"gone,omitempty"` // why its value can be had no more: "revoked", "not kept"
}

// Reasons for which a version can be had no more.
const (
	VersionRevoked = "revoked"
	VersionNotKept = "not kept"
)

// VariableChange is what would become of a variable that is to have another value.
type VariableChange struct {
	Name string `json:"name"`
	Is   string `json:"is"` // "new", "changed", "same"
}

// What would become of a variable.
const (
	ChangeNew     = "new"
	ChangeChanged = "changed"
	ChangeSame    = "same"
)

// Recipient is a key that the sealed files are sealed for.
type Recipient struct {
	Name string `json:"name"`
	Key  string `json:"key"`           // public: age1…, ssh-ed25519 … or ssh-rsa …
	Own  bool   `json:"own,omitempty"` // of the controller's machine
}

// GoneVersion is a version of a variable that can be had no more.
type GoneVersion struct{ Name, Why string }

// VersionsError names every variable whose version of then can be had no more. It is ErrRefused.
type VersionsError struct {
	Stage StageRef
	Gone  []GoneVersion // at least one
}

func (e *VersionsError) Error() string {
	var all []string
	for _, g := range e.Gone {
		why := "the version of " + g.Name + " that it ran with is " + g.Why
		if g.Why == VersionNotKept {
			why += " any more"
		}
		all = append(all, why)
	}
	return fmt.Sprintf("%s: %s: %s", ErrRefused, e.Stage, strings.Join(all, "; "))
}

// Is makes every VersionsError an ErrRefused.
func (e *VersionsError) Is(target error) bool { return target == ErrRefused }

// Hint says how to go back all the same.
func (e *VersionsError) Hint() string {
	return fmt.Sprintf("`lotse rollback %s --with-current-values` goes back with the variables of now; where the old code needs an old value, set that first", e.Stage.Stage)
}

// Previous is the name under which instances get the value before of a secret whose values overlap.
func Previous(name string) string { return name + "_PREVIOUS" }

// today are the names of variables that never go back: where data is, and what Lotse itself uses. A release from yesterday must find the
// data of now.
func (a App) today(stage Stage) []string {
	names := []string{a.Source.Token, SupabaseToken, stage.Database.URL, DatabaseURL}
	for _, n := range a.Notify {
		names = append(names, n.URL)
	}
	return names
}

// settingsOf are what the rollout is given: the variables of now, or those of the versions that it has. Where some of these can be had no
// more, one that was asked for before takes what is there now, and a new one is not let in: checks say so.
func (c *Controller) settingsOf(ctx context.Context, w *walk) (Settings, error) {
	now, err := c.Settings(ctx, w.commit.Tree, w.app.Name, w.stage)
	if w.now = now.Versions; err != nil || w.Versions == nil || c.Earlier == nil {
		return now, err
	}
	had := w.versions(now.Versions)
	for !maps.Equal(had, now.Versions) {
		then, err := c.Earlier(ctx, w.commit.Tree, w.app.Name, w.stage, had)
		missing, is := errors.AsType[*VersionsError](err)
		if !is || !pinned(had, missing.Gone, now.Versions) {
			return then, err
		}
		if w.asks {
			w.gone = missing
		}
	}
	return now, nil
}

// versions are those that the rollout has, with what is always of now. Where values overlap, what goes back is given the value of now as
// the one before: what was made with it is still around.
func (w *walk) versions(now ValueVersions) ValueVersions {
	had := maps.Clone(w.Versions)
	for _, name := range w.app.today(w.stage) {
		pin(had, name, now)
	}
	for name := range w.stage.Overlap {
		if !w.asks || had[name] == "" {
			continue
		}
		delete(had, Previous(name))
		if is := now[name]; is != "" && is != had[name] {
			had[Previous(name)] = is
		} else if before := now[Previous(name)]; before != "" {
			had[Previous(name)] = before
		}
	}
	return had
}

func pin(had ValueVersions, name string, now ValueVersions) {
	delete(had, name)
	if is := now[name]; is != "" {
		had[name] = is
	}
}

// pinned takes the versions of now for those that are gone, and reports whether that changed anything.
func pinned(had ValueVersions, gone []GoneVersion, now ValueVersions) bool {
	before := maps.Clone(had)
	for _, g := range gone {
		pin(had, g.Name, now)
	}
	return !maps.Equal(before, had)
}

// goneBack are the names that get older values than those of now, and those that were set since. What overlaps follows its name.
func (w *walk) goneBack() (back, without []string) {
	beside := map[string]bool{}
	for name := range w.stage.Overlap {
		beside[Previous(name)] = true
	}
	for _, name := range slices.Sorted(maps.Keys(w.settings.Versions)) {
		if w.now[name] != w.settings.Versions[name] && !beside[name] {
			back = append(back, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(w.now)) {
		if _, has := w.settings.Versions[name]; !has && !beside[name] {
			without = append(without, name)
		}
	}
	return back, without
}

// goesBack says what a rollback does with the variables.
func (v *VariableChanges) goesBack(w *walk) {
	switch {
	case w.Verb != RolledBack:
	case !w.asks:
		v.Now = "asked for"
	case w.Versions == nil:
		v.Now = "which ones the release had was not kept then"
	default:
		v.Back, v.Without = w.goneBack()
	}
}

// VersionsNeeded are the versions of variables that a release of the stage ran with to which somebody may go back: of what it serves, and
// of the releases before that are kept.
func (c *Controller) VersionsNeeded(ctx context.Context, stage StageRef) ([]ValueVersions, error) {
	rollouts, err := c.rollouts(ctx, EventQuery{App: stage.App, Stage: stage.Stage})
	if err != nil {
		return nil, err
	}
	var all []ValueVersions
	seen := map[Digest]bool{}
	for _, r := range slices.Backward(rollouts) {
		if r.Outcome == Settled && !seen[r.Release] && len(seen) < releasesKept {
			seen[r.Release] = true
			all = append(all, r.Versions)
		}
	}
	return all, nil
}

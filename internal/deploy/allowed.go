package deploy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"
)

// A person may let one migration in that would be refused, for one request and with a reason. It is named by the rule and a key that is
// made of the rule, of what it is about, and of the statement or the file: so it is the one that was shown, or none.

// unjudged is the rule by which migrations are refused that nothing was found out about.
const unjudged = "unjudged"

var allowance = regexp.MustCompile(`^[a-z][a-z-]*:[0-9a-f]{8}$`)

// checkAllowances says what of them could name nothing.
func checkAllowances(all []string) error {
	for _, a := range all {
		if !allowance.MatchString(a) {
			return Hint(fmt.Errorf("%w: --allow-migration %q names no migration", ErrBadInput, a), "`lotse plan` shows what to write, such as drop-column:1f0a9c3b")
		}
	}
	return nil
}

// AllowanceKey makes the key of a verdict from what it is about.
func AllowanceKey(about ...string) string {
	sum := sha256.New()
	for _, a := range about {
		fmt.Fprintf(sum, "%d %s", len(a), a)
	}
	return hex.EncodeToString(sum.Sum(nil))[:8]
}

// Allowance is how a request names what it lets in; "" where nothing can be named.
func (v Verdict) Allowance() string {
	if v.Key == "" {
		return ""
	}
	return v.Rule + ":" + v.Key
}

// allow marks what the request has let in.
func (w *walk) allow(j Judgement) {
	for _, f := range j.Files {
		for i := range f.Verdicts {
			v := &f.Verdicts[i]
			if v.Allowed == "" && slices.Contains(w.Allowed, v.Allowance()) {
				v.Allowed = w.AllowedWhy
				w.prove(Evidence{Probe: "migration allowed", Figure: fmt.Sprintf("by --allow-migration %s: %s, %s", v.Allowance(), f.Name, *v)})
			}
		}
	}
}

// mayRunUnjudged refuses migrations that could not be judged where something runs that they could break.
func (w *walk) mayRunUnjudged(why error, files fs.FS, running []Running) error {
	if len(running) == 0 {
		w.prove(Evidence{Probe: "migrations judged", Figure: "NOT JUDGED, so all of them run at once; nothing runs here that they could break: " + unable(why)})
		return nil
	}
	if db := w.stage.Database; db.Migrate != "" && (w.Verb == RolledBack || w.Verb == Redeployed) {
		w.prove(Evidence{Probe: "migrations judged", Figure: fmt.Sprintf("NOT JUDGED; the release was here before, and `%s` ran then: %s", db.Migrate, unable(why))})
		return nil
	}
	key, err := w.unjudgedKey(files)
	if err != nil {
		return err
	}
	if slices.Contains(w.Allowed, key) {
		w.prove(Evidence{Probe: "migrations judged", Figure: fmt.Sprintf("NOT JUDGED, so all of them run at once, by --allow-migration %s: %s (%s)", key, w.AllowedWhy, unable(why))})
		return nil
	}
	hint := "or, where they may run as they are: " + passBy(key)
	if h := HintOf(why); h != "" {
		hint = h + "\n" + hint
	}
	return Hint(fmt.Errorf("%w: its migrations could not be judged, and a release serves that they could break: %s", ErrRefused, unable(why)), hint)
}

// unable is why nothing was judged, without the words by which that is decided.
func unable(err error) string { return strings.TrimPrefix(err.Error(), ErrUnsupported.Error()+": ") }

func passBy(allowance string) string { return "--allow-migration " + allowance + " --reason WHY" }

// unjudgedKey stands for all that may run: the files, or the command of a commit.
func (w *walk) unjudgedKey(files fs.FS) (string, error) {
	db := w.stage.Database
	about := []string{unjudged, db.Migrate, w.commit.ID}
	if db.Migrations != "" {
		about = []string{unjudged}
		err := fs.WalkDir(files, db.Migrations, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".sql") {
				return err
			}
			text, err := fs.ReadFile(files, name)
			about = append(about, name, string(text))
			return err
		})
		if err != nil {
			return "", err
		}
	}
	return unjudged + ":" + AllowanceKey(about...), nil
}

// runningBeside is what runs on the stage that migrations could break; nil: nothing, or nobody can tell.
func (c *Controller) runningBeside(ctx context.Context, w *walk) ([]Running, error) {
	engine := c.opened(w.Stage)
	if engine == nil {
		return nil, nil
	}
	running, err := engine.List(ctx)
	if err != nil || w.stage.Database.Own() && len(running) == 0 {
		return nil, err
	}
	return append([]Running{}, running...), nil
}

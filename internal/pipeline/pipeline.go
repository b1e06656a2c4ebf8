// Package pipeline knows what turns a commit into a release, and what need not be done again.
//
// # Steps
//
// A run has one checkout, of the commit's exact bytes and nothing else, which its steps share. A step starts when what it
// needs is done; steps that do not need each other run at once. Every path that a step makes has one maker. A step sees what
// the steps that it needs made, directly or not; others' outputs may be there or not, and it must not depend on them. What a
// step writes outside its makes is lost with the checkout.
//
// Steps run as Config.User in an environment of their own: see `inherited`. HOME is a folder that persists, for the caches of npm,
// go and their like. It is shared by all pipelines of this folder and never part of a release.
//
// # Not again
//
// A step's cache key is the digest of its command, its inputs as git names them, the keys of the steps that it needs, and the
// versions of the tools that it names. Under that key the depot knows what it made. A step with a known key is not run; what
// it made is only written to the checkout where another step that has to run needs it. A step that changed what another one
// made, while that was being stored, keeps it from being cached, and nothing else.
//
// # What is in a release
//
// The folder of every static service, with compressed siblings and an index. For services and jobs with a command:
//
//   - where the command's first word is a file that a step makes (bin/api): what that step makes of it (the file, or the
//     folder in its `makes` that holds it), and what Files names;
//   - where it is anything else (node server.js, npm start): the whole commit below lotse.yaml and everything that steps make,
//     as in the checkout after the build, without what steps wrote elsewhere.
//
// And always: lotse.yaml, and the migrations of every stage, so that a rollout needs neither repository nor work tree.
//
// # Public values
//
// A step with public variables is run with placeholders, and what comes of other placeholders and of none is compared (prove.go,
// compare.go). Where all is the same, values are put in their place (fill.go, place.go); else, and where the sources may compare
// with a value (asks.go), the step is run again with the values of the stage (fit.go).
//
// # After a crash
//
// A killed run leaves a checkout that no lock holds any more, files aside in the depot, and processes that process.Sweep
// finds. New removes all of it; the next run with the same id starts afresh and finds every step that had been stored.
package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/process"
)

// Config is what a pipeline needs. Depot, Dir and Log must be set.
type Config struct {
	Depot    *depot.Depot
	Dir      string         // its state: checkouts, logs, the home of the steps
	User     *process.User  // who the steps run as; nil: the caller. Another one than the caller needs root
	Budget   int64          // bytes of the depot that Prune leaves, default 10 GiB
	Reserve  int64          // bytes that must be free on the disk before something is built, default 1 GiB
	Parallel int            // steps that run at once, default two for each core, as some wait for the network, but at least 4
	Inherit  []string       // names of further variables that the steps inherit; their values are part of every cache key
	Hider    *process.Hider // what no step may print; nil: nothing is known
	Clock    func() time.Time
	Log      *slog.Logger
}

// Pipeline implements deploy.Builder.
type Pipeline struct {
	config Config
	depot  *depot.Depot
	tools  *toolbox
	leaks  *leakFinder
	later  sync.WaitGroup // checkouts that are being removed
	noting sync.Mutex     // the notes of releases are changed one at a time
}

var _ deploy.Builder = (*Pipeline)(nil)

// New opens a pipeline and removes what dead runs left.
func New(c Config) (*Pipeline, error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, err
	}
	c.Dir = dir
	if c.Budget == 0 {
		c.Budget = 10 << 30
	}
	if c.Reserve == 0 {
		c.Reserve = 1 << 30
	}
	if c.Parallel == 0 {
		c.Parallel = max(4, 2*cores())
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	p := &Pipeline{config: c, depot: c.Depot}
	if p.leaks, err = newLeakFinder(); err != nil {
		return nil, err
	}
	p.tools = &toolbox{depot: c.Depot, user: c.User, home: p.home(), versions: map[string]string{}}
	if err := p.makeFolders(); err != nil {
		return nil, fmt.Errorf("open the pipeline: %w", spaced(err))
	}
	return p, p.removeLeftovers()
}

// Close waits for checkouts that are being removed. Nothing is lost without it.
func (p *Pipeline) Close() error {
	p.later.Wait()
	return nil
}

func (p *Pipeline) home() string { return filepath.Join(p.config.Dir, "home") }
func (p *Pipeline) work() string { return filepath.Join(p.config.Dir, "work") }
func (p *Pipeline) runs() string { return filepath.Join(p.config.Dir, "runs") }

func (p *Pipeline) makeFolders() error {
	for dir, mode := range map[string]fs.FileMode{p.home(): 0o700, p.work(): 0o711, p.runs(): 0o700} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return err
		}
	}
	if p.config.User == nil {
		return nil
	}
	if err := errors.Join(os.Chmod(p.config.Dir, 0o711), os.Chmod(p.work(), 0o711)); err != nil {
		return err
	}
	if at := unreachable(p.work(), p.config.User); at != "" {
		return deploy.Hint(fmt.Errorf("%w: the user %d of the pipeline's steps may not enter %s", deploy.ErrBadInput, p.config.User.UID, at),
			"give everybody the right to enter it (chmod o+x), or take another folder")
	}
	return p.give(p.home())
}

// give makes the user of the steps the owner of dir and all below, where it is not.
func (p *Pipeline) give(dir string) error {
	uid, gid := p.owner()
	info, err := os.Lstat(dir)
	if err != nil || uid < 0 || info.Sys().(*syscall.Stat_t).Uid == uint32(uid) {
		return err
	}
	root, err := os.OpenRoot(dir) // who owns a folder in it may swap it for a link meanwhile
	if err != nil {
		return err
	}
	defer root.Close()
	return filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		inside, notInside := filepath.Rel(dir, name)
		return errors.Join(err, notInside, root.Lchown(inside, uid, gid))
	})
}

// owner is who the files of a checkout belong to; -1 is the caller.
func (p *Pipeline) owner() (uid, gid int) {
	if p.config.User == nil {
		return -1, -1
	}
	return int(p.config.User.UID), int(p.config.User.GID)
}

func mayEnter(info fs.FileInfo, user *process.User) bool {
	st := info.Sys().(*syscall.Stat_t)
	switch {
	case st.Uid == user.UID:
		return st.Mode&0o100 != 0
	case st.Gid == user.GID:
		return st.Mode&0o010 != 0
	}
	return st.Mode&0o001 != 0
}

// spaced makes a full disk deploy.ErrNoSpace, and what the depot says what deploy says.
func spaced(err error) error {
	switch {
	case err == nil, errors.Is(err, deploy.ErrNoSpace), errors.Is(err, deploy.ErrDamaged), errors.Is(err, deploy.ErrNotFound):
		return err
	case errors.Is(err, depot.ErrNoSpace), errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return deploy.Hint(fmt.Errorf("%w: %w", deploy.ErrNoSpace, err), "free some space on the disk")
	case errors.Is(err, depot.ErrDamaged):
		return fmt.Errorf("%w: %w", deploy.ErrDamaged, err)
	case errors.Is(err, depot.ErrNotFound):
		return fmt.Errorf("%w: %w", deploy.ErrNotFound, err)
	}
	return err
}

func (p *Pipeline) removeLeftovers() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if ended, err := process.Sweep(ctx); err != nil {
		p.config.Log.Warn("what dead runs started could not be ended", "error", err)
	} else if ended > 0 {
		p.config.Log.Info("ended what dead runs had started", "processes", ended)
	}
	return p.sweepSlots()
}

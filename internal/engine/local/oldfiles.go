package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// oldMost is of how many releases that have ended a stage keeps the files: a tab that is older than ten releases may load anew.
const oldMost = 10

// oldNote is old/<rollout>.json: of a rollout that has ended, whose files an open tab may still ask for. Its release's folder stays.
type oldNote struct {
	Format  int           `json:"format"` // 1
	Rollout string        `json:"rollout"`
	Release deploy.Digest `json:"release"`
	Label   string        `json:"label"`
	Until   time.Time     `json:"until"`

	Services []deploy.Service `json:"services"` // those with files
}

func (e *Engine) oldPath(rollout string) string { return e.at("old", rollout+".json") }

// keepFiles writes down that the files of a rollout are to stay, when it has served: before it leaves the table.
func (e *Engine) keepFiles(ctx context.Context, n *note) error {
	files := slices.DeleteFunc(slices.Clone(n.Services), func(s deploy.Service) bool { return s.Static == "" })
	if n.OldFiles <= 0 || len(files) == 0 {
		return nil
	}
	if _, err := os.Stat(e.oldPath(n.Rollout)); err == nil {
		return nil // a Stop that goes on where another was
	}
	if served, err := e.served(ctx, n.Rollout); err != nil || !served {
		return err
	}
	return writeJSON(e.oldPath(n.Rollout), oldNote{Format: format, Rollout: n.Rollout, Release: n.Release, Label: n.label(),
		Until: e.Clock().Add(n.OldFiles).UTC(), Services: files})
}

// served reports whether the rollout has had traffic.
func (e *Engine) served(ctx context.Context, rollout string) (bool, error) {
	site, err := e.Proxy.Get(ctx, e.key())
	if errors.Is(err, proxy.ErrUnknown) {
		s, err := e.readStage()
		return s.Shares[rollout] > 0 || s.Last == rollout, err
	}
	return slices.ContainsFunc(site.Releases, func(r proxy.Release) bool { return r.ID == rollout && r.Served }), err
}

// oldNotes returns those whose time is not over, the newest first, and those that nobody needs any more.
func (e *Engine) oldNotes() (kept, over []oldNote, err error) {
	entries, err := os.ReadDir(e.at("old"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	var all []oldNote
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".json") {
			continue
		}
		var o oldNote
		if err := readJSON(e.at("old", entry.Name()), &o); err != nil || o.Format != format {
			continue // its files are not worth a stage that cannot be changed
		}
		all = append(all, o)
	}
	slices.SortFunc(all, func(a, b oldNote) int { return b.Until.Compare(a.Until) })
	for _, o := range all {
		if len(kept) < oldMost && e.Clock().Before(o.Until) {
			kept = append(kept, o)
		} else {
			over = append(over, o)
		}
	}
	return kept, over, nil
}

// oldReleases are the rollouts that are gone but for their files, as the proxy has them. there are those that are up.
func (e *Engine) oldReleases(there []*note) ([]proxy.Release, error) {
	kept, _, err := e.oldNotes()
	var releases []proxy.Release
	for _, o := range kept {
		if !slices.ContainsFunc(there, func(n *note) bool { return n.Rollout == o.Rollout }) {
			releases = append(releases, proxy.Release{ID: o.Rollout, Label: o.Label, Until: o.Until, Routes: e.fileRoutes(o.Release, o.Services)})
		}
	}
	return releases, err
}

func (e *Engine) fileRoutes(d deploy.Digest, services []deploy.Service) (routes []proxy.Route) {
	for _, s := range services {
		routes = append(routes, e.fileRoute(d, s))
	}
	return routes
}

// dropOld takes away what is not needed any more, with the folders of its releases; all of it when the stage ends.
func (e *Engine) dropOld(ctx context.Context, all bool) error {
	kept, over, err := e.oldNotes()
	if all {
		over = append(over, kept...)
	}
	for _, o := range over {
		if gone := os.Remove(e.oldPath(o.Rollout)); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
			continue
		}
		err = errors.Join(err, e.dropRelease(ctx, o.Release))
	}
	return err
}

// keptFor reports whether the folder of a release is needed for its files.
func (e *Engine) keptFor(d deploy.Digest) (bool, error) {
	kept, over, err := e.oldNotes()
	return slices.ContainsFunc(append(kept, over...), func(o oldNote) bool { return o.Release == d }), err
}

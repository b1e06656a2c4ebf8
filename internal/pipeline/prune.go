package pipeline

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// runsKept is how many of the newest runs keep their logs though no release of theirs is left: they have failed, or made
// again what was there.
const runsKept = 20

// Prune implements deploy.Builder. The logs of a run go with its release, and a release that was fitted to values with the one that
// it was made of.
func (p *Pipeline) Prune(ctx context.Context, keep []deploy.Digest) error {
	home, err := p.homes()
	if err != nil {
		return err
	}
	homes := map[string]bool{}
	for _, id := range keep {
		homes[home[string(id)]] = true
	}
	kept := func(kind, key string) bool { return kind == noteRelease && homes[key] }
	freed, err := p.depot.Prune(ctx, kept, p.config.Budget)
	if err != nil {
		return spaced(err)
	}
	p.config.Log.Info("pruned releases and cached outputs", "bytes", freed)
	return p.pruneLogs()
}

func (p *Pipeline) pruneLogs() error {
	named := map[string]bool{}
	releases, err := p.depot.Keys(noteRelease)
	if err != nil {
		return err
	}
	for _, id := range releases {
		data, err := p.depot.Peek(noteRelease, id)
		var note releaseNote
		if err == nil && json.Unmarshal(data, &note) == nil {
			named[note.Run] = true
			for _, f := range note.Fits {
				named[f.Run] = true
			}
		}
	}
	list, err := os.ReadDir(p.runs())
	if err != nil {
		return err
	}
	type old struct {
		name string
		at   time.Time
	}
	var others []old
	for _, e := range list {
		info, err := e.Info()
		if err == nil && !named[e.Name()] {
			others = append(others, old{e.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(others, func(a, b old) int { return b.at.Compare(a.at) })
	for _, o := range others[min(runsKept, len(others)):] {
		if err := os.RemoveAll(filepath.Join(p.runs(), o.name)); err != nil {
			return err
		}
	}
	return nil
}

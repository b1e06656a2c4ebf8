package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path"
	"runtime"
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

// identity is everything that decides what a step does. Its JSON is what a cache key is the digest of. Times, paths of this
// machine and the commit's own name are not in it, and neither is SOURCE_DATE_EPOCH: a step whose inputs did not change is
// not run again only because there is a new commit.
//
// Of a needed step its key is in it and not the digest of its outputs, so that the keys of all steps are known before
// anything runs, and a step may start before the outputs that it sees are stored.
type identity struct {
	Format int      `json:"format"`
	Run    string   `json:"run"`
	In     string   `json:"in"`
	Makes  []string `json:"makes"`
	Inputs string   `json:"inputs"` // digest of path, mode and object of every input
	Needs  []string `json:"needs"`  // keys, sorted
	Tools  []string `json:"tools"`
	Env    []string `json:"env"` // what is inherited and may change outputs
	System string   `json:"system"`
	Public []string `json:"public,omitempty"` // NAME=value
}

// setKeys gives every step its cache key.
func (p *Pipeline) setKeys(ctx context.Context, steps []*step, all []source, env environment) error {
	for _, s := range steps {
		if err := refuseLinks(s, all); err != nil {
			return fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
		}
		inputs, err := inputs(s, all)
		if err != nil {
			return fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
		}
		id := identity{Format: 1, Run: s.Run, In: s.in, Makes: s.makes, Inputs: inputs, Env: env.keyed, System: runtime.GOOS + "/" + runtime.GOARCH,
			Public: s.baked}
		for _, n := range s.needs {
			id.Needs = append(id.Needs, string(n.key))
		}
		slices.Sort(id.Needs)
		if id.Tools, err = p.tools.of(ctx, s, all, env); err != nil {
			return err
		}
		data, err := json.Marshal(id)
		if err != nil {
			return err
		}
		s.key = deploy.Digest(depot.DigestOf(data))
	}
	return nil
}

// refuseLinks refuses folders that the commit has as symbolic links: what lies behind one is not told by its name.
func refuseLinks(s *step, all []source) error {
	links := map[string]bool{}
	for _, f := range all {
		if f.mode == "120000" {
			links[f.path] = true
		}
	}
	if len(links) == 0 {
		return nil
	}
	ways := map[string]string{s.in: "runs in"}
	for _, p := range s.reads {
		ways[path.Dir(p)] = "reads something in"
	}
	for _, p := range s.makes {
		ways[p] = "makes"
	}
	for p, does := range ways {
		for at := p; at != "."; at = path.Dir(at) {
			if links[at] {
				return fmt.Errorf("step %s %s %s, and %s is a symbolic link; name the folder that it points to", s.Name, does, p, at)
			}
		}
	}
	return nil
}

// inputs is the digest of what a step reads of the commit.
func inputs(s *step, all []source) (string, error) {
	h := sha256.New()
	found := make([]bool, len(s.reads))
	for _, f := range all {
		in := len(s.reads) == 0 || toolFiles[path.Base(f.path)] && below(s.in, path.Dir(f.path))
		for i, p := range s.reads {
			if below(f.path, p) {
				in, found[i] = true, true
			}
		}
		if in {
			fmt.Fprintf(h, "%s %s %s\x00", f.mode, f.object, f.path)
		}
	}
	for i, p := range s.reads {
		if !found[i] && !madeBy(s.all, p) {
			return "", fmt.Errorf("step %s reads %s, which the commit does not have and no step that it needs makes", s.Name, p)
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// madeBy reports whether one of the steps makes p, something in it, or a folder that holds it.
func madeBy(steps []*step, p string) bool {
	for _, s := range steps {
		for _, m := range s.makes {
			if below(p, m) || below(m, p) {
				return true
			}
		}
	}
	return false
}

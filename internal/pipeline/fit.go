package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

// Files implements deploy.Builder.
func (p *Pipeline) Files(ctx context.Context, r deploy.Release) (fs.FS, error) {
	var tree depot.Tree
	for _, f := range r.Manifest.Files {
		tree = append(tree, depot.Entry{Path: f.Path, Digest: string(f.Digest), Size: f.Size, Executable: f.Executable, Link: f.Link})
	}
	return p.depot.FS(ctx, tree), nil
}

// Fit implements deploy.Builder. A release of a commit that is gone from the repository can still be filled; the commit is needed
// only where a step has to be run again.
func (p *Pipeline) Fit(ctx context.Context, id string, app deploy.App, c deploy.Commit, r deploy.Release, public []deploy.Setting,
	report func(deploy.StepEvidence), output func(step, line string)) (deploy.Release, error) {
	rel, err := p.fit(ctx, &run{p: p, id: id, app: app, commit: c, report: report, output: output, logs: filepath.Join(p.runs(), id, "stage")}, r, public)
	if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return rel, spaced(err)
}

func (p *Pipeline) fit(ctx context.Context, run *run, r deploy.Release, public []deploy.Setting) (deploy.Release, error) {
	value, err := publicValues(r, public)
	if err != nil {
		return deploy.Release{}, err
	}
	digest := valuesDigest(value)
	switch {
	case r.Manifest.Fits != nil && r.Manifest.Fits.Values == digest:
		return r, nil
	case r.Manifest.Fits != nil:
		return deploy.Release{}, fmt.Errorf("%w: release %s was made for other values of %s", deploy.ErrBadInput, r.ID.Short(), listed(keysOf(value)))
	case len(value) == 0:
		return r, nil
	}
	defer p.depot.Hold()()
	run.fits = &deploy.Fit{Of: r.ID, Values: digest}
	note, err := p.noteOf(string(r.ID))
	if err != nil {
		return deploy.Release{}, fmt.Errorf("release %s: %w", r.ID.Short(), err)
	}
	if rel, ok := p.fitted(ctx, run, note, digest); ok {
		return rel, nil
	}
	begun := time.Now()
	why, err := p.refusals(ctx, note.Proof, r.Manifest, value)
	if err != nil {
		return deploy.Release{}, err
	}
	if len(why) == 0 {
		rel, err := run.filledRelease(ctx, r, note.Proof, value, begun)
		var refused *unfit
		if !errors.As(err, &refused) {
			return rel, err
		}
		why = append(why, refused.why)
	}
	return run.rebuilt(ctx, value, why)
}

// publicValues checks that there is a value for every public variable, and none for another.
func publicValues(r deploy.Release, public []deploy.Setting) (map[string]string, error) {
	wanted, value := map[string]bool{}, map[string]string{}
	for _, v := range r.Manifest.Public {
		wanted[v.Name] = true
	}
	for _, v := range public {
		if _, twice := value[v.Name]; twice || !wanted[v.Name] {
			return nil, fmt.Errorf("%w: %s is no public variable of release %s, or is there twice", deploy.ErrBadInput, v.Name, r.ID.Short())
		}
		value[v.Name] = v.Value.Reveal()
		if strings.Contains(value[v.Name], "\x00") || !utf8.ValidString(value[v.Name]) {
			return nil, fmt.Errorf("%w: the value of %s is no text", deploy.ErrBadInput, v.Name)
		}
	}
	for name := range wanted {
		if _, ok := value[name]; !ok {
			return nil, fmt.Errorf("%w: %s has no value", deploy.ErrMissing, name)
		}
	}
	return value, nil
}

// valuesDigest is the digest of names and values. The values are public, so that it may be.
func valuesDigest(value map[string]string) deploy.Digest {
	data, _ := json.Marshal(value) // sorted; plain values always marshal
	return deploy.Digest(depot.DigestOf(data))
}

// refusals says why these values cannot be filled in, as far as it can be known before trying.
func (p *Pipeline) refusals(ctx context.Context, proof *proof, m deploy.Manifest, value map[string]string) ([]string, error) {
	var why []string
	for _, v := range m.Public {
		if v.Why != "" && !slices.Contains(why, v.Why) {
			why = append(why, v.Why)
		}
	}
	if len(why) > 0 {
		return why, nil
	}
	if proof == nil {
		return []string{"nothing is known about its values"}, nil
	}
	asked, err := p.asksOf(ctx, proof.Asks)
	if err != nil {
		return nil, err
	}
	empty := 0
	for _, name := range proof.Names {
		if value[name] == "" {
			empty++
		} else if say := asked.decides(name, value[name]); say != "" {
			why = append(why, say)
		}
	}
	if empty > 0 && empty < len(proof.Names) { // only none and all were compared: X || Y is neither
		why = append(why, "some of "+listed(proof.Names)+" are empty here and some are not")
	}
	return why, nil
}

// filledRelease makes the release with the values in place, from what is in the depot alone.
func (r *run) filledRelease(ctx context.Context, of deploy.Release, proof *proof, value map[string]string, begun time.Time) (deploy.Release, error) {
	if err := r.p.askDisk(ctx); err != nil {
		return deploy.Release{}, err
	}
	files, err := r.p.fillIn(ctx, of.Manifest, proof, value)
	if err != nil {
		return deploy.Release{}, err
	}
	r.app.Services, r.app.Jobs = of.Manifest.Services, of.Manifest.Jobs
	tree, err := r.withStatic(ctx, files)
	if err != nil {
		return deploy.Release{}, err
	}
	var steps []deploy.StepEvidence
	named := map[string][]string{}
	for _, v := range of.Manifest.Public {
		named[v.Step] = append(named[v.Step], v.Name)
	}
	for _, name := range keysOf(named) {
		e := deploy.StepEvidence{Name: name, State: deploy.StepCached, Duration: time.Since(begun), Cause: listed(named[name]) + " filled in"}
		steps = append(steps, e)
		if r.report != nil {
			r.report(e)
		}
	}
	m := of.Manifest
	m.Fits, m.Files = r.fits, manifestFiles(tree)
	rec := of.Record
	rec.Made, rec.Steps = r.p.config.Clock().UTC(), steps
	return r.save(ctx, m, tree, rec)
}

// rebuilt runs the steps with the real values.
func (r *run) rebuilt(ctx context.Context, value map[string]string, why []string) (deploy.Release, error) {
	if _, err := r.p.prepare(ctx, r, func(_ *step, name string) string { return value[name] }); err != nil {
		return deploy.Release{}, err
	}
	r.why, r.proof = why, &proof{Why: map[string]string{}}
	for name := range value {
		r.proof.Why[name] = strings.Join(why, "; ")
	}
	return r.untilWhole(ctx, r.attempt)
}

// fitted finds the release that was made of another for the same values.
func (p *Pipeline) fitted(ctx context.Context, run *run, note releaseNote, digest deploy.Digest) (deploy.Release, bool) {
	for _, f := range note.Fits {
		if f.Values != digest {
			continue
		}
		rel, err := p.Release(ctx, f.ID)
		if err == nil {
			err = p.verify(ctx, rel)
		}
		if err != nil {
			p.config.Log.Warn("the release is fitted again", "release", f.ID.Short(), "error", err)
			return deploy.Release{}, false
		}
		for i := range rel.Record.Steps {
			rel.Record.Steps[i].State = deploy.StepCached
			if run.report != nil {
				run.report(rel.Record.Steps[i])
			}
		}
		return rel, true
	}
	return deploy.Release{}, false
}

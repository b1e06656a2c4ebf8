package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

// Kinds of notes in the depot.
const (
	noteStep    = "step"    // cache key → what the step made
	noteRelease = "release" // id → record; keeps the release
	noteSame    = "same"    // what a release is made of → its id
	noteSource  = "source"  // files of a commit → their tree
)

// sameKey is the digest of everything that a release is made of.
func (r *run) sameKey() string {
	h := struct {
		Format   int
		App      string
		Commit   string
		Services []deploy.Service
		Jobs     []deploy.Job
		Steps    []deploy.StepKey
		Made     []outputs
		Always   []string
		Public   []deploy.Public
		Fits     *deploy.Fit
	}{2, r.app.Name, r.commit.ID, r.app.Services, r.app.Jobs, r.stepKeys(), nil, r.migrations(), r.public(), r.fits}
	for _, s := range r.steps {
		h.Made = append(h.Made, r.made[s])
	}
	data, _ := json.Marshal(h) // plain values always marshal
	return depot.DigestOf(data)
}

func (r *run) stepKeys() []deploy.StepKey {
	keys := []deploy.StepKey{}
	for _, s := range r.steps {
		keys = append(keys, deploy.StepKey{Name: s.Name, Key: s.key})
	}
	slices.SortFunc(keys, func(a, b deploy.StepKey) int { return strings.Compare(a.Name, b.Name) })
	return keys
}

// again finds the release that was made of the very same things, if it is still whole.
func (r *run) again(ctx context.Context) (deploy.Release, bool) {
	id, err := r.p.depot.Note(noteSame, r.sameKey())
	if err != nil {
		return deploy.Release{}, false
	}
	rel, err := r.p.Release(ctx, deploy.Digest(id))
	if err == nil {
		err = r.p.verify(ctx, rel)
	}
	if err != nil {
		r.p.config.Log.Warn("the release is made again from its parts", "release", string(id), "error", err)
		return deploy.Release{}, false
	}
	rel.Record = r.record()
	return rel, true
}

// assemble makes the release of what the steps made.
func (r *run) assemble(ctx context.Context) (deploy.Release, error) {
	made, err := r.madeTree(ctx)
	if err != nil {
		return deploy.Release{}, err
	}
	files, err := r.contents(ctx, made)
	if err != nil {
		return deploy.Release{}, err
	}
	bill, err := r.bill(ctx, files)
	if err != nil {
		return deploy.Release{}, err
	}
	m := deploy.Manifest{
		Format: 1, App: r.app.Name, Commit: r.commit.ID, Steps: r.stepKeys(), Services: r.app.Services, Jobs: r.app.Jobs, SBOM: bill,
		Public: r.public(), Fits: r.fits, Files: manifestFiles(files),
	}
	if m.Services == nil {
		m.Services = []deploy.Service{}
	}
	rel, err := r.save(ctx, m, files, r.record())
	if err != nil {
		return deploy.Release{}, err
	}
	return rel, r.p.depot.SetNote(noteSame, r.sameKey(), []byte(rel.ID), depot.Keeps{})
}

func manifestFiles(tree depot.Tree) []deploy.File {
	files := []deploy.File{}
	for _, e := range tree {
		files = append(files, deploy.File{Path: e.Path, Digest: deploy.Digest(e.Digest), Size: e.Size, Executable: e.Executable, Link: e.Link})
	}
	return files
}

// save verifies the release, stores it and writes it down.
func (r *run) save(ctx context.Context, m deploy.Manifest, tree depot.Tree, rec deploy.Record) (deploy.Release, error) {
	if err := r.verifyMade(ctx, tree); err != nil {
		return deploy.Release{}, err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return deploy.Release{}, err
	}
	id, _, err := r.p.depot.Put(ctx, bytes.NewReader(data))
	if err != nil {
		return deploy.Release{}, err
	}
	files, err := r.p.depot.SaveTree(ctx, tree)
	if err != nil {
		return deploy.Release{}, err
	}
	rel := deploy.Release{ID: deploy.Digest(id), Manifest: m, Record: rec}
	return rel, r.writeDown(rel, files)
}

// verifyMade reads every byte of a new release. What is wrong is put down to the step that made it, so that it is made again.
func (r *run) verifyMade(ctx context.Context, tree depot.Tree) error {
	err := r.p.depot.VerifyTree(ctx, tree)
	if err == nil || ctx.Err() != nil {
		return err
	}
	for _, s := range r.steps {
		t, treeErr := r.treeOf(ctx, s)
		if treeErr != nil {
			return treeErr
		}
		if err := r.p.depot.VerifyTree(ctx, t); err != nil {
			return &lostError{s, err}
		}
	}
	// Not of a step: a copy of the commit's files or a compressed sibling. Both are made again without their notes.
	for _, kind := range []string{noteSource, noteStatic, noteSmaller} {
		keys, _ := r.p.depot.Keys(kind)
		for _, key := range keys {
			if err := r.p.depot.DropNote(kind, key); err != nil {
				return err
			}
		}
	}
	return &lostError{nil, err}
}

// treeOf loads what a step made.
func (r *run) treeOf(ctx context.Context, s *step) (depot.Tree, error) {
	made := r.made[s]
	if made.Tree == "" {
		return nil, nil
	}
	t, err := r.p.depot.Tree(ctx, made.Tree)
	if errors.Is(err, depot.ErrDamaged) || errors.Is(err, depot.ErrNotFound) {
		return nil, &lostError{s, err}
	}
	return t, err
}

// madeTree is what all steps whose outputs may be in the release made.
func (r *run) madeTree(ctx context.Context) (map[*step]depot.Tree, error) {
	made := map[*step]depot.Tree{}
	for _, s := range r.steps {
		if !r.wanted(s) {
			continue
		}
		t, err := r.treeOf(ctx, s)
		if err != nil {
			return nil, err
		}
		made[s] = t
	}
	return made, nil
}

// wanted reports whether a step's outputs may be in the release, so that the tree of a node_modules that nobody serves need
// not be loaded.
func (r *run) wanted(s *step) bool {
	want, everything := r.wants()
	if everything {
		return true
	}
	for _, p := range want {
		if madeBy([]*step{s}, p) {
			return true
		}
	}
	return false
}

// wants returns the paths that the release holds, or that it holds everything.
func (r *run) wants() (paths []string, everything bool) {
	var commands []string
	for _, s := range r.app.Services {
		if s.Static != "" {
			paths = append(paths, path.Clean(s.Static))
			continue
		}
		commands = append(commands, s.Command)
		for _, f := range s.Files {
			paths = append(paths, path.Clean(f))
		}
	}
	for _, j := range r.app.Jobs {
		commands = append(commands, j.Command)
	}
	for _, c := range commands {
		p := r.program(c)
		if p == "" {
			everything = true
			continue
		}
		paths = append(paths, p)
	}
	return paths, everything
}

// program returns the path in a step's makes that holds the program that a command begins with, or "".
func (r *run) program(command string) string {
	words := strings.Fields(command)
	for len(words) > 0 && (words[0] == "exec" || strings.Contains(words[0], "=")) {
		words = words[1:]
	}
	if len(words) == 0 {
		return ""
	}
	p := path.Clean(words[0])
	for _, s := range r.steps {
		for _, m := range s.makes {
			if below(p, m) {
				return m
			}
		}
	}
	return ""
}

// contents lists the files of the release: see the package comment.
func (r *run) contents(ctx context.Context, made map[*step]depot.Tree) (depot.Tree, error) {
	want, everything := r.wants()
	in := func(p string) bool {
		return everything || slices.ContainsFunc(want, func(w string) bool { return below(p, w) })
	}
	files := map[string]depot.Entry{}
	commit, err := r.sourceTree(ctx, in)
	if err != nil {
		return nil, err
	}
	for _, e := range commit {
		files[e.Path] = e
	}
	for _, s := range r.steps {
		for p := range files { // a step's output replaces what the commit had there
			if madeHere(s, p) {
				delete(files, p)
			}
		}
	}
	for _, t := range made {
		for _, e := range t {
			if in(e.Path) {
				files[e.Path] = e
			}
		}
	}
	if err := r.always(ctx, files); err != nil {
		return nil, err
	}
	if err := r.nothingMissing(files); err != nil {
		return nil, err
	}
	return r.withStatic(ctx, files)
}

// staticFolder is where the indexes of static services lie in a release.
const staticFolder = ".lotse/static/"

// withStatic adds what static services need to the files of a release, and sorts them.
func (r *run) withStatic(ctx context.Context, files map[string]depot.Entry) (depot.Tree, error) {
	for _, s := range r.app.Services {
		if s.Static == "" {
			continue
		}
		extra, err := r.static(ctx, s, files)
		if err != nil {
			return nil, err
		}
		for _, e := range extra {
			files[e.Path] = e
		}
	}
	tree := make(depot.Tree, 0, len(files))
	for _, e := range files {
		if !e.Folder {
			tree = append(tree, e)
		}
	}
	slices.SortFunc(tree, func(a, b depot.Entry) int { return strings.Compare(a.Path, b.Path) })
	if err := tree.Check(); err != nil {
		return nil, fmt.Errorf("%w: the release cannot be made: %w", deploy.ErrBuild, err)
	}
	return tree, nil
}

func madeHere(s *step, p string) bool {
	return slices.ContainsFunc(s.makes, func(m string) bool { return below(p, m) })
}

// nothingMissing refuses a release that lacks what a service names.
func (r *run) nothingMissing(files map[string]depot.Entry) error {
	for _, s := range r.app.Services {
		for _, want := range append([]string{s.Static}, s.Files...) {
			if want == "" {
				continue
			}
			found := false
			for p := range files {
				found = found || below(p, path.Clean(want))
			}
			if !found {
				return deploy.Hint(fmt.Errorf("%w: service %s needs %s, which neither the commit has nor a step makes", deploy.ErrBuild, s.Name, want),
					"add it to the `makes` of the step that makes it")
			}
		}
	}
	return nil
}

// sourceTree stores files of the commit as they are in the commit: what lies in the checkout a step may have changed.
func (r *run) sourceTree(ctx context.Context, in func(string) bool) (depot.Tree, error) {
	var chosen []source
	var names strings.Builder
	for _, f := range r.all {
		if in(f.path) {
			chosen = append(chosen, f)
			fmt.Fprintf(&names, "%s %s %s\x00", f.mode, f.object, f.path)
		}
	}
	if len(chosen) == 0 {
		return nil, nil
	}
	key := depot.DigestOf([]byte(names.String()))
	if digest, err := r.p.depot.Note(noteSource, key); err == nil {
		if t, err := r.p.depot.Tree(ctx, string(digest)); err == nil {
			return t, nil
		}
	}
	dir, err := r.p.scratch()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := checkOut(ctx, r.commit, chosen, dir, -1, -1); err != nil {
		return nil, err
	}
	t, digest, err := r.p.depot.PutTree(ctx, dir, []string{"."})
	if errors.Is(err, depot.ErrEscapes) {
		return nil, fmt.Errorf("%w: the commit cannot be released: %w", deploy.ErrBuild, err)
	}
	if err != nil {
		return nil, err
	}
	return t, r.p.depot.SetNote(noteSource, key, []byte(digest), depot.Keeps{Trees: []string{digest}})
}

// scratch makes a folder that the next start removes if this process dies.
func (p *Pipeline) scratch() (string, error) { return os.MkdirTemp(p.work(), "trash-") }

// Release implements deploy.Builder.
func (p *Pipeline) Release(ctx context.Context, id deploy.Digest) (deploy.Release, error) {
	rel, err := p.release(ctx, id)
	if err != nil {
		return deploy.Release{}, fmt.Errorf("release %s: %w", id.Short(), spaced(err))
	}
	return rel, nil
}

func (p *Pipeline) release(ctx context.Context, id deploy.Digest) (deploy.Release, error) {
	record, err := p.recordOf(string(id))
	if err != nil {
		return deploy.Release{}, err
	}
	rel := deploy.Release{ID: id, Record: record}
	data, err := p.depot.Read(ctx, string(id))
	if errors.Is(err, depot.ErrNotFound) { // its note is there
		err = fmt.Errorf("%w: its manifest is gone", deploy.ErrDamaged)
	}
	if err == nil {
		err = json.Unmarshal(data, &rel.Manifest)
	}
	return rel, err
}

// Verify implements deploy.Builder.
func (p *Pipeline) Verify(ctx context.Context, id deploy.Digest) error {
	rel, err := p.Release(ctx, id)
	if err == nil {
		err = p.verify(ctx, rel)
	}
	return err
}

func (p *Pipeline) verify(ctx context.Context, rel deploy.Release) error {
	var t depot.Tree
	for _, f := range rel.Manifest.Files {
		t = append(t, depot.Entry{Path: f.Path, Digest: string(f.Digest), Size: f.Size})
	}
	err := p.depot.VerifyTree(ctx, t)
	if err == nil {
		err = p.depot.Verify(ctx, string(rel.Manifest.SBOM))
	}
	if errors.Is(err, depot.ErrNotFound) {
		err = fmt.Errorf("%w: %w", deploy.ErrDamaged, err)
	}
	if err != nil {
		return fmt.Errorf("release %s: %w", rel.ID.Short(), spaced(err))
	}
	return nil
}

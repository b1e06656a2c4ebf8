package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

const noteProof = "proof" // keys of steps with public values → what was found out about them

// proof is what is known about the public values of a build. It depends on the steps' keys and on what is released of their
// outputs alone.
type proof struct {
	Names []string          `json:"names,omitempty"` // variables that may be in the release
	Why   map[string]string `json:"why,omitempty"`   // name → why it cannot be filled in
	Files []baked           `json:"files,omitempty"` // what a filling changes
	Asks  string            `json:"asks,omitempty"`  // digest of what the sources compare with
}

// baked is a file of a release that holds placeholders, or names of files that are hashes of what they hold.
type baked struct {
	Path   string   `json:"path"`
	Names  []string `json:"names,omitempty"`  // variables
	Hashes []string `json:"hashes,omitempty"` // hashes in names of files, in what it holds or in its own name
}

// filled reports whether all values are filled in.
func (p *proof) filled() bool { return len(p.Why) == 0 }

// public is what the manifest says of the steps' public values.
func (r *run) public() []deploy.Public {
	var all []deploy.Public
	for _, s := range r.steps {
		for _, v := range s.baked {
			name, _, _ := strings.Cut(v, "=")
			all = append(all, deploy.Public{Name: name, Step: s.Name, Why: r.proof.Why[name]})
		}
	}
	slices.SortFunc(all, func(a, b deploy.Public) int { return strings.Compare(a.Name+"\x00"+a.Step, b.Name+"\x00"+b.Step) })
	return all
}

// bakes are the steps whose outputs are in the release and may hold public values.
func (r *run) bakes() []*step {
	return slices.DeleteFunc(slices.Clone(r.steps), func(s *step) bool { return !s.touched() || !r.wanted(s) })
}

// proofKey is the digest of what a proof depends on.
func (r *run) proofKey() string {
	want, everything := r.wants()
	slices.Sort(want)
	id := struct {
		Format     int
		Steps      []string
		Want       []string
		Everything bool
		Immutable  [][]string
	}{1, nil, want, everything, nil}
	for _, s := range r.app.Services {
		if s.Static != "" {
			id.Immutable = append(id.Immutable, append([]string{s.Static}, s.Immutable...))
		}
	}
	for _, s := range r.bakes() {
		id.Steps = append(id.Steps, s.Name+" "+string(s.key))
	}
	data, _ := json.Marshal(id) // plain values always marshal
	return depot.DigestOf(data)
}

// proven finds a proof that was made before, also where there is nothing to prove.
func (r *run) proven() bool {
	switch {
	case r.fits != nil:
		r.tellProof(nil)
		return true
	case len(publicNames(r.steps)) == 0:
		r.proof = &proof{}
		return true
	}
	data, err := r.p.depot.Note(noteProof, r.proofKey())
	var found proof
	if err != nil || json.Unmarshal(data, &found) != nil || found.Asks != "" && !r.p.depot.Has(found.Asks) {
		return false
	}
	r.proof = &found
	r.tellProof(nil)
	return true
}

// prove finds out which public values may be filled in, by building with others.
func (r *run) prove(ctx context.Context) error {
	if r.proven() {
		return nil
	}
	begin := time.Now()
	p, err := r.experiment(ctx)
	if err != nil {
		return err
	}
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	keeps := depot.Keeps{}
	if p.Asks != "" {
		keeps.Blobs = []string{p.Asks}
	}
	if err := r.p.depot.SetNote(noteProof, r.proofKey(), data, keeps); err != nil {
		return err
	}
	r.proof = p
	took := time.Since(begin)
	r.tellProof(&took)
	return nil
}

// tellProof says in the steps' evidence what becomes of their public values.
func (r *run) tellProof(took *time.Duration) {
	for _, s := range r.steps {
		if len(s.Public) == 0 {
			continue
		}
		r.tell(s, func(e *deploy.StepEvidence) {
			e.Cause = r.sentence(s)
			if took != nil {
				e.Duration += *took
			}
		})
	}
}

// sentence says what becomes of the public values of a step.
func (r *run) sentence(s *step) string {
	if r.fits != nil {
		return strings.Join(r.why, "; ") + ": built for this stage"
	}
	var whys, fine []string
	for _, v := range s.baked {
		name, _, _ := strings.Cut(v, "=")
		if why := r.proof.Why[name]; why == "" {
			fine = append(fine, name)
		} else if !slices.Contains(whys, why) {
			whys = append(whys, why)
		}
	}
	if len(whys) > 0 {
		return strings.Join(whys, "; ") + ": built for every stage"
	}
	return listed(fine) + ": one build serves every stage, and is filled in"
}

// experiment builds with other placeholders, and with nothing, and compares.
func (r *run) experiment(ctx context.Context) (*proof, error) {
	base, err := r.bakedTree(ctx)
	if err != nil {
		return nil, err
	}
	names := r.bakedNames()
	p := &proof{Names: names, Why: map[string]string{}}
	c := newComparison(r.p, base, names)
	if err := c.read(ctx); err != nil {
		return nil, err
	}
	for _, as := range []guise{asNumber, asNothing} {
		why, err := r.differs(ctx, c, as, names)
		if err != nil {
			return nil, err
		}
		if why == nil {
			continue
		}
		if err := r.blame(ctx, c, p, as, names, why); err != nil {
			return nil, err
		}
	}
	if p.filled() {
		maps.Copy(p.Why, c.settle(r.immutable))
		maps.Copy(p.Why, c.places())
	}
	if !p.filled() {
		return p, nil
	}
	p.Files = c.baked()
	p.Asks, err = r.asks(ctx)
	return p, err
}

// bakedNames are the public variables that what is released may depend on.
func (r *run) bakedNames() []string {
	var all []*step
	for _, s := range r.bakes() {
		all = append(all, s)
		all = append(all, s.all...)
	}
	return publicNames(all)
}

// blame finds the variables without which there would be no difference, by changing one at a time.
func (r *run) blame(ctx context.Context, c *comparison, p *proof, as guise, names []string, all *difference) error {
	blamed := false
	for _, name := range names {
		why := all
		if len(names) > 1 {
			var err error
			if why, err = r.differs(ctx, c, as, []string{name}); err != nil {
				return err
			}
		}
		if why == nil {
			continue
		}
		blamed = true
		if p.Why[name] == "" {
			p.Why[name] = why.sentence(name, as)
		}
	}
	if !blamed { // only together
		for _, name := range names {
			if p.Why[name] == "" {
				p.Why[name] = all.sentence(listed(names), as)
			}
		}
	}
	return nil
}

// refuseLeftovers refuses what was built for a stage and holds a placeholder: a tool of the step keeps what it made with another
// value.
func (r *run) refuseLeftovers(ctx context.Context) error {
	if r.fits == nil {
		return nil
	}
	tree, err := r.bakedTree(ctx)
	if err != nil {
		return err
	}
	c := newComparison(r.p, tree, publicNames(r.steps))
	if err := c.read(ctx); err != nil {
		return err
	}
	for _, p := range keysOf(c.base) {
		if len(c.base[p].holds) == 0 {
			continue
		}
		for _, s := range r.bakes() { // so that they run again when this is mended
			if err := r.p.depot.DropNote(noteStep, string(s.key)); err != nil {
				return err
			}
		}
		return deploy.Hint(fmt.Errorf("%w: %s holds a placeholder of %s, though the stage's value was given", deploy.ErrBuild, p, listed(c.base[p].holds)),
			"a tool of the step keeps what it made with another value in a cache; switch that cache off")
	}
	return nil
}

// differs builds with some variables in another guise and compares. It returns nil where nothing but the placeholders differs.
func (r *run) differs(ctx context.Context, c *comparison, as guise, names []string) (*difference, error) {
	tree, err := r.variant(ctx, as, names)
	if errors.Is(err, deploy.ErrBuild) {
		return &difference{failed: err.Error()}, nil
	}
	if err != nil {
		return nil, err
	}
	return c.with(ctx, tree, as, names)
}

// variant runs the steps that public values reach, and what they need, and returns what is released of their outputs.
func (r *run) variant(ctx context.Context, as guise, names []string) (depot.Tree, error) {
	needed := map[string]bool{}
	for _, s := range r.bakes() {
		needed[s.Name] = true
		for _, n := range s.all {
			needed[n.Name] = true
		}
	}
	app := r.app
	app.Pipeline = slices.DeleteFunc(slices.Clone(app.Pipeline), func(s deploy.StepSpec) bool { return !needed[s.Name] })
	said := fmt.Sprintf("lotse: once more with %s %s", listed(names), guiseWords[as])
	sub := &run{id: r.id, app: app, commit: r.commit, all: r.all, output: r.output, logs: filepath.Join(r.logs, "public", guiseFolder[as], strings.Join(names, "+"))}
	if len(names) > 1 {
		sub.logs = filepath.Join(r.logs, "public", guiseFolder[as], "all")
	}
	if _, err := r.p.prepare(ctx, sub, func(s *step, name string) string {
		if slices.Contains(names, name) {
			return placeholder(name, as)
		}
		return placeholder(name, asAddress)
	}); err != nil {
		return nil, err
	}
	_, err := sub.untilWhole(ctx, func(ctx context.Context) (deploy.Release, error) {
		if sub.begin() == 0 {
			return deploy.Release{}, nil
		}
		if err := r.p.askDisk(ctx); err != nil {
			return deploy.Release{}, err
		}
		if r.output != nil {
			r.output(r.bakes()[0].Name, said)
		}
		return deploy.Release{}, sub.work(ctx)
	})
	if err != nil {
		return nil, err
	}
	byName := map[string]outputs{}
	for s, made := range sub.made {
		byName[s.Name] = made
	}
	return r.treeFrom(ctx, func(s *step) outputs { return byName[s.Name] })
}

var guiseFolder = map[guise]string{asNumber: "number", asNothing: "empty"}

var guiseWords = map[guise]string{asAddress: "an address", asNumber: "a number", asNothing: "empty"}

// bakedTree is what is released of the outputs that may hold public values.
func (r *run) bakedTree(ctx context.Context) (depot.Tree, error) {
	return r.treeFrom(ctx, func(s *step) outputs { return r.made[s] })
}

func (r *run) treeFrom(ctx context.Context, made func(*step) outputs) (depot.Tree, error) {
	want, everything := r.wants()
	var all depot.Tree
	for _, s := range r.bakes() {
		m := made(s)
		if m.Tree == "" {
			continue
		}
		t, err := r.p.depot.Tree(ctx, m.Tree)
		if errors.Is(err, depot.ErrDamaged) || errors.Is(err, depot.ErrNotFound) {
			return nil, &lostError{s, err}
		}
		if err != nil {
			return nil, err
		}
		for _, e := range t {
			if !e.Folder && (everything || slices.ContainsFunc(want, func(w string) bool { return below(e.Path, w) })) {
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b depot.Entry) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

// difference is what two builds do not have in common.
type difference struct {
	path   string // of a file, with hashes in names as *
	failed string // what went wrong where there was no second build
}

func (d *difference) sentence(name string, as guise) string {
	when := map[guise]string{asNumber: "has another value", asNothing: "is empty"}[as]
	if d.failed != "" {
		return fmt.Sprintf("the build fails when %s %s (%s)", name, when, cut(d.failed, 300))
	}
	return fmt.Sprintf("%s decides what is built (%s differs when it %s)", name, d.path, when)
}

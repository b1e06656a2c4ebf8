package pipeline

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// step is a step of the pipeline with its paths relative to the root of the checkout, clean.
type step struct {
	deploy.StepSpec
	index int
	in    string
	reads []string // empty: everything
	makes []string // sorted
	needs []*step
	all   []*step // needs, and what they need, and so on, in order
	chain int     // how many steps wait for this one, one behind the other
	key   deploy.Digest
	baked []string // NAME=value of its public variables
}

var stepName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// plan orders the steps so that each comes after what it needs, and refuses what cannot be run. `config` says the same with
// lines; this is for an App that did not come from a file.
func plan(app deploy.App) ([]*step, error) {
	steps := make([]*step, len(app.Pipeline))
	named := map[string]*step{}
	for i, spec := range app.Pipeline {
		s, err := newStep(i, spec)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
		}
		if named[spec.Name] != nil {
			return nil, fmt.Errorf("%w: two steps are called %q", deploy.ErrBadInput, spec.Name)
		}
		steps[i], named[spec.Name] = s, s
	}
	for _, s := range steps {
		for _, name := range s.Needs {
			if named[name] == nil {
				return nil, fmt.Errorf("%w: step %s needs %q, which is no step", deploy.ErrBadInput, s.Name, name)
			}
			s.needs = append(s.needs, named[name])
		}
	}
	ordered, err := order(steps)
	if err != nil {
		return nil, err
	}
	return ordered, apart(steps)
}

func newStep(index int, spec deploy.StepSpec) (*step, error) {
	s := &step{StepSpec: spec, index: index}
	if !stepName.MatchString(spec.Name) {
		return nil, fmt.Errorf("%q is not a name for a step", spec.Name)
	}
	if strings.TrimSpace(spec.Run) == "" {
		return nil, fmt.Errorf("step %s has nothing to run", spec.Name)
	}
	var err error
	if s.in, err = inside(".", spec.In); err != nil {
		return nil, fmt.Errorf("step %s: in %w", spec.Name, err)
	}
	for _, p := range spec.Reads {
		p, err := inside(s.in, p)
		if err != nil {
			return nil, fmt.Errorf("step %s: reads %w", spec.Name, err)
		}
		s.reads = append(s.reads, p)
	}
	for _, p := range spec.Makes {
		p, err := inside(s.in, p)
		if err == nil && (p == "." || p == s.in) {
			err = fmt.Errorf("%s is the folder that the step runs in", p)
		}
		if err != nil {
			return nil, fmt.Errorf("step %s: makes %w", spec.Name, err)
		}
		s.makes = append(s.makes, p)
	}
	slices.Sort(s.makes)
	return s, nil
}

func inside(in, p string) (string, error) {
	if strings.ContainsAny(p, "\x00\n") {
		return "", fmt.Errorf("%q is not a path", p)
	}
	joined := path.Join(in, p)
	if joined == "" {
		joined = "."
	}
	if outside(joined) || strings.HasPrefix(p, "/") {
		return "", fmt.Errorf("%s is not in the checkout", p)
	}
	return joined, nil
}

// order sorts the steps so that each follows what it needs, else as in the file, and fills in all and chain.
func order(steps []*step) ([]*step, error) {
	const (
		unseen = iota
		open
		done
	)
	state := map[*step]int{}
	var ordered []*step
	var visit func(s *step, way []string) error
	visit = func(s *step, way []string) error {
		way = append(way, s.Name)
		switch state[s] {
		case done:
			return nil
		case open:
			return fmt.Errorf("%w: steps need each other in a circle: %s", deploy.ErrBadInput, strings.Join(way[slices.Index(way, s.Name):], " needs "))
		}
		state[s] = open
		for _, n := range s.needs {
			if err := visit(n, way); err != nil {
				return err
			}
			for _, other := range append(slices.Clip(n.all), n) {
				if !slices.Contains(s.all, other) {
					s.all = append(s.all, other)
				}
			}
		}
		state[s] = done
		ordered = append(ordered, s)
		return nil
	}
	for _, s := range steps {
		if err := visit(s, nil); err != nil {
			return nil, err
		}
	}
	for _, s := range slices.Backward(ordered) {
		for _, n := range s.needs {
			n.chain = max(n.chain, s.chain+1)
		}
	}
	return ordered, nil
}

// apart refuses two steps of which one would write what the other makes: they share a checkout and may run at once.
func apart(steps []*step) error {
	for _, a := range steps {
		for _, b := range steps {
			for i, p := range a.makes {
				for j, q := range b.makes {
					if (a != b || i != j) && below(p, q) {
						return fmt.Errorf("%w: step %s makes %s, which step %s makes as well; every file has one maker", deploy.ErrBadInput, a.Name, p, b.Name)
					}
				}
			}
		}
	}
	return nil
}

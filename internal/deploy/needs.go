package deploy

import (
	"fmt"
	"slices"
	"strings"
)

// Need is one variable that a stage must have before anything starts there.
type Need struct {
	Name   string
	Why    string // what in lotse.yaml asks for it
	Secret bool   // an empty value will not do
}

// Needs are the variables that stage must have, each once: what lotse.yaml says under secrets first, then what steps bake in,
// then what Lotse itself uses.
func (a App) Needs(stage Stage) []Need {
	var all []Need
	for _, name := range a.Secrets {
		all = need(all, Need{name, "secrets names it", true})
	}
	for _, s := range a.Pipeline {
		for _, name := range s.Public {
			all = need(all, Need{name, fmt.Sprintf("step %s bakes it in", s.Name), false})
		}
	}
	if stage.Database.URL != "" {
		all = need(all, Need{stage.Database.URL, "the address of the database", true})
	}
	for _, n := range a.Notify {
		if len(n.Stages) == 0 || slices.Contains(n.Stages, stage.Name) {
			all = need(all, Need{n.URL, fmt.Sprintf("where notify tells %s", n.Name), true})
		}
	}
	if a.Source.Token != "" && len(a.Stages) > 0 && a.Stages[0].Name == stage.Name {
		all = need(all, Need{a.Source.Token, "source reads the repository with it", true})
	}
	return all
}

// Uses are the variables that lotse.yaml names for a stage, each with the places.
func (a App) Uses(stage Stage) map[string][]string {
	uses := map[string][]string{}
	use := func(name, place string) {
		if name != "" && !slices.Contains(uses[name], place) {
			uses[name] = append(uses[name], place)
		}
	}
	for _, name := range a.Secrets {
		use(name, "secrets")
	}
	for _, s := range a.Pipeline {
		for _, name := range s.Public {
			use(name, "pipeline."+s.Name)
		}
	}
	use(stage.Database.URL, "database.url")
	for _, n := range a.Notify {
		if len(n.Stages) == 0 || slices.Contains(n.Stages, stage.Name) {
			use(n.URL, "notify."+n.Name)
		}
	}
	if len(a.Stages) > 0 && a.Stages[0].Name == stage.Name {
		use(a.Source.Token, "source.token")
	}
	return uses
}

// need adds n, or what else asks for the same name.
func need(all []Need, n Need) []Need {
	i := slices.IndexFunc(all, func(o Need) bool { return o.Name == n.Name })
	if i < 0 {
		return append(all, n)
	}
	all[i].Why += "; " + n.Why
	all[i].Secret = all[i].Secret || n.Secret
	return all
}

// Missing returns nil when s has what stage needs, a *MissingError with all that it has not, or ErrBadInput where a step would bake
// in what was set as a secret. Ask it before anything starts.
func (a App) Missing(stage Stage, s Settings) error {
	if err := a.bakedSecret(stage, s); err != nil {
		return err
	}
	missing := &MissingError{Stage: StageRef{a.Name, stage.Name}}
	for _, n := range a.Needs(stage) {
		i := slices.IndexFunc(s.Values, func(v Setting) bool { return v.Name == n.Name })
		if i < 0 || n.Secret && s.Values[i].Value.Empty() {
			missing.Needs = append(missing.Needs, n)
		}
	}
	if len(missing.Needs) == 0 {
		return nil
	}
	return missing
}

// bakedSecret keeps a secret from becoming a part of what everybody may download.
func (a App) bakedSecret(stage Stage, s Settings) error {
	for _, step := range a.Pipeline {
		for _, name := range step.Public {
			if slices.Contains(s.Secrets, name) {
				return Hint(fmt.Errorf("%w: %s is a secret of %s, and step %s would bake it into what everybody may download", ErrBadInput, name, stage.Name, step.Name),
					fmt.Sprintf("take it out of public; or, where it is no secret, `lotse secrets rm --stage %s %s` and `lotse env set --stage %[1]s %[2]s`", stage.Name, name))
			}
		}
	}
	return nil
}

// MissingError names every variable that a stage lacks. It is ErrMissing, and its hint is what to type.
type MissingError struct {
	Stage StageRef
	Needs []Need // at least one
}

func (e *MissingError) Error() string {
	if len(e.Needs) == 1 {
		return fmt.Sprintf("%s: %s lacks %s (%s)", ErrMissing, e.Stage, e.Needs[0].Name, e.Needs[0].Why)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d settings are missing: %s lacks", len(e.Needs), e.Stage)
	for _, n := range e.Needs {
		fmt.Fprintf(&text, "\n  %s (%s)", n.Name, n.Why)
	}
	return text.String()
}

// Is makes every MissingError an ErrMissing.
func (e *MissingError) Is(target error) bool { return target == ErrMissing }

// Hint is the commands that set what is missing, in the folder of lotse.yaml. Each asks for the values.
func (e *MissingError) Hint() string {
	var lines []string
	for _, kind := range []struct {
		verb   string
		secret bool
	}{{"secrets", true}, {"env", false}} {
		command := fmt.Sprintf("lotse %s set --stage %s", kind.verb, e.Stage.Stage)
		bare := command
		for _, n := range e.Needs {
			if n.Secret == kind.secret {
				command += " " + n.Name
			}
		}
		if command != bare {
			lines = append(lines, "`"+command+"`")
		}
	}
	return strings.Join(lines, "\n")
}

package deploy

import (
	"slices"

	"github.com/lotse-eu/lotse/internal/secret"
)

// What of a stage is hidden where. Instances, jobs and commands of a release are given every value, and what they say is masked for all of
// them (Order.Hidden). What the controller writes and says, and what steps print, is masked for what nobody may see.

// Hidden are all values that nothing which runs for the order may print: what it is given, and what Lotse keeps of the stage for itself.
func (o Order) Hidden() (all []secret.Text) {
	for _, s := range o.Settings {
		all = append(all, s.Value)
	}
	return append(append(all, o.Password), o.Kept...)
}

// hidden are the values of a stage that nobody may see: what was set as a secret, the password, and what an env_file or the engine brings.
// What stands in lotse.yaml everybody can read, and `lotse env list` shows what was set with `lotse env`.
func (a App) hidden(stage Stage, s Settings) []secret.Text {
	all := []secret.Text{s.Password}
	for _, v := range s.Values {
		_, written := stage.Env[v.Name]
		fromFile := stage.EnvFile != "" && !written && !slices.Contains(a.public(), v.Name)
		if s.secret(v.Name) || fromFile || v.Name == DatabaseURL {
			all = append(all, v.Value)
		}
	}
	return all
}

// secret reports whether a variable was set as a secret, or is what one was before.
func (s Settings) secret(name string) bool {
	return slices.ContainsFunc(s.Secrets, func(one string) bool { return name == one || name == Previous(one) })
}

func (c *Controller) know(values []secret.Text) {
	if c.Hider != nil {
		c.Hider.Know(values)
	}
}

// hide is text without what nobody may see.
func (c *Controller) hide(text string) string {
	if c.Hider == nil {
		return text
	}
	return c.Hider.String(text)
}

func (c *Controller) hideAll(lines []string) []string {
	hidden := make([]string, len(lines))
	for i, line := range lines {
		hidden[i] = c.hide(line)
	}
	return hidden
}

func (c *Controller) hideEvidence(all []Evidence) []Evidence {
	hidden := slices.Clone(all)
	for i := range hidden {
		hidden[i].Figure = c.hide(hidden[i].Figure)
	}
	return hidden
}

// refusal is an error as a plan says it.
func (c *Controller) refusal(err error) Refusal {
	return Refusal{CodeOf(err), c.hide(err.Error()), c.hide(HintOf(err))}
}

// hideVerdicts hides in what PostgreSQL has said of migrations, which may repeat what they hold.
func (c *Controller) hideVerdicts(files []JudgedFile) {
	for _, f := range files {
		for i := range f.Verdicts {
			v := &f.Verdicts[i]
			v.On, v.Says, v.Reason = c.hide(v.On), c.hide(v.Says), c.hide(v.Reason)
		}
	}
}

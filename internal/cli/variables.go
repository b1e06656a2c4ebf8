package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// shortestMasked is the length in bytes from which values are masked in output (see process.Mask).
const shortestMasked = 6

// variables is one of the two families of commands: env, and secrets.
type variables struct {
	*session
	kind   deploy.VariableKind
	family string // env, secrets
	noun   string
}

func (s *session) envCommand() *cobra.Command {
	v := variables{s, deploy.PlainVariable, "env", "variable"}
	return v.command("Variables of a stage, which anybody who works on it may read",
		"Variables of a stage. Every instance is given them. What must stay hidden is set with `lotse secrets`.",
		"set NAME[=VALUE]...", "Set variables of a stage")
}

func (s *session) secretsCommand() *cobra.Command {
	v := variables{s, deploy.SecretVariable, "secrets", "secret"}
	c := v.command("Secrets of a stage: sealed on disk, shown to who asks by name",
		"Secrets of a stage. Every instance is given them as variables; they are sealed on disk, hidden in all output. Only `get` and `edit`\nshow one again, and the ledger says who asked.",
		"set NAME...", "Set secrets of a stage; asks for each, or reads one from the standard input")
	c.AddCommand(v.getCommand(), v.rotateCommand(), v.versionsCommand(), v.revokeCommand(), v.editCommand(), v.recipientsCommand())
	if s.ReadEnv != nil {
		c.AddCommand(v.importCommand())
	}
	return c
}

func (v variables) command(short, long, set, setShort string) *cobra.Command {
	c := &cobra.Command{Use: v.family, Short: short, Long: long, Args: cobra.NoArgs}
	c.AddCommand(v.setCommand(set, setShort), v.listCommand(), v.removeCommand())
	return c
}

func (v variables) setCommand(use, short string) *cobra.Command {
	var at where
	c := &cobra.Command{Use: use, Short: short, Args: cobra.MinimumNArgs(1),
		RunE: v.run(func(ctx context.Context, args []string) error { return v.set(ctx, at, args) })}
	at.flags(c)
	if v.kind == deploy.SecretVariable {
		c.SetFlagErrorFunc(func(*cobra.Command, error) error { // what was taken for a flag may be a secret
			return errors.New("there is a flag that is not known; the value of a secret never stands on the command line")
		})
	}
	return c
}

func (v variables) set(ctx context.Context, at where, args []string) error {
	// Everything is looked at before anything is asked or sent.
	if err := v.names(args); err != nil {
		return err
	}
	stages, outline, err := v.stages(at, false)
	if err != nil {
		return err
	}
	if err := v.fits(args, stages, outline); err != nil {
		return err
	}
	values, err := v.values(ctx, args)
	if err != nil {
		return err
	}
	c, err := v.settled(ctx, outline, stages)
	if err != nil {
		return err
	}
	by := v.who()
	for i, stage := range stages {
		if err := c.SetVariables(ctx, stage, v.kind, values, by); err != nil {
			return partly(err, "set", stages[:i])
		}
	}
	each := make([][]deploy.Setting, len(stages))
	for i := range each {
		each[i] = values
	}
	return v.told(ctx, c, outline, "set", stages, each)
}

// names looks at what was typed as names. Of what is none, nothing is repeated: it may be a secret.
func (v variables) names(args []string) error {
	seen := map[string]bool{}
	for _, arg := range args {
		name, _, given := strings.Cut(arg, "=")
		if given && v.kind == deploy.SecretVariable {
			return &failure{Code: "bad-input", Message: "the value of a secret stood on the command line; nothing was set",
				Hint: "it is in the shell's history now: change the secret where it comes from; then `lotse secrets set NAME` asks for it"}
		}
		if err := (deploy.Setting{Name: name}).Problem(); err != nil {
			return err
		}
		if seen[name] {
			return &failure{Code: "bad-input", Message: name + " is there twice"}
		}
		seen[name] = true
	}
	return nil
}

// fits refuses what lotse.yaml says cannot be.
func (v variables) fits(args []string, stages []deploy.StageRef, o Outline) error {
	for _, arg := range args {
		name, _, _ := strings.Cut(arg, "=")
		if v.kind == deploy.SecretVariable && slices.Contains(o.Public, name) {
			return &failure{Code: "bad-input", Message: fmt.Sprintf("%s is under public in lotse.yaml: a step bakes it into what everybody may download", name),
				Hint: "where it is no secret: `lotse env set " + name + "`; else take it out of public"}
		}
		for _, stage := range stages {
			if name == deploy.DatabaseURL && slices.Contains(o.Owned, stage.Stage) {
				return &failure{Code: "bad-input", Message: fmt.Sprintf("%s is set by Lotse itself, which runs the database of %s", name, stage),
					Hint: "for a database of somebody else, write database: { url: NAME_OF_SECRET } in lotse.yaml"}
			}
		}
	}
	return nil
}

func (v variables) values(ctx context.Context, args []string) ([]deploy.Setting, error) {
	asked := 0
	for _, arg := range args {
		if !strings.Contains(arg, "=") {
			asked++
		}
	}
	if asked > 1 && !v.asks() {
		return nil, &failure{Code: "bad-input", Message: fmt.Sprintf("the standard input is one value, and %d names were given", asked), Hint: "set one at a time"}
	}
	var values []deploy.Setting
	for _, arg := range args {
		name, value, given := strings.Cut(arg, "=")
		one := deploy.Setting{Name: name, Value: secret.New(value)}
		err := one.Problem()
		if !given {
			one, err = v.value(ctx, name)
		}
		if err != nil {
			return nil, err
		}
		values = append(values, one)
	}
	return values, nil
}

// told says what was done to each stage, and what is needed for it to come into effect.
func (v variables) told(ctx context.Context, c *api.Client, o Outline, done string, stages []deploy.StageRef, each [][]deploy.Setting) error {
	if v.json {
		all := []map[string]any{}
		for i, stage := range stages {
			for _, one := range each[i] {
				all = append(all, map[string]any{"app": stage.App, "stage": stage.Stage, "name": one.Name, "kind": v.kind})
			}
		}
		return v.answer(map[string]any{done: all})
	}
	serving := v.serving(ctx, c)
	for i, stage := range stages {
		for _, one := range each[i] {
			if done == "set" {
				v.isSet(stage, one)
			} else {
				v.say("%s: %s is gone", stage, one.Name)
				if _, away := o.Homes[stage.Stage]; away && stage.App == o.App && v.kind == deploy.SecretVariable {
					v.say("  Secrets Manager keeps it for 7 days more; set again, it is restored with the new value")
				}
			}
		}
		if serving[stage] && len(each[i]) > 0 {
			v.say("  what runs there has the old value until the next rollout%s", bringsIn(stage, o))
		}
	}
	return nil
}

func (v variables) isSet(stage deploy.StageRef, one deploy.Setting) {
	if v.kind == deploy.PlainVariable {
		v.say("%s: %s is set", stage, one.Name)
		return
	}
	v.say("%s: %s is set (%s)", stage, one.Name, lengthClass(one.Value))
	if len(one.Value.Reveal()) < shortestMasked {
		v.say("  it is too short to be hidden in output: only what has %d bytes is", shortestMasked)
	}
}

// serving are the stages where something runs; a controller that cannot say changes nothing of what was done.
func (v variables) serving(ctx context.Context, c *api.Client) map[deploy.StageRef]bool {
	serving := map[deploy.StageRef]bool{}
	all, err := c.Status(ctx)
	if err != nil {
		return serving
	}
	for _, st := range all {
		serving[st.Stage] = st.Serves != nil
	}
	return serving
}

// bringsIn names the command by which what runs gets what was set.
func bringsIn(stage deploy.StageRef, o Outline) string {
	if stage.App != o.App {
		return ""
	}
	return ": `lotse redeploy " + stage.Stage + "`"
}

// partly says what was done before it went wrong.
func partly(err error, done string, before []deploy.StageRef) error {
	if len(before) == 0 {
		return err
	}
	hint := deploy.HintOf(err)
	if hint != "" {
		hint += "\n"
	}
	return deploy.Hint(fmt.Errorf("%w; it was %s for %s", err, done, listed(before)), hint+"then the same command again: what was "+done+" stays so")
}

func listed(stages []deploy.StageRef) string {
	var names []string
	for _, s := range stages {
		names = append(names, s.String())
	}
	return strings.Join(names, ", ")
}

func (v variables) listCommand() *cobra.Command {
	var at where
	c := &cobra.Command{Use: "list", Short: "List the " + v.noun + "s of every stage, or of one", Args: cobra.NoArgs,
		RunE: v.run(func(ctx context.Context, _ []string) error {
			stages, outline, err := v.stages(at, true)
			if err != nil {
				return err
			}
			return v.list(ctx, outline, stages)
		})}
	at.flags(c)
	return c
}

// shownVariable is a variable as --json shows it.
type shownVariable struct {
	deploy.StageRef
	Name   string              `json:"name"`
	Kind   deploy.VariableKind `json:"kind"`
	Value  *string             `json:"value,omitempty"` // of env
	Since  time.Time           `json:"since"`
	By     string              `json:"by"` // opaque id
	ByName string              `json:"by_name,omitempty"`

	Version int      `json:"version,omitempty"` // how often it was changed
	Used    []string `json:"used,omitempty"`    // places in lotse.yaml that name it
}

func (v variables) list(ctx context.Context, o Outline, stages []deploy.StageRef) error {
	c, err := v.settled(ctx, o, stages)
	if err != nil {
		return err
	}
	all := []shownVariable{}
	var ids []string
	for _, stage := range stages {
		kept, err := c.ListVariables(ctx, stage)
		if err != nil {
			return err
		}
		for _, k := range kept {
			if k.Kind != v.kind {
				continue
			}
			one := shownVariable{StageRef: stage, Name: k.Name, Kind: k.Kind, Since: k.Since, By: k.By, Version: k.Version}
			if stage.App == o.App {
				one.Used = o.Uses[stage.Stage][k.Name]
			}
			if k.Kind == deploy.PlainVariable {
				value := k.Value.Reveal()
				one.Value = &value
			}
			all, ids = append(all, one), append(ids, k.By)
		}
	}
	slices.Sort(ids)
	name := v.session.names(ctx, c, slices.Compact(ids))
	if v.json {
		for i := range all {
			if shown := name(all[i].By); shown != all[i].By {
				all[i].ByName = shown
			}
		}
		return v.answer(map[string]any{"variables": all})
	}
	v.show(all, stages, name)
	return nil
}

func (v variables) show(all []shownVariable, stages []deploy.StageRef, name func(string) string) {
	if len(all) == 0 {
		v.say("no %s was set for %s; `lotse %s set NAME` sets one", v.noun, listed(stages), v.family)
		return
	}
	head := []string{"STAGE", "NAME", "VERSION", "SINCE", "BY", "USED BY"}
	if v.kind == deploy.PlainVariable {
		head = append(head, "VALUE")
	}
	var rows [][]string
	for _, one := range all {
		row := []string{one.StageRef.String(), one.Name, versionOf(one.Version), ago(one.Since, v.now()), name(one.By), orDash(strings.Join(one.Used, ", "))}
		if one.Value != nil {
			row = append(row, cleanLine(*one.Value))
		}
		rows = append(rows, row)
	}
	v.columns(head, rows)
}

func versionOf(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

func (v variables) removeCommand() *cobra.Command {
	var at where
	c := &cobra.Command{Use: "rm NAME...", Short: "Take " + v.noun + "s of a stage away", Args: cobra.MinimumNArgs(1),
		RunE: v.run(func(ctx context.Context, args []string) error {
			stages, outline, err := v.stages(at, false)
			if err != nil {
				return err
			}
			return v.remove(ctx, stages, outline, args)
		})}
	at.flags(c)
	return c
}

// remove takes each name away from every stage that has it. One that none of them has changes nothing anywhere.
func (v variables) remove(ctx context.Context, stages []deploy.StageRef, o Outline, names []string) error {
	c, err := v.settled(ctx, o, stages)
	if err != nil {
		return err
	}
	by := v.who()
	slices.Sort(names)
	names = slices.Compact(names)
	having := make([][]deploy.Setting, len(stages))
	for i, stage := range stages {
		kept, err := c.ListVariables(ctx, stage)
		if err != nil {
			return err
		}
		for _, name := range names {
			if slices.ContainsFunc(kept, func(k deploy.Variable) bool { return k.Name == name && k.Kind == v.kind }) {
				having[i] = append(having[i], deploy.Setting{Name: name})
			}
		}
	}
	for _, name := range names {
		if !slices.ContainsFunc(slices.Concat(having...), func(one deploy.Setting) bool { return one.Name == name }) {
			return c.RemoveVariables(ctx, stages[0], v.kind, []string{name}, by) // which says why, and what was meant
		}
	}
	for i, stage := range stages {
		if len(having[i]) == 0 {
			continue
		}
		var gone []string
		for _, one := range having[i] {
			gone = append(gone, one.Name)
		}
		if err := c.RemoveVariables(ctx, stage, v.kind, gone, by); err != nil {
			return partly(err, "removed", stages[:i])
		}
	}
	return v.told(ctx, c, o, "removed", stages, having)
}

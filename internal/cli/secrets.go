package cli

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// The verbs of secrets beside those that env has as well.

// one is the one stage that is meant.
func (v variables) one(at where) (deploy.StageRef, Outline, error) {
	stages, o, err := v.stages(at, false)
	if err == nil && len(stages) > 1 {
		err = whichStage(o)
	}
	if err != nil {
		return deploy.StageRef{}, o, err
	}
	return stages[0], o, nil
}

// oneFlags are the flags of a command that is about one stage.
func oneFlags(c *cobra.Command, at *where) {
	c.Flags().StringVar(&at.app, "app", "", "another app than that of lotse.yaml in this folder")
	c.Flags().StringArrayVar(&at.stages, "stage", nil, "the stage (where lotse.yaml has only one: that)")
	c.SetFlagErrorFunc(func(*cobra.Command, error) error { // what was taken for a flag may be a secret
		return errors.New("there is a flag that is not known; the value of a secret never stands on the command line")
	})
}

func (v variables) getCommand() *cobra.Command {
	var at where
	reveal := false
	c := &cobra.Command{Use: "get NAME", Short: "Print the value of a secret, and nothing else", Args: cobra.ExactArgs(1),
		Long: "Prints the value of one secret of one stage to the standard output. On a terminal it asks before; --reveal answers yes. That somebody\nread it is in the ledger.",
		RunE: v.run(func(ctx context.Context, args []string) error { return v.get(ctx, at, args[0], reveal) })}
	oneFlags(c, &at)
	c.Flags().BoolVar(&reveal, "reveal", false, "show it on a terminal without asking")
	return c
}

func (v variables) get(ctx context.Context, at where, name string, reveal bool) error {
	if err := v.names([]string{name}); err != nil {
		return err
	}
	stage, o, err := v.one(at)
	if err != nil {
		return err
	}
	if f, is := v.Out.(*os.File); is && term.IsTerminal(int(f.Fd())) && !reveal {
		yes, err := v.yes(fmt.Sprintf("show %s of %s on this screen?", name, stage), "it is shown on a terminal only where somebody says yes", "--reveal says it")
		if err != nil || !yes {
			return err
		}
	}
	c, err := v.settled(ctx, o, []deploy.StageRef{stage})
	if err != nil {
		return err
	}
	values, err := c.ReadVariables(ctx, stage, v.kind, []string{name}, v.who())
	if err != nil {
		return err
	}
	if len(values) != 1 {
		return fmt.Errorf("%w: the controller sent %d values for one name", deploy.ErrUnsupported, len(values))
	}
	if v.json {
		return v.answer(map[string]any{"app": stage.App, "stage": stage.Stage, "name": name, "value": values[0].Value.Reveal()})
	}
	_, err = fmt.Fprintln(v.Out, values[0].Value.Reveal())
	return err
}

// yes asks on the terminal. Where nobody can be asked, it is refused with what says yes.
func (s *session) yes(question, refused, hint string) (bool, error) {
	if !s.asks() {
		return false, &failure{Code: "refused", Message: refused, Hint: hint}
	}
	fmt.Fprintf(s.Err, "%s [y/N] ", question)
	line, err := bufio.NewReader(s.In).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	answer := strings.ToLower(strings.TrimSpace(line))
	return answer == "y" || answer == "yes", nil
}

func (v variables) rotateCommand() *cobra.Command {
	var at where
	var how rotation
	c := &cobra.Command{Use: "rotate NAME", Short: "Give a secret another value", Args: cobra.ExactArgs(1),
		Long: "Gives a secret that is there another value: it asks for it, reads it from the standard input, or makes one. What runs gets it with the\nnext rollout (--redeploy begins one). Where lotse.yaml says overlap, instances get the value before as NAME_PREVIOUS until that is over.",
		RunE: v.run(func(ctx context.Context, args []string) error { return v.rotate(ctx, at, args[0], how) })}
	at.flags(c)
	c.Flags().BoolVar(&how.generate, "generate", false, "make a value: 32 bytes of chance in base64url, 43 characters")
	c.Flags().BoolVar(&how.revoke, "revoke", false, "make the values before unusable: no rollback brings them back, and nothing overlaps")
	c.Flags().BoolVar(&how.redeploy, "redeploy", false, "start what the stage serves anew with it, and follow that")
	s := v.session
	s.verboseFlag(c)
	return c
}

// rotation says how a secret gets another value.
type rotation struct{ generate, revoke, redeploy bool }

func (v variables) rotate(ctx context.Context, at where, name string, how rotation) error {
	if err := v.names([]string{name}); err != nil {
		return err
	}
	stages, o, err := v.stages(at, false)
	if err != nil {
		return err
	}
	if how.redeploy && len(stages) > 1 {
		return &failure{Code: "bad-input", Message: "--redeploy takes one stage at a time", Hint: "without it, all of them get the value, and `lotse redeploy STAGE` starts each anew"}
	}
	if err := v.fits([]string{name}, stages, o); err != nil {
		return err
	}
	c, err := v.settled(ctx, o, stages)
	if err != nil {
		return err
	}
	for _, stage := range stages { // a name that was mistyped is not to become a new secret
		if err := v.has(ctx, c, stage, name); err != nil {
			return err
		}
	}
	one := deploy.Setting{Name: name, Value: generated()}
	if !how.generate {
		if one, err = v.value(ctx, name); err != nil {
			return err
		}
	}
	by := v.who()
	for i, stage := range stages {
		err := c.SetVariables(ctx, stage, v.kind, []deploy.Setting{one}, by)
		if err == nil && how.revoke {
			_, err = c.RevokeVersions(ctx, stage, name, nil, by)
		}
		if err != nil {
			return partly(err, "rotated", stages[:i])
		}
	}
	return v.rotated(ctx, c, stages, o, one, how)
}

// generated is a value that nobody guesses: 256 bits.
func generated() secret.Text {
	b := make([]byte, 32)
	rand.Read(b) // never fails, by its documentation
	return secret.New(base64.RawURLEncoding.EncodeToString(b))
}

func (v variables) has(ctx context.Context, c *api.Client, stage deploy.StageRef, name string) error {
	kept, err := c.ListVariables(ctx, stage)
	if err != nil {
		return err
	}
	var names []string
	for _, k := range kept {
		if k.Kind == v.kind {
			names = append(names, k.Name)
		}
	}
	if slices.Contains(names, name) {
		return nil
	}
	hint := fmt.Sprintf("`lotse secrets set --stage %s %s` sets a new one", stage.Stage, name)
	if near := deploy.Nearest(name, names); near != "" {
		hint = "did you mean " + near + "? " + hint
	}
	return &failure{Code: "not-found", Message: fmt.Sprintf("%s has no secret %s to rotate", stage, name), Hint: hint}
}

// rotated says what was done, and begins the redeploy that was asked for.
func (v variables) rotated(ctx context.Context, c *api.Client, stages []deploy.StageRef, o Outline, one deploy.Setting, how rotation) error {
	var each [][]deploy.Setting
	for range stages {
		each = append(each, []deploy.Setting{one})
	}
	if !how.redeploy || !v.json { // a redeploy has an answer of its own
		if err := v.told(ctx, c, o, "set", stages, each); err != nil {
			return err
		}
	}
	span, overlaps := o.Overlap[one.Name]
	switch {
	case v.json:
	case how.revoke:
		v.say("  the values before are revoked: no rollback brings them back")
	case overlaps:
		v.say("  instances get the value before as %s, in what is rolled out within %s", deploy.Previous(one.Name), span)
	}
	if !how.redeploy {
		return nil
	}
	id, err := c.Redeploy(ctx, deploy.Move{App: stages[0].App, Stage: stages[0].Stage, By: v.who()})
	if err != nil {
		return partly(err, "set", stages)
	}
	return v.begun(ctx, c, id, false)
}

func (v variables) versionsCommand() *cobra.Command {
	var at where
	c := &cobra.Command{Use: "versions NAME", Short: "List the versions of a secret that are kept", Args: cobra.ExactArgs(1),
		RunE: v.run(func(ctx context.Context, args []string) error { return v.versions(ctx, at, args[0]) })}
	oneFlags(c, &at)
	return c
}

func (v variables) versions(ctx context.Context, at where, name string) error {
	if err := v.names([]string{name}); err != nil {
		return err
	}
	stage, o, err := v.one(at)
	if err != nil {
		return err
	}
	c, err := v.settled(ctx, o, []deploy.StageRef{stage})
	if err != nil {
		return err
	}
	all, err := c.VariableVersions(ctx, stage, name)
	if err != nil {
		return err
	}
	if v.json {
		return v.answer(map[string]any{"app": stage.App, "stage": stage.Stage, "name": name, "versions": all})
	}
	var ids []string
	for _, k := range all {
		ids = append(ids, k.By)
	}
	slices.Sort(ids)
	who := v.session.names(ctx, c, slices.Compact(ids))
	var rows [][]string
	for _, k := range all {
		state := "kept"
		switch {
		case k.Now:
			state = "now"
		case k.Gone != "":
			state = k.Gone
		}
		rows = append(rows, []string{strconv.Itoa(k.Number), state, ago(k.Since, v.now()), who(k.By)})
	}
	v.columns([]string{"VERSION", "STATE", "SINCE", "BY"}, rows)
	return nil
}

func (v variables) revokeCommand() *cobra.Command {
	var at where
	c := &cobra.Command{Use: "revoke NAME [VERSION]...", Short: "Make versions of a secret unusable: no rollback brings them back", Args: cobra.MinimumNArgs(1),
		Long: "Takes away the values of versions of a secret: of those that are named, or of all but the one of now. A rollback to a release that ran\nwith one of them is refused then, and says so.",
		RunE: v.run(func(ctx context.Context, args []string) error { return v.revoke(ctx, at, args) })}
	oneFlags(c, &at)
	return c
}

func (v variables) revoke(ctx context.Context, at where, args []string) error {
	name := args[0]
	if err := v.names([]string{name}); err != nil {
		return err
	}
	var numbers []int
	for _, arg := range args[1:] {
		n, err := strconv.Atoi(arg)
		if err != nil || n < 1 {
			return &failure{Code: "bad-input", Message: "a version is a number from 1 up", Hint: "`lotse secrets versions " + name + "` lists them"}
		}
		numbers = append(numbers, n)
	}
	stage, o, err := v.one(at)
	if err != nil {
		return err
	}
	c, err := v.settled(ctx, o, []deploy.StageRef{stage})
	if err != nil {
		return err
	}
	revoked, err := c.RevokeVersions(ctx, stage, name, numbers, v.who())
	if err != nil {
		return err
	}
	if v.json {
		return v.answer(map[string]any{"app": stage.App, "stage": stage.Stage, "name": name, "revoked": append([]int{}, revoked...)})
	}
	if len(revoked) == 0 {
		v.say("%s: there was nothing of %s to revoke", stage, name)
		return nil
	}
	v.say("%s: %s of %s revoked: %s", stage, count(len(revoked), "version", "versions"), name, strings.Trim(fmt.Sprint(revoked), "[]"))
	v.say("  what runs keeps the value that it was started with until the next rollout%s", bringsIn(stage, o))
	return nil
}

func (v variables) importCommand() *cobra.Command {
	var at where
	c := &cobra.Command{Use: "import FILE", Short: "Set secrets from a file in the form of .env, all or none (-: the standard input)", Args: cobra.ExactArgs(1),
		Long: "Sets what a file in the form of .env holds as secrets, all of it or nothing, and says which are new, changed and the same. What the\nfile does not name stays as it is.",
		RunE: v.run(func(ctx context.Context, args []string) error { return v.importFile(ctx, at, args[0]) })}
	at.flags(c)
	return c
}

// largestImport is what the body of a request takes (api), in bytes, with room for names and JSON.
const largestImport = 700 << 10

func (v variables) importFile(ctx context.Context, at where, file string) error {
	stages, o, err := v.stages(at, false)
	if err != nil {
		return err
	}
	text, name, err := v.imported(file)
	if err != nil {
		return err
	}
	values, err := v.ReadEnv(name, text)
	if err != nil {
		return err
	}
	if len(values) == 0 {
		return &failure{Code: "bad-input", Message: name + " holds no variable; nothing was set"}
	}
	var names []string
	for _, s := range values {
		names = append(names, s.Name)
		if s.Value.Empty() {
			return &failure{Code: "bad-input", Message: fmt.Sprintf("the value of %s in %s is empty; nothing was set", s.Name, name), Hint: "give it one, or take the line out"}
		}
	}
	if err := v.fits(names, stages, o); err != nil {
		return err
	}
	c, err := v.settled(ctx, o, stages)
	if err != nil {
		return err
	}
	return v.apply(ctx, c, o, stages, values, nil)
}

func (v variables) imported(file string) (text []byte, name string, err error) {
	in := v.In
	if name = "the standard input"; file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, "", fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
		}
		defer f.Close()
		in, name = f, filepath.Base(file)
	}
	text, err = io.ReadAll(io.LimitReader(in, largestImport+1))
	if err == nil && len(text) > largestImport {
		err = fmt.Errorf("%w: %s is larger than %d bytes", deploy.ErrBadInput, name, largestImport)
	}
	return text, name, err
}

// apply sets what is new or changed on each stage and takes names away, and says what it was.
func (v variables) apply(ctx context.Context, c *api.Client, o Outline, stages []deploy.StageRef, values []deploy.Setting, remove []string) error {
	all := []map[string]any{}
	by := v.who()
	serving := map[deploy.StageRef]bool{}
	if !v.json {
		serving = v.serving(ctx, c)
	}
	for i, stage := range stages {
		changes, err := c.CompareVariables(ctx, stage, v.kind, values)
		if err != nil {
			return partly(err, "set", stages[:i])
		}
		var set []deploy.Setting
		for j, change := range changes {
			if change.Is != deploy.ChangeSame && j < len(values) {
				set = append(set, values[j])
			}
		}
		if len(set)+len(remove) > 0 {
			if err := c.ChangeVariables(ctx, stage, v.kind, set, remove, by); err != nil {
				return partly(err, "set", stages[:i])
			}
		}
		for _, name := range remove {
			changes = append(changes, deploy.VariableChange{Name: name, Is: "gone"})
		}
		for _, change := range changes {
			all = append(all, map[string]any{"app": stage.App, "stage": stage.Stage, "name": change.Name, "is": change.Is})
			if !v.json {
				v.say("%s: %s is %s", stage, change.Name, strings.Replace(change.Is, deploy.ChangeSame, "the same", 1))
			}
		}
		if serving[stage] && len(set)+len(remove) > 0 {
			v.say("  what runs there has the old values until the next rollout%s", bringsIn(stage, o))
		}
	}
	if v.json {
		return v.answer(map[string]any{"changes": all})
	}
	return nil
}

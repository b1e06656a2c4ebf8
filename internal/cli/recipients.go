package cli

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// recipientsCommand is about who can open the sealed files of the controller, of all apps and stages.
func (v variables) recipientsCommand() *cobra.Command {
	c := &cobra.Command{Use: "recipients", Short: "Who can open the sealed secrets: list, add, rm, rotate", Args: cobra.NoArgs,
		Long: "Lists the keys that open the sealed files of the controller, of all apps and stages: that of its machine, and those of the team. A\nchange seals every file anew.",
		RunE: v.run(func(ctx context.Context, _ []string) error { return v.recipients(ctx) })}
	add := &cobra.Command{Use: "add NAME KEY", Short: "Seal everything for one more public key: age1…, ssh-ed25519 …, ssh-rsa …", Args: cobra.MinimumNArgs(2),
		RunE: v.run(func(ctx context.Context, args []string) error {
			return v.changed(v.client().AddRecipient(ctx, args[0], strings.Join(args[1:], " "), v.who()), args[0], "can open the sealed files now")
		})}
	rm := &cobra.Command{Use: "rm NAME", Short: "Seal everything anew without a key", Args: cobra.ExactArgs(1),
		RunE: v.run(func(ctx context.Context, args []string) error {
			err := v.changed(v.client().RemoveRecipient(ctx, args[0], v.who()), args[0], "opens nothing that is sealed from now on")
			if err == nil && !v.json {
				v.say("  it opens copies from before: change what must stay hidden from it, `lotse secrets rotate NAME`")
			}
			return err
		})}
	rotate := &cobra.Command{Use: "rotate", Short: "Give the controller's machine a new key, and seal everything for it", Args: cobra.NoArgs,
		RunE: v.run(func(ctx context.Context, _ []string) error {
			err := v.changed(v.client().RotateKey(ctx, v.who()), "this-machine", "has a new key, and the old one is gone")
			if err == nil && !v.json {
				v.say("  keep a copy of vault/age.key again, apart from copies of the rest; the one before opens copies from before and nothing else")
			}
			return err
		})}
	c.AddCommand(add, rm, rotate)
	return c
}

func (v variables) changed(err error, name, what string) error {
	switch {
	case err != nil:
		return err
	case v.json:
		return v.answer(map[string]string{"recipient": name})
	}
	v.say("%s %s", name, what)
	return nil
}

func (v variables) recipients(ctx context.Context) error {
	all, err := v.client().Recipients(ctx)
	if err != nil {
		return err
	}
	if v.json {
		return v.answer(map[string]any{"recipients": append([]deploy.Recipient{}, all...)})
	}
	if len(all) == 0 {
		v.say("nothing was sealed yet; the key of the controller's machine is made with the first secret")
		return nil
	}
	var rows [][]string
	for _, r := range all {
		rows = append(rows, []string{r.Name, r.Key})
	}
	v.columns([]string{"NAME", "KEY"}, rows)
	return nil
}

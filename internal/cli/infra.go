package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Infra is the infrastructure of an app as it is written down, and as it is in the cloud. dir is the folder of lotse.yaml.
type Infra struct {
	Forms  []string // what Render can write
	Render func(dir, form string) ([]InfraFile, error)

	// Plan compares what is written down with what is there, and changes nothing.
	Plan func(ctx context.Context, dir string) (InfraPlan, error)

	// Apply makes what is there what is written down. replace names every resource that may be replaced although its data is lost
	// with it; another one that would be is deploy.ErrRefused, and nothing is changed. say hears what goes on, a line each.
	Apply func(ctx context.Context, dir string, replace []string, say func(line string)) (InfraPlan, error)

	// Destroy deletes what Apply has made, but for what holds data and what that needs. app is whom the person has named: another one
	// than that of lotse.yaml is deploy.ErrBadInput. say hears what goes on, and what is kept.
	Destroy func(ctx context.Context, dir, app string, say func(line string)) error
}

// InfraFile is one file of what is written down.
type InfraFile struct {
	Name    string `json:"name"` // slash-separated, relative
	Content string `json:"content"`
}

// InfraPlan is what an apply would do.
type InfraPlan struct {
	Stacks    []InfraStack `json:"stacks"`
	Residency []InfraLine  `json:"residency"` // what is where
	Costs     []InfraLine  `json:"costs"`     // the class of each resource that costs
	Monthly   string       `json:"monthly"`   // all of them, "95 to 130 USD"
}

// InfraStack is one stack of CloudFormation.
type InfraStack struct {
	Name    string        `json:"name"`
	Region  string        `json:"region"`
	Account string        `json:"account"`
	State   string        `json:"state"` // a sentence: "is not there yet", "is as it is written down"
	Changes []InfraChange `json:"changes"`
	Drift   []InfraLine   `json:"drift"` // what was changed by hand
}

// InfraChange is what becomes of one resource.
type InfraChange struct {
	Action   string `json:"action"` // add, change, replace, remove
	Resource string `json:"resource"`
	Kind     string `json:"kind"`
	Why      string `json:"why,omitempty"`
	Loses    bool   `json:"loses,omitempty"` // data is lost
}

// InfraLine is one thing and what is to be said of it.
type InfraLine struct {
	What string `json:"what"`
	Says string `json:"says"`
}

func (s *session) infraCommand() *cobra.Command {
	if s.Infra == nil {
		return nil
	}
	c := &cobra.Command{Use: "infra", Short: "Write down, compare and make what the stages on AWS need around them"}
	c.AddCommand(s.infraRenderCommand(), s.infraPlanCommand(), s.infraApplyCommand(), s.infraDestroyCommand())
	return c
}

func (s *session) infraRenderCommand() *cobra.Command {
	var out string
	var force bool
	c := &cobra.Command{Use: "render FORM", Short: "Write the infrastructure down as files", ValidArgs: s.Infra.Forms,
		Args: cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		Long: "FORM is one of " + strings.Join(s.Infra.Forms, ", ") + ". Without --out, a single file is printed, and\nseveral are printed one after the other under their names. Files are yours from then on: Lotse needs none of them.",
		RunE: s.run(func(_ context.Context, args []string) error {
			files, err := s.Infra.Render(absolute("."), args[0])
			if err != nil {
				return err
			}
			if out != "" {
				return s.writeFiles(out, files, force)
			}
			return s.printFiles(files)
		})}
	c.Flags().StringVar(&out, "out", "", "folder to write to")
	c.Flags().BoolVar(&force, "force", false, "write over files that are there and differ")
	return c
}

func (s *session) printFiles(files []InfraFile) error {
	if s.json {
		return s.answer(files)
	}
	for i, f := range files {
		if len(files) > 1 {
			s.say("%s# ---- %s", strings.Repeat("\n", min(i, 1)), f.Name)
		}
		if _, err := io.WriteString(s.Out, f.Content); err != nil {
			return err
		}
	}
	return nil
}

// writeFiles writes all of them or none: what a person has changed is not written over without being told to.
func (s *session) writeFiles(dir string, files []InfraFile, force bool) error {
	var wrote, same []string
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		switch there, err := os.ReadFile(path); {
		case err == nil && string(there) == f.Content:
			same = append(same, path)
		case err == nil && !force:
			return &failure{Code: "bad-input", Message: path + " is there and says something else; nothing was written", Hint: "look at it, then write over it with --force, or name another folder with --out"}
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			return notWritable(err)
		default:
			wrote = append(wrote, path)
		}
	}
	for _, f := range files {
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		if !slices.Contains(wrote, path) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return notWritable(err)
		}
		if err := os.WriteFile(path, []byte(f.Content), 0o644); err != nil {
			return notWritable(err)
		}
	}
	if s.json {
		return s.answer(map[string][]string{"wrote": append([]string{}, wrote...), "unchanged": append([]string{}, same...)})
	}
	for _, path := range wrote {
		s.say("wrote %s", path)
	}
	if len(wrote) == 0 {
		s.say("nothing was changed: %s", count(len(same), "file is", "files are")+" as they would be written")
	}
	return nil
}

func notWritable(err error) error {
	return deploy.Hint(fmt.Errorf("%w: %w", deploy.ErrBadInput, err), "name another folder with --out")
}

func (s *session) infraPlanCommand() *cobra.Command {
	return &cobra.Command{Use: "plan", Short: "Show what an apply would make, change, replace and remove, and what it costs", Args: cobra.NoArgs,
		Long: "Asks CloudFormation, with your credentials, what would become of each resource. Nothing is changed. What was changed by hand since is\nshown as well.",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			plan, err := s.Infra.Plan(ctx, absolute("."))
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(plan)
			}
			s.showPlan(plan)
			return nil
		})}
}

func (s *session) infraApplyCommand() *cobra.Command {
	var replace []string
	var yes bool
	c := &cobra.Command{Use: "apply", Short: "Make the infrastructure what lotse.yaml asks for", Args: cobra.NoArgs,
		Long: "Shows what `lotse infra plan` shows, asks, and has CloudFormation do it; --yes does not ask. A resource that would be replaced or removed with its data is refused unless it is\nnamed by --replace; what holds data is kept by AWS all the same, and you are told where.",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			if !yes {
				if err := s.agree(ctx); err != nil {
					return err
				}
			}
			plan, err := s.Infra.Apply(ctx, absolute("."), replace, s.tell)
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(plan)
			}
			for _, st := range plan.Stacks {
				s.say("stack %s in %s %s", st.Name, st.Region, cleanLine(st.State))
			}
			return nil
		})}
	c.Flags().BoolVar(&yes, "yes", false, "do it without showing the plan and asking, as a script needs it")
	c.Flags().StringArrayVar(&replace, "replace", nil, "a resource that may be replaced or removed although its data is lost; may be there several times")
	return c
}

// tell says a line of what goes on, where nobody reads JSON.
func (s *session) tell(line string) {
	if !s.json {
		s.say("%s", cleanLine(line))
	}
}

// agree shows the plan and wants a yes of a person: an apply changes what is paid for. A cancel leaves the reading behind, which ends with
// the command.
func (s *session) agree(ctx context.Context) error {
	in, ok := s.In.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) || s.json {
		return &failure{Code: "bad-input", Message: "nobody is there to say yes; nothing was changed", Hint: "look at `lotse infra plan`, then `lotse infra apply --yes`"}
	}
	plan, err := s.Infra.Plan(ctx, absolute("."))
	if err != nil {
		return err
	}
	s.showPlan(plan)
	fmt.Fprint(s.Out, "\nShall this be done? Only yes is taken for one: ")
	read := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(in).ReadString('\n')
		read <- strings.TrimSpace(text)
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case text := <-read:
		if text != "yes" {
			return &failure{Code: "refused", Message: "that was no yes; nothing was changed"}
		}
		return nil
	}
}

func (s *session) infraDestroyCommand() *cobra.Command {
	var yes string
	c := &cobra.Command{Use: "destroy", Short: "Delete what apply has made, but for what holds data", Args: cobra.NoArgs,
		Long: "Deletes the stacks of the app: network, balancer, roles, records, alarms. Databases, buckets, volumes, secrets, logs and the key stay, with\nwhat they need, and each is named. End every stage before (`lotse end`): while one runs, nothing is deleted.",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			if yes == "" {
				return deploy.Hint(fmt.Errorf("%w: a yes that names the app is missing", deploy.ErrBadInput), "lotse infra destroy --yes-destroy "+orName(s.appHere(""), "APP"))
			}
			if err := s.Infra.Destroy(ctx, absolute("."), yes, s.tell); err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]string{"destroyed": yes})
			}
			return nil
		})}
	c.Flags().StringVar(&yes, "yes-destroy", "", "APP, once more")
	return c
}

func (s *session) showPlan(p InfraPlan) {
	for i, st := range p.Stacks {
		if i > 0 {
			s.say("")
		}
		s.say("stack %s in %s, account %s: %s", st.Name, st.Region, st.Account, cleanLine(st.State))
		var rows [][]string
		for _, c := range st.Changes {
			why := c.Why
			if c.Loses {
				why = strings.TrimPrefix(why+"; its data is lost to the app; refused without --replace "+c.Resource, "; ")
			}
			rows = append(rows, []string{"  " + c.Action, c.Resource, c.Kind, cleanLine(why)})
		}
		all := table{rows: rows}
		all.print(s.Out)
		s.lines("changed by hand", st.Drift)
	}
	s.lines("where it is", p.Residency)
	s.lines("what costs, in USD a month", p.Costs)
	if p.Monthly != "" {
		s.say("\nabout %s a month", p.Monthly)
	}
}

func (s *session) lines(head string, all []InfraLine) {
	if len(all) == 0 {
		return
	}
	s.say("\n%s:", head)
	var rows [][]string
	for _, l := range all {
		rows = append(rows, []string{"  " + cleanLine(l.What), cleanLine(l.Says)})
	}
	t := table{rows: rows}
	t.print(s.Out)
}

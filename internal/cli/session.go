package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// session is one run of the command line: the parts, the streams, and the flags that every command has.
type session struct {
	Parts
	Stdio
	now func() time.Time

	state   string // as given by flag
	json    bool
	verbose bool // every line of output
	began   bool // the command's own code ran: errors are no longer about how it was typed
}

// root is the tree of commands.
func (s *session) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "lotse",
		Short:         "Carries a web app from a commit to production",
		Long:          "Lotse carries a web app from a commit to production, and back when it must.",
		Version:       s.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetVersionTemplate("lotse {{.Version}}\n")
	root.PersistentFlags().StringVar(&s.state, "state", "", "folder where Lotse keeps everything (LOTSE_STATE; else "+defaultState(s.Env)+")")
	root.PersistentFlags().BoolVar(&s.json, "json", false, "answer in JSON: one value, or a line each for what goes on; errors too")
	for _, c := range []*cobra.Command{
		s.deployCommand(), s.promoteCommand(), s.rollbackCommand(), s.redeployCommand(), s.planCommand(), s.approveCommand(), s.signoffCommand(), s.freezeCommand(), s.thawCommand(), s.endCommand(), s.holdCommand(), s.maintenanceCommand(), s.followCommand(), s.abortCommand(),
		s.statusCommand(), s.historyCommand(), s.showCommand(), s.rolloutCommand(), s.doraCommand(), s.releaseCommand(), s.logsCommand(), s.openCommand(),
		s.pushedCommand(), s.hookCommand(),
		s.envCommand(), s.secretsCommand(), s.passwordCommand(), s.notifyCommand(),
		s.initCommand(), s.serveCommand(), s.downCommand(), s.upgradeCommand(), s.databaseCommand(), s.infraCommand(), s.installCommand(), s.uninstallCommand(), s.checkCommand(), s.schemaCommand(), s.ledgerCommand(), s.doctorCommand(), s.trustCommand(), s.demoCommand(),
		s.proxyCommand(), s.keepCommand(), s.versionCommand(),
	} {
		if c != nil {
			root.AddCommand(c)
		}
	}
	s.completeFlags(root)
	return root
}

// run makes a command's body of a function: from here on, errors are its own.
func (s *session) run(body func(ctx context.Context, args []string) error) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, args []string) error {
		s.began = true
		return body(c.Context(), args)
	}
}

// stateFolder is the folder by flag, by environment, or by rule.
func (s *session) stateFolder() string {
	if s.state != "" {
		return absolute(s.state)
	}
	if set := s.Env("LOTSE_STATE"); set != "" {
		return absolute(set)
	}
	return defaultState(s.Env)
}

func defaultState(env func(string) string) string {
	if os.Geteuid() == 0 {
		return "/var/lib/lotse"
	}
	return filepath.Join(env("HOME"), ".local", "state", "lotse")
}

// absolute is for paths that another process will read. Without a working folder, the path stays as it was typed.
func absolute(path string) string {
	if whole, err := filepath.Abs(path); err == nil {
		return whole
	}
	return path
}

func (s *session) client() *api.Client { return s.Parts.Client(s.stateFolder()) }

// say prints a line for people.
func (s *session) say(format string, args ...any) {
	fmt.Fprintln(s.Out, strings.TrimRight(fmt.Sprintf(format, args...), " "))
}

// answer prints one JSON value.
func (s *session) answer(v any) error {
	e := json.NewEncoder(s.Out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// line prints one JSON value of many.
func (s *session) line(v any) error { return json.NewEncoder(s.Out).Encode(v) }

// terminal returns the width of the terminal that Out is.
func (s *session) terminal() (width int, ok bool) {
	f, ok := s.Out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(f.Fd()))
	return width, err == nil && width > 0
}

// lively reports whether what goes on may be drawn again and again.
func (s *session) lively() bool {
	in, ok := s.In.(*os.File)
	_, out := s.terminal()
	return ok && out && term.IsTerminal(int(in.Fd())) && s.Env("CI") == "" && s.Env("TERM") != "dumb"
}

// names returns how to show people: by name where the controller knows it, else by their opaque id.
func (s *session) names(ctx context.Context, c *api.Client, ids []string) func(id string) string {
	known, err := c.Names(ctx, ids)
	if err != nil {
		known = nil // an id is answer enough
	}
	return func(id string) string {
		if name := cleanLine(known[id]); name != "" {
			return name
		}
		return orDash(cleanLine(id))
	}
}

// stageFlag is what --stage takes: a stage, or app/stage.
func stageFlag(given string) (app, stage string) {
	if app, stage, ok := strings.Cut(given, "/"); ok {
		return app, stage
	}
	return "", given
}

// stageHere finds the stage that is meant: of the app of this folder, where that was deployed, else of any.
func (s *session) stageHere(ctx context.Context, given string) (deploy.StageRef, error) {
	c := s.client()
	app, stage := stageFlag(given)
	if here := s.appHere(app); app == "" && here != "" {
		if found, err := oneStage(ctx, c, here+"/"+stage); err == nil {
			return found, nil
		}
	}
	return oneStage(ctx, c, given)
}

// oneStage finds the stage that is meant, which may be left out where there is only one.
func oneStage(ctx context.Context, c *api.Client, given string) (deploy.StageRef, error) {
	app, stage := stageFlag(given)
	all, err := c.Status(ctx)
	if err != nil {
		return deploy.StageRef{}, err
	}
	var fit, names []string
	var found deploy.StageRef
	reached := func(s deploy.StageStatus) bool { return s.Serves != nil || s.OnItsWay != nil }
	for _, s := range all {
		names = append(names, s.Stage.String())
		if stage == "" && !reached(s) && slices.ContainsFunc(all, reached) {
			continue
		}
		if (app == "" || app == s.Stage.App) && (stage == "" || stage == s.Stage.Stage) {
			fit, found = append(fit, s.Stage.String()), s.Stage
		}
	}
	switch {
	case len(fit) == 1:
		return found, nil
	case len(fit) > 1:
		return found, &failure{Code: "bad-input", Message: "which stage is meant: " + strings.Join(fit, ", "), Hint: "name it with `--stage " + fit[0] + "`"}
	case len(all) == 0:
		return found, &failure{Code: "not-found", Message: "nothing was deployed yet", Hint: "`lotse deploy` in a folder with lotse.yaml begins"}
	}
	return found, &failure{Code: "not-found", Message: fmt.Sprintf("nothing was deployed to a stage %q", given), Hint: "stages are: " + strings.Join(names, ", ")}
}

// columns prints rows of cells under a head: as a table where it fits, else each row as a list.
func (s *session) columns(head []string, rows [][]string) {
	width, ok := s.terminal()
	t := table{head: head, rows: rows}
	if ok && t.width() > width {
		t.list(s.Out)
		return
	}
	t.print(s.Out)
}

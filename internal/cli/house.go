package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *session) serveCommand() *cobra.Command {
	if s.Serve == nil {
		return nil
	}
	o := ServeOptions{}
	verbose := false
	c := &cobra.Command{Use: "serve", Short: "Run the controller on this machine", Args: cobra.NoArgs,
		Long: "Runs the controller in the foreground until it is ended. What it has started lives on without it; the next controller goes on with\nwhat this one leaves. With --shared, the next one may be on another machine.",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			o.State, o.Log, o.Verbose = s.stateFolder(), s.logger(verbose), verbose
			if o.Shared == "" {
				o.Shared = s.Env("LOTSE_SHARED")
			}
			o.Say = func(line string) {
				if !s.json {
					s.say("%s", cleanLine(line))
				}
			}
			o.Ready = func(line string) { s.ready(line) }
			return s.Serve(ctx, o)
		})}
	c.Flags().IntVar(&o.HTTPS, "https", 0, "port for HTTPS (443 where it may be had, else 8443)")
	c.Flags().IntVar(&o.HTTP, "http", 0, "port that sends people to HTTPS (80 where it may be had, else 8080)")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "log every request of the API too")
	c.Flags().StringVar(&o.Shared, "shared", "", "bucket in which history and releases are shared with controllers on other machines (LOTSE_SHARED)")
	c.Flags().BoolVar(&o.Detach, "detach", false, "return when it answers; 'lotse down' ends it")
	return c
}

func (s *session) downCommand() *cobra.Command {
	if s.Down == nil {
		return nil
	}
	return &cobra.Command{Use: "down", Short: "End everything that runs: controller, proxy, instances", Args: cobra.NoArgs,
		Long: "Ends the controller of the state folder, then the proxy, when it has answered what is in flight, then the instances. All data\nstays; the next `lotse serve` brings back what the stages served.",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			if err := s.Down(ctx, s.stateFolder()); err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]bool{"down": true})
			}
			s.say("nothing runs any more; the data is in %s", s.stateFolder())
			return nil
		})}
}

func (s *session) upgradeCommand() *cobra.Command {
	if s.Upgrade == nil {
		return nil
	}
	return &cobra.Command{Use: "upgrade", Short: "Replace the proxy that runs by the one of this program, without losing a connection", Args: cobra.NoArgs,
		Long: "Starts the proxy of this program beside the one that runs, on the same ports and with the same table. When it is ready, the one before\naccepts no more connections, finishes what it has begun and ends. When it does not become ready, the one before goes on. The\ncontroller is replaced by a restart: what runs is left alone by it.",
		RunE: s.run(func(ctx context.Context, _ []string) error {
			pid, err := s.Upgrade(ctx, s.stateFolder())
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]any{"proxy": pid, "version": s.Version})
			}
			s.say("the proxy is process %d now, of version %s; the one before finishes what it has begun", pid, clean(s.Version))
			s.say("the controller is still the one before: `systemctl restart lotse`, or end `lotse serve` and start it again")
			return nil
		})}
}

func (s *session) ready(line string) {
	if s.json {
		_ = s.line(map[string]string{"ready": line}) // there is nobody left to tell
		return
	}
	s.say("%s", clean(line))
}

func (s *session) logger(verbose bool) *slog.Logger {
	o := &slog.HandlerOptions{}
	if verbose {
		o.Level = slog.LevelDebug
	}
	if s.json {
		return slog.New(slog.NewJSONHandler(s.Err, o))
	}
	return slog.New(slog.NewTextHandler(s.Err, o))
}

// proxyCommand hands its arguments on as they are: who starts it and who reads them are the same room.
func (s *session) proxyCommand() *cobra.Command {
	if s.Proxy == nil {
		return nil
	}
	return &cobra.Command{Use: "proxy", Hidden: true, DisableFlagParsing: true,
		RunE: s.run(func(ctx context.Context, args []string) error { return s.Proxy(ctx, args) })}
}

func (s *session) keepCommand() *cobra.Command {
	if s.Keep == nil {
		return nil
	}
	return &cobra.Command{Use: "keep DIR", Hidden: true, Args: cobra.ExactArgs(1),
		RunE: s.run(func(ctx context.Context, args []string) error { return s.Keep(ctx, args[0], s.In) })}
}

func (s *session) checkCommand() *cobra.Command {
	if s.Check == nil {
		return nil
	}
	return &cobra.Command{Use: "check [FILE]", Short: "Look for mistakes in lotse.yaml, and for keys in the files beside it", Args: cobra.MaximumNArgs(1),
		Long: "Reads FILE (lotse.yaml in this folder; - is the standard input) and says every mistake at once, each with its line. Then it looks for\nkeys in the files of the folder that are in git or could be added: a deploy refuses a commit that carries one.",
		RunE: s.run(func(ctx context.Context, args []string) error {
			name := append(args, "lotse.yaml")[0]
			data, err := s.readFile(name)
			if err != nil {
				return err
			}
			if err := s.Check(name, data); err != nil {
				return err
			}
			notes := []string{}
			if s.Remarks != nil {
				notes = append(notes, s.Remarks(filepath.Dir(absolute(name)), data)...)
			}
			if s.Keys != nil && name != "-" {
				said, err := s.Keys(ctx, filepath.Dir(absolute(name)), data)
				if err != nil {
					return err
				}
				notes = append(notes, said...)
			}
			if s.json {
				return s.answer(map[string]any{"file": name, "ok": true, "notes": notes})
			}
			s.say("%s has no mistakes", name)
			for _, note := range notes {
				s.say("note: %s", cleanLine(note))
			}
			return nil
		})}
}

func (s *session) readFile(name string) (data []byte, err error) {
	if name == "-" {
		data, err = io.ReadAll(s.In)
	} else {
		data, err = os.ReadFile(name)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, deploy.Hint(fmt.Errorf("%w: there is no file %s", deploy.ErrBadInput, name), "name the file: `lotse check FILE`")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	}
	return data, nil
}

func (s *session) schemaCommand() *cobra.Command {
	if s.Schema == nil {
		return nil
	}
	return &cobra.Command{Use: "schema", Short: "Print the JSON schema of lotse.yaml, for editors", Args: cobra.NoArgs,
		RunE: s.run(func(context.Context, []string) error {
			_, err := s.Out.Write(append(s.Schema(), '\n'))
			return err
		})}
}

func (s *session) ledgerCommand() *cobra.Command {
	if s.VerifyLedger == nil {
		return nil
	}
	verify := &cobra.Command{Use: "verify", Short: "Recompute the chain of everything that happened", Args: cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			if err := s.VerifyLedger(ctx, s.stateFolder()); err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]bool{"whole": true})
			}
			s.say("the ledger is whole: every event follows from the one before")
			return nil
		})}
	c := &cobra.Command{Use: "ledger", Short: "The record of everything that happened", Args: cobra.NoArgs}
	c.AddCommand(verify)
	return c
}

func (s *session) doctorCommand() *cobra.Command {
	if s.Doctor == nil {
		return nil
	}
	return &cobra.Command{Use: "doctor", Short: "Look at what this machine can do", Args: cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			findings := s.Doctor(ctx, s.stateFolder())
			if s.json {
				if err := s.answer(map[string]any{"findings": findings}); err != nil {
					return err
				}
			} else {
				s.showFindings(findings)
			}
			return judge(findings)
		})}
}

func (s *session) showFindings(findings []Finding) {
	var t table
	for _, f := range findings {
		t.rows = append(t.rows, []string{string(f.State), cleanLine(f.Name), cleanLine(f.Says)})
		if f.Hint != "" {
			t.rows = append(t.rows, []string{"", "", "→ " + cleanLine(f.Hint)})
		}
	}
	t.print(s.Out)
}

// judge makes an error of what keeps Lotse from working.
func judge(findings []Finding) error {
	bad := 0
	for _, f := range findings {
		if f.State == FindingBad {
			bad++
		}
	}
	if bad == 0 {
		return nil
	}
	return &failure{Code: codeFindings, Message: count(bad, "finding keeps", "findings keep") + " Lotse from working", Hint: "each has its remedy beside it above"}
}

func (s *session) trustCommand() *cobra.Command {
	if s.Trust == nil || s.Untrust == nil {
		return nil
	}
	remove := false
	c := &cobra.Command{Use: "trust", Short: "Let browsers on this machine trust the local certificates", Args: cobra.NoArgs,
		RunE: s.run(func(context.Context, []string) error {
			do := s.Trust
			if remove {
				do = s.Untrust
			}
			done, err := do(s.stateFolder())
			if err != nil {
				return err
			}
			if s.json {
				return s.answer(map[string]string{"done": done})
			}
			s.say("%s", clean(done))
			return nil
		})}
	c.Flags().BoolVar(&remove, "remove", false, "no longer trust them")
	return c
}

func (s *session) demoCommand() *cobra.Command {
	if s.Demo == nil || s.DemoDown == nil {
		return nil
	}
	body := func(do func(context.Context, DemoOptions) error) func(*cobra.Command, []string) error {
		return s.run(func(ctx context.Context, _ []string) error { return do(ctx, s.demoOptions()) })
	}
	c := &cobra.Command{Use: "demo", Short: "Set an example app up on this machine and deploy it", Args: cobra.NoArgs, RunE: body(s.Demo)}
	c.AddCommand(&cobra.Command{Use: "down", Short: "Take the example away again", Args: cobra.NoArgs, RunE: body(s.DemoDown)})
	return c
}

func (s *session) demoOptions() DemoOptions {
	return DemoOptions{
		State:      s.stateFolder(),
		StateGiven: s.state != "" || s.Env("LOTSE_STATE") != "",
		Say:        s.sayOrLine,
		Verbs:      func(state string) Verbs { return Verbs{s, s.Parts.Client(state)} },
	}
}

// Verbs are commands that one room gives to another.
type Verbs struct {
	s *session
	c *api.Client
}

// Deploy is `lotse deploy`.
func (v Verbs) Deploy(ctx context.Context, q deploy.Request) error {
	q.By = v.s.who()
	return v.s.deployTo(ctx, v.c, q, false)
}

// Promote is `lotse promote`.
func (v Verbs) Promote(ctx context.Context, q deploy.Move) error { return v.move(ctx, v.c.Promote, q) }

// Rollback is `lotse rollback`.
func (v Verbs) Rollback(ctx context.Context, q deploy.Move) error {
	return v.move(ctx, v.c.Rollback, q)
}

// Follow is `lotse follow`.
func (v Verbs) Follow(ctx context.Context, id string) error { return v.s.follow(ctx, v.c, id) }

func (v Verbs) move(ctx context.Context, ask func(context.Context, deploy.Move) (string, error), q deploy.Move) error {
	q.By = v.s.who()
	id, err := ask(ctx, q)
	if err != nil {
		return err
	}
	return v.s.follow(ctx, v.c, id)
}

func (s *session) sayOrLine(line string) {
	if s.json {
		_ = s.line(map[string]string{"say": line}) // there is nobody left to tell
		return
	}
	s.say("%s", clean(line))
}

func (s *session) versionCommand() *cobra.Command {
	return &cobra.Command{Use: "version", Short: "Print the version of this command and of the controller", Args: cobra.NoArgs,
		RunE: s.run(func(ctx context.Context, _ []string) error {
			pong, err := s.client().Ping(ctx)
			if s.json {
				answer := map[string]any{"version": s.Version}
				if err == nil {
					answer["controller"] = pong
				}
				return s.answer(answer)
			}
			s.say("lotse %s", s.Version)
			if err == nil && pong.Version != s.Version {
				s.say("the controller (process %d) is %s; start `lotse serve` again to have them alike", pong.PID, cleanLine(pong.Version))
			}
			return nil
		})}
}

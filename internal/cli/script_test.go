package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/vault"
)

// TestMain makes a `lotse` of this binary, with parts that a transcript can see through.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"lotse": func() {
		os.Exit(New(partsForTests()).Run(context.Background(), os.Args[1:], OS()))
	}})
}

func partsForTests() Parts {
	return Parts{
		Version: "1.0-test",
		Serve: func(ctx context.Context, o ServeOptions) error {
			o.Log.Info("serving", "state", filepath.Base(o.State), "https", o.HTTPS, "http", o.HTTP)
			o.Log.Debug("in detail")
			o.Ready("listening on port 8443")
			if err := os.WriteFile("serving", nil, 0o600); err != nil {
				return err
			}
			<-ctx.Done()
			if os.Getenv("STUBBORN") != "" {
				os.WriteFile("stubborn", nil, 0o600)
				<-context.WithoutCancel(ctx).Done() // never: only a second signal ends this
			}
			fmt.Println("ended in order")
			return nil
		},
		Install: func(_ context.Context, o InstallOptions) (Installed, error) {
			if filepath.Base(o.State) == "again" {
				return Installed{}, nil
			}
			return Installed{Done: []string{fmt.Sprintf("wrote the unit of %s, user %v", filepath.Base(o.State), o.User)}, Notes: []string{"→ `loginctl enable-linger`"}}, nil
		},
		Uninstall: func(_ context.Context, o InstallOptions) (Installed, error) {
			return Installed{Done: []string{"removed the unit"}, Notes: []string{"the data stays"}}, nil
		},
		Unit: func(o InstallOptions) (string, error) { return "[Service]\nExecStart=lotse serve\n", nil },
		Browse: func(_ context.Context, address string) error {
			if os.Getenv("DISPLAY") == "" {
				return deploy.ErrUnsupported
			}
			return os.WriteFile("browsed", []byte(address+"\n"), 0o600)
		},
		Proxy: func(_ context.Context, args []string) error { fmt.Printf("proxy %q\n", args); return nil },
		Keep: func(_ context.Context, dir string, in io.Reader) error {
			spec, err := io.ReadAll(in)
			fmt.Printf("keep %s %s", dir, spec)
			return err
		},
		Infra: infraForTests(),
		Check: checkForTests,
		Remarks: func(_ string, data []byte) []string {
			if strings.Contains(string(data), "env_file") {
				return []string{"there is no file .env"}
			}
			return nil
		},
		Outline: outlineForTests,
		ReadEnv: vault.ReadEnv,
		Who:     whoForTests,
		Survey:  surveyForTests,
		Schema:  func() []byte { return []byte(`{"title":"lotse.yaml"}`) },
		VerifyLedger: func(_ context.Context, state string) error {
			if filepath.Base(state) == "damaged" {
				return deploy.Hint(fmt.Errorf("%w: event 7 does not follow from event 6", deploy.ErrDamaged), "put the last copy back")
			}
			return nil
		},
		InstallHook: installHookForTests,
		RemoveHook:  removeHookForTests,
		Trust:       func(string) (string, error) { return "this machine trusts the local certificates", nil },
		Untrust:     func(string) (string, error) { return "this machine no longer trusts them", nil },
		Doctor: func(_ context.Context, state string) []Finding {
			all := []Finding{{"git", FindingGood, "git 2.39", ""}, {"cgroup", FindingPoor, "limits of memory cannot be kept", "start with systemd"}}
			if filepath.Base(state) == "bad" {
				all = append(all, Finding{"disk", FindingBad, "0 GiB free", "make room"})
			}
			return all
		},
		Demo: func(ctx context.Context, o DemoOptions) error {
			o.Say(fmt.Sprintf("setting up, state given: %v", o.StateGiven))
			return o.Verbs(o.State).Deploy(ctx, deploy.Request{Dir: "/demo"})
		},
		DemoDown: func(_ context.Context, o DemoOptions) error { o.Say("gone"); return nil },
		Upgrade: func(_ context.Context, state string) (int, error) {
			if filepath.Base(state) == "newer" {
				return 0, deploy.Hint(fmt.Errorf("%w: the proxy's state is of a newer version", deploy.ErrRefused), "take that one")
			}
			return 4711, nil
		},
		JudgeMigrations: func(_ context.Context, _, folder string, files []string, _ bool) (deploy.Judgement, error) {
			switch {
			case folder == "":
				return deploy.Judgement{}, nil
			case files[0] != "2_b.sql":
				return deploy.Judgement{}, deploy.ErrNotFound
			}
			return deploy.Judgement{Server: "15.1", Schema: "a dump", Files: []deploy.JudgedFile{{Name: files[0], Locks: []string{"ACCESS EXCLUSIVE on people"},
				Verdicts: []deploy.Verdict{{Class: deploy.Dangerous, Rule: "rewrite-table", Line: 3, On: "people.age", Lock: "ACCESS EXCLUSIVE", Reason: "every row is written anew", Safer: "another way"}}}}}, nil
		},
		Recover: func(_ context.Context, o RecoverOptions) (Recovered, error) {
			if !strings.HasSuffix(o.From, "/snapshots") || !strings.HasSuffix(o.Key, "/key") || o.App != "shop" || o.Stage != "dev" {
				return Recovered{}, fmt.Errorf("%w: another was named: %+v", deploy.ErrBadInput, o)
			}
			return Recovered{Stage: deploy.StageRef{App: o.App, Stage: o.Stage}, Took: 2 * time.Second,
				Snapshot: deploy.Snapshot{ID: "a", At: time.Now().Add(-125 * time.Minute), Rows: 5}}, nil
		},
		DropDatabase: func(_ context.Context, _, app, stage string) error {
			if app != "shop" || stage != "dev" {
				return fmt.Errorf("%w: another was named", deploy.ErrBadInput)
			}
			return nil
		},
	}
}

// surveyForTests finds what a file "kind" says.
func surveyForTests(_ context.Context, dir string) (Survey, error) {
	kind, err := os.ReadFile(filepath.Join(dir, "kind"))
	if err != nil {
		return Survey{}, deploy.Hint(fmt.Errorf("%w: there is no app here", deploy.ErrBadInput), "looked for kind\nand for nothing else")
	}
	note := func(what, says string) []SurveyNote { return []SurveyNote{{what, says}} }
	return Survey{App: "shop", File: "app: shop # " + string(kind), Found: note("Vite", "in \x1b[2Jthe root"), Decide: note("PORT", "is written down"),
		Next: note("lotse deploy", "carries it")}, nil
}

// wrong is an error with a JSON of its own, as config has it.
type wrong struct{ name string }

func (w wrong) Error() string                { return w.name + ":3:5: services.api: path is missing" }
func (w wrong) Is(target error) bool         { return target == deploy.ErrBadInput }
func (w wrong) MarshalJSON() ([]byte, error) { return []byte(`{"mistakes":[{"line":3}]}`), nil }

func checkForTests(name string, data []byte) error {
	if strings.Contains(string(data), "wrong") {
		return wrong{name}
	}
	return nil
}

// The transcripts are the spec. `harbour FILE` starts a scripted controller; `asked` compares what it was asked; `await ASKED`
// waits until it was asked that; `gone` ends it.
func TestTranscripts(t *testing.T) {
	type key struct{}
	of := func(ts *testscript.TestScript) *harbour { return ts.Value(key{}).(*box).harbour }
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("LOTSE_STATE", filepath.Join(env.WorkDir, "s"))
			env.Setenv("TZ", "UTC")
			env.Values[key{}] = &box{}
			private, err := os.MkdirTemp("/dev/shm", "transcript-")
			if err != nil {
				return err
			}
			env.Setenv("XDG_RUNTIME_DIR", private)
			env.Defer(func() { _ = os.RemoveAll(private) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"harbour": func(ts *testscript.TestScript, _ bool, args []string) {
				h, err := newHarbour(ts.ReadFile(args[0]))
				ts.Check(err)
				stop, err := h.serve(filepath.Join(ts.Getenv("LOTSE_STATE"), "lotse.sock"))
				ts.Check(err)
				ts.Defer(stop)
				*ts.Value(key{}).(*box) = box{h, stop}
			},
			"gone":  func(ts *testscript.TestScript, _ bool, _ []string) { ts.Value(key{}).(*box).stop() },
			"await": func(ts *testscript.TestScript, _ bool, args []string) { ts.Check(of(ts).await(args[0])) },
			"asked": func(ts *testscript.TestScript, neg bool, args []string) {
				if got := of(ts).log(); strings.Contains(got, args[0]+"\n") == neg {
					ts.Fatalf("it was asked\n%s", got)
				}
			},
			"appears": func(ts *testscript.TestScript, _ bool, args []string) { appears(ts, ts.MkAbs(args[0])) },
			"nothingleft": func(ts *testscript.TestScript, _ bool, _ []string) {
				if left, err := os.ReadDir(ts.Getenv("XDG_RUNTIME_DIR")); err != nil || len(left) > 0 {
					ts.Fatalf("the editor has left %v, %v", left, err)
				}
			},
			"runs": func(ts *testscript.TestScript, _ bool, args []string) { runs(ts, args[0], args[1:]) },
		},
	})
}

type box struct {
	harbour *harbour
	stop    func()
}

// runs runs a command that is to end with this code. `exec` knows only good and bad.
func runs(ts *testscript.TestScript, code string, args []string) {
	err := ts.Exec(args[0], args[1:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != code {
		ts.Fatalf("exit code %s, not %s (%v)", got, code, err)
	}
}

// appears waits for a file.
func appears(ts *testscript.TestScript, name string) {
	for limit := time.Now().Add(20 * time.Second); time.Now().Before(limit); runtime.Gosched() {
		if _, err := os.Stat(name); err == nil {
			return
		}
	}
	ts.Fatalf("%s does not appear", name)
}

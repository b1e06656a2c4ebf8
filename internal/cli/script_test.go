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
		Proxy: func(_ context.Context, args []string) error { fmt.Printf("proxy %q\n", args); return nil },
		Keep: func(_ context.Context, dir string, in io.Reader) error {
			spec, err := io.ReadAll(in)
			fmt.Printf("keep %s %s", dir, spec)
			return err
		},
		Check:  checkForTests,
		Schema: func() []byte { return []byte(`{"title":"lotse.yaml"}`) },
		VerifyLedger: func(_ context.Context, state string) error {
			if filepath.Base(state) == "damaged" {
				return deploy.Hint(fmt.Errorf("%w: event 7 does not follow from event 6", deploy.ErrDamaged), "put the last copy back")
			}
			return nil
		},
		Trust:   func(string) (string, error) { return "this machine trusts the local certificates", nil },
		Untrust: func(string) (string, error) { return "this machine no longer trusts them", nil },
		Doctor: func(_ context.Context, state string) []Finding {
			all := []Finding{{"git", FindingGood, "git 2.39", ""}, {"cgroup", FindingPoor, "limits of memory cannot be kept", "start with systemd"}}
			if filepath.Base(state) == "bad" {
				all = append(all, Finding{"disk", FindingBad, "0 GiB free", "make room"})
			}
			return all
		},
		Demo: func(ctx context.Context, o DemoOptions) error {
			o.Say(fmt.Sprintf("setting up, state given: %v", o.StateGiven))
			return o.Deploy(ctx, o.State, deploy.Request{Dir: "/demo"})
		},
		DemoDown: func(_ context.Context, o DemoOptions) error { o.Say("gone"); return nil },
	}
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
			"runs":    func(ts *testscript.TestScript, _ bool, args []string) { runs(ts, args[0], args[1:]) },
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

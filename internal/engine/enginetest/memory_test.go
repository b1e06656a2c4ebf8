package enginetest_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/enginetest"
	"github.com/lotse-eu/lotse/internal/engine/memory"
	"github.com/lotse-eu/lotse/internal/load"
)

// TestMemory proves the contract on the engine that runs nothing. Its traffic is real HTTP through pipes; its clock is that of a
// bubble, so that a busy machine makes it slower and never red.
func TestMemory(t *testing.T) {
	for _, c := range enginetest.Clauses() {
		t.Run(fmt.Sprintf("%d %s", c.Number, c.Name), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { c.Prove(t, memoryBench(t, asIs)) })
		})
	}
}

func asIs(e deploy.Engine) deploy.Engine { return e }

// memoryBench is a World of its own. wrap breaks the engines that are opened.
func memoryBench(t enginetest.T, wrap func(deploy.Engine) deploy.Engine) enginetest.Bench {
	w := memory.NewWorld()
	t.Cleanup(func() { <-time.After(time.Minute) }) // of the bubble, for what net/http lets linger
	t.Cleanup(w.Close)
	w.Serve = serve
	w.Command = func(context.Context, string, string, string) error {
		return &deploy.ExitError{Command: "print", Code: 3, Tail: []string{`s3cr3t/p4ss"word&more+x`}}
	}
	stages := [2]deploy.Stage{{Name: "dev", URL: "https://dev.shop.test"}, {Name: "prod", URL: "https://shop.test"}}
	return enginetest.Bench{
		Stages: stages, Start: 600 * time.Millisecond, Slack: 2 * time.Second,
		Open: func(_ enginetest.T, s deploy.Stage) deploy.Engine {
			return wrap(memory.Open(w, enginetest.App, s.Name))
		},
		Release: func(_ enginetest.T, kind enginetest.Kind, tag string, instances int) deploy.Release {
			return release(w, kind, tag, instances)
		},
		Plan: func(s deploy.Stage) load.Plan {
			return load.Plan{URL: "http://" + strings.TrimPrefix(s.URL, "https://"), Dial: w.Dial}
		},
		Break: func(t enginetest.T, s deploy.Stage, rollout, service string, n int) func() {
			set := func(cause string) {
				if err := w.Break(enginetest.App, s.Name, rollout, service, n, cause); err != nil {
					t.Errorf("break: %v", err)
				}
			}
			set(`answers 500: no login as s3cr3t/p4ss"word&more+x`)
			return func() { set("") }
		},
		Outage: func(enginetest.T, deploy.Stage) func() {
			for _, v := range memory.Verbs() {
				w.Fail(v, memory.Fault{Err: fmt.Errorf("%w: the platform is away", deploy.ErrUnavailable)})
			}
			return w.Heal
		},
		Previous: func(t enginetest.T, s deploy.Stage) deploy.Running {
			written, err := os.ReadFile("testdata/note-1.json")
			if err == nil {
				err = w.Plant(enginetest.App, s.Name, written)
			}
			if err != nil {
				t.Fatalf("plant a note: %v", err)
			}
			return deploy.Running{Rollout: "before", Release: "sha256:" + deploy.Digest(strings.Repeat("ab", 32)), Share: 100,
				Since: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Services: []deploy.RunningService{{Name: "web"}}}
		},
		// A World holds nothing beside what List says: what a broken engine leaks, it leaks into the list.
		Leftovers: func(enginetest.T, deploy.Stage, []deploy.Running) []string { return nil },
		Written:   func(enginetest.T) string { return "" },
	}
}

// serve is an instance: the app that every engine's bench runs.
func serve(at memory.Instance) http.Handler {
	app := load.NewApp(load.About{Release: at.Release.ID.Short(), Stage: at.Stage, Service: at.Service, Instance: fmt.Sprint(at.Number)})
	app.Setting = func(name string) string {
		for _, s := range at.Settings {
			if s.Name == name {
				return s.Value.Reveal()
			}
		}
		return ""
	}
	go func() {
		<-at.Stopping
		app.Shutdown(context.Background())
	}()
	return app
}

func release(w *memory.World, kind enginetest.Kind, tag string, instances int) deploy.Release {
	m := deploy.Manifest{Format: 1, App: enginetest.App, Services: []deploy.Service{{
		Name: "web", Command: "./app " + string(kind), Path: "/", Health: "/health", Instances: instances, Start: 600 * time.Millisecond}}}
	sum := sha256.Sum256([]byte(string(kind) + tag))
	r := deploy.Release{ID: deploy.Digest(fmt.Sprintf("sha256:%x", sum)), Manifest: m}
	b := memory.Behaviour{Prints: []string{"app starts in mode " + string(kind)}}
	switch kind {
	case enginetest.Good, enginetest.Rude: // there is no process that could be rude
	case enginetest.Crash:
		b.Cause = "ended with exit code 3 after 0.1 s"
	case enginetest.Hang:
		b.Hang = true
	case enginetest.WrongPort:
		b.Cause, b.Takes = "did not listen on its PORT (4000); it listens on 8080", 600*time.Millisecond
	case enginetest.Unhealthy:
		b.Cause = "answers 500: the database is away"
	case enginetest.Tell, enginetest.TellCrash:
		b.Prints = append(b.Prints, "connecting with SECRET_TOKEN=$SECRET_TOKEN")
		if kind == enginetest.TellCrash {
			b.Cause = "ended with exit code 3 after printing $SECRET_TOKEN"
		}
	}
	w.Behave(r.ID, b)
	return r
}

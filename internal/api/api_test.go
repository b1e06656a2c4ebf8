package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Every error comes back as what it was: sentinel, text, hint.
func TestErrorsTravel(t *testing.T) {
	f := newFake()
	c := reached(t, f)
	for _, sentinel := range append(sentinels, errPlain) {
		f.err = deploy.Hint(fmt.Errorf("the stage dev: %w, because", sentinel), "do this")
		_, err := c.Deploy(t.Context(), deploy.Request{})
		if err == nil || err.Error() != f.err.Error() || deploy.HintOf(err) != "do this" {
			t.Errorf("%v came back as %v, hint %q", f.err, err, deploy.HintOf(err))
		}
		if got, want := deploy.CodeOf(err), deploy.CodeOf(f.err); got != want {
			t.Errorf("%v: code %s came back as %s", sentinel, want, got)
		}
		for _, other := range sentinels {
			if errors.Is(err, other) != errors.Is(f.err, other) {
				t.Errorf("%v came back as %v", sentinel, other)
			}
		}
	}
}

// The list of sentinels above is whole: it is read from the source, so that a new one is not forgotten.
func TestSentinelsAreAll(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../deploy/errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		if v, ok := node.(*ast.ValueSpec); ok && strings.HasPrefix(v.Names[0].Name, "Err") {
			n++
		}
		return true
	})
	if n != len(sentinels) {
		t.Errorf("deploy has %d sentinels, and %d are tested", n, len(sentinels))
	}
	for _, s := range sentinels {
		if statusOf(deploy.CodeOf(s)) == http.StatusInternalServerError {
			t.Errorf("%v has no status of its own", s)
		}
	}
}

// An error in the middle of a stream is one too.
func TestErrorsTravelInStreams(t *testing.T) {
	f := newFake()
	c := reached(t, endsBadly{f})
	lines := 0
	err := c.Logs(t.Context(), deploy.StageRef{App: "app", Stage: "dev"}, deploy.LogQuery{}, func(deploy.LogLine) bool { lines++; return true })
	if lines != 1 || !errors.Is(err, deploy.ErrDamaged) || deploy.HintOf(err) != "look" {
		t.Errorf("%d lines, then %v", lines, err)
	}
}

type endsBadly struct{ *fake }

func (endsBadly) Logs(_ context.Context, _ deploy.StageRef, _ deploy.LogQuery, yield func(deploy.LogLine) bool) error {
	yield(deploy.LogLine{Text: "one"})
	return deploy.Hint(fmt.Errorf("the log: %w", deploy.ErrDamaged), "look")
}

func TestMistakesKeepTheirStructure(t *testing.T) {
	f := newFake()
	c := reached(t, f)
	for _, mistake := range []error{mistakes{"line 3"}, &tagged{[]string{"line 3"}}} {
		f.err = errors.Join(errPlain, deploy.Hint(fmt.Errorf("lotse.yaml: %w", mistake), "look"))
		_, err := c.Deploy(t.Context(), deploy.Request{})
		wire := Wire(err) // as --json shows it
		if string(wire.Details) != `{"mistakes":["line 3"]}` || wire.Code != "bad-input" || wire.Message != f.err.Error() || wire.Hint != "look" {
			t.Errorf("it came back as %+v, details %s", wire, wire.Details)
		}
	}
}

// What is unmarshallable, or has no form of its own, travels as text alone.
func TestTextIsEnough(t *testing.T) {
	for _, err := range []error{errPlain, badFormError{}, &deploy.StartError{Service: "api", Tail: []string{"t"}}, deploy.Hint(errPlain, "h")} {
		if wire := Wire(err); wire.Details != nil || wire.Message != err.Error() {
			t.Errorf("%T: %+v", err, wire)
		}
	}
}

type badFormError struct{}

func (badFormError) Error() string                { return "odd" }
func (badFormError) MarshalJSON() ([]byte, error) { return []byte("{"), nil }

// tagged says by tags how it is as JSON.
type tagged struct {
	Mistakes []string `json:"mistakes"`
}

func (*tagged) Error() string        { return "mistakes in the file" }
func (*tagged) Is(target error) bool { return target == deploy.ErrBadInput }

func TestVerbsCarryEverything(t *testing.T) {
	f := newFake()
	f.names = map[string]string{"p-1": "Anna"}
	c := reached(t, f)
	ctx := t.Context()

	q := deploy.Request{Dir: "/d", Rev: "v1", Stage: "dev", Again: true}
	id, err := c.Deploy(ctx, q)
	check(t, err, f.last(), q)
	check(t, nil, id, "aaaa")

	check(t, c.Abort(ctx, "a/../b?c"), f.last(), "abort a/../b?c")

	check(t, c.End(ctx, deploy.StageRef{App: "shop", Stage: "dev"}, deploy.Person{Name: "Ada"}), f.last(), "end shop/dev Ada")

	hold := deploy.Closing{App: "shop", Stage: "prod", Bounds: &deploy.Bounds{For: time.Second, Requests: 2, Bytes: 3}, Reason: "r"}
	closed, err := c.Hold(ctx, hold)
	check(t, err, f.last(), hold)
	check(t, nil, closed, deploy.Closed{Waiting: 3})
	page := deploy.Closing{App: "shop", Stage: "prod", Page: &deploy.Page{Message: "m", HTML: "<p>"}, By: deploy.Person{Name: "Ada"}}
	closed, err = c.Maintain(ctx, page)
	check(t, err, f.last(), page)
	check(t, nil, closed, deploy.Closed{Maintenance: true})

	status, err := c.Status(ctx)
	want, _ := f.Status(ctx)
	check(t, err, status, want)

	history, err := c.History(ctx, "my app", "d/v", 3)
	check(t, err, f.last(), []any{"my app", "d/v", 3})
	check(t, nil, history, []deploy.Rollout{{ID: "aaaa"}})

	rollout, err := c.Rollout(ctx, "x y")
	check(t, err, rollout, deploy.Rollout{ID: "x y", Outcome: deploy.Settled})

	f.release = deploy.Release{ID: "sha256:aa", Manifest: deploy.Manifest{Format: 1, App: "app", Files: []deploy.File{{Path: "a", Size: 3}}},
		Record: deploy.Record{Author: "p-1", Made: time.Unix(1, 0).UTC(), Steps: []deploy.StepEvidence{{Name: "test", State: deploy.StepDone}}}}
	release, err := c.Release(ctx, "sha256:aa")
	check(t, err, release, f.release)
	check(t, nil, f.last(), deploy.Digest("sha256:aa"))

	names, err := c.Names(ctx, []string{"p-1", "p-2"})
	check(t, err, names, f.names)

	pong, err := c.Ping(ctx)
	check(t, err, pong.Version, "1.0")

	f.logs = []deploy.LogLine{{Text: "one"}, {Text: "two"}}
	stage, lq := deploy.StageRef{App: "a b", Stage: "c%d"}, deploy.LogQuery{Rollout: "r&s", Service: "t=u", Lines: 7, Since: time.Date(2026, 11, 5, 12, 0, 0, 7, time.UTC)}
	var lines []deploy.LogLine
	err = c.Logs(ctx, stage, lq, func(l deploy.LogLine) bool { lines = append(lines, l); return true })
	check(t, err, f.last(), []any{stage, lq})
	check(t, nil, lines, f.logs)
}

func check(t *testing.T, err error, got, want any) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// A service that knows no names answers with none.
func TestNamesAreOptional(t *testing.T) {
	names, err := reached(t, struct{ Service }{newFake()}).Names(t.Context(), []string{"p-1"})
	if err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestLogsEndWhenTheyAreEnough(t *testing.T) {
	f := newFake()
	f.logs = []deploy.LogLine{{Text: "one"}, {Text: "two"}}
	n := 0
	err := reached(t, f).Logs(t.Context(), deploy.StageRef{App: "app", Stage: "dev"}, deploy.LogQuery{Follow: true}, func(deploy.LogLine) bool { n++; return false })
	if err != nil || n != 1 {
		t.Errorf("%d lines, %v", n, err)
	}
}

func TestLogsOfAControllerThatGoesAway(t *testing.T) {
	f := newFake()
	f.logs = []deploy.LogLine{{Text: "one"}}
	socket := socketOf(t)
	stop := serving(t, f, socket)
	err := NewClient(socket).Logs(t.Context(), deploy.StageRef{App: "app", Stage: "dev"}, deploy.LogQuery{Follow: true}, func(deploy.LogLine) bool {
		go stop()
		return true
	})
	stop()
	if !errors.Is(err, deploy.ErrUnavailable) || deploy.HintOf(err) == "" {
		t.Error(err)
	}
}

// What the controller does not know is refused, not passed over.
func TestRequestsAreReadStrictly(t *testing.T) {
	f := newFake()
	server := NewServer(f, "1.0", slog.New(slog.DiscardHandler))
	for _, c := range []struct {
		method, path, body, says string
		status                   int
	}{
		{"POST", "/v1/rollouts", `{"dir":"/d","stgae":"dev"}`, `unknown field \"stgae\"`, 400},
		{"POST", "/v1/rollouts", `{"dir":"/d"} {}`, "after the JSON value", 400},
		{"POST", "/v1/rollouts", ``, "body", 400},
		{"POST", "/v1/rollouts", `{"dir":"` + strings.Repeat("d", maxBody) + `"}`, "too large", 400},
		{"POST", "/v1/names", `[]`, "body", 400},
		{"GET", "/v1/rollouts?limit=-1", "", "limit must be a number", 400},
		{"GET", "/v1/rollouts?stgae=dev", "", `\"stgae\" is not known`, 400},
		{"GET", "/v1/rollouts?limit=1&limit=2", "", "twice", 400},
		{"GET", "/v1/stages/app/dev/logs?follow=1", "", "follow is true", 400},
		{"GET", "/v1/stages/app/dev/logs?lines=x", "", "lines must be a number", 400},
		{"GET", "/v2/rollouts", "", "does not know GET /v2/rollouts", 501},
		{"DELETE", "/v1/rollouts/aaaa", "", "does not know DELETE", 501},
	} {
		w := httptest.NewRecorder()
		server.ServeHTTP(w, httptest.NewRequest(c.method, c.path, strings.NewReader(c.body)))
		var reply errorReply
		if err := json.Unmarshal(w.Body.Bytes(), &reply); err != nil || reply.Error == nil {
			t.Errorf("%s %.40s: %v: %.100s", c.method, c.path, err, w.Body)
		}
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.says) {
			t.Errorf("%s %.40s %.40s: %d %.200s; want %d %s", c.method, c.path, c.body, w.Code, w.Body, c.status, c.says)
		}
	}
	if f.calls() != 0 {
		t.Errorf("the service was asked %d times", f.calls())
	}
}

// unready is a service that takes a while, and says when a request waits for it.
type unready struct {
	*fake
	waits chan struct{}
	ready chan struct{}
}

func newUnready() unready { return unready{newFake(), make(chan struct{}), make(chan struct{})} }

func (u unready) Ready() <-chan struct{} {
	u.waits <- struct{}{}
	return u.ready
}

// Requests that come before the service is ready wait for it; a ping does not.
func TestRequestsWaitUntilReady(t *testing.T) {
	u := newUnready()
	c := reached(t, u)
	answered := make(chan error, 1)
	go func() { _, err := c.Status(t.Context()); answered <- err }()
	<-u.waits
	if _, err := c.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	if u.calls() != 0 {
		t.Error("the service was asked before it was ready")
	}
	close(u.ready)
	if err := <-answered; err != nil || u.calls() != 1 {
		t.Errorf("%v after %d calls", err, u.calls())
	}
}

// A request that still waits when the controller ends is told so, and not left hanging.
func TestWaitingEndsWithTheServer(t *testing.T) {
	u := newUnready()
	socket := socketOf(t)
	stop := serving(t, u, socket)
	answered := make(chan error, 1)
	go func() { _, err := NewClient(socket).Status(context.Background()); answered <- err }()
	<-u.waits
	stop()
	if err := <-answered; !errors.Is(err, deploy.ErrUnavailable) || !strings.Contains(err.Error(), "is being ended") {
		t.Error(err)
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	f := newFake()
	f.logs = []deploy.LogLine{{Text: "one"}}
	c := reached(t, f)
	var callers sync.WaitGroup
	for i := range 10 {
		id := fmt.Sprint("r", i)
		callers.Go(func() {
			for range 5 {
				_, err := c.Deploy(t.Context(), deploy.Request{Dir: id})
				_, err2 := c.Status(t.Context())
				err3 := c.Logs(t.Context(), deploy.StageRef{App: "app", Stage: id}, deploy.LogQuery{}, func(deploy.LogLine) bool { return true })
				if err := errors.Join(err, err2, err3); err != nil {
					t.Error(err)
				}
			}
			f.send(id, says(id))
			f.send(id, at(id, deploy.Settled))
		})
		callers.Go(func() {
			var got []Update
			if err := c.Follow(t.Context(), id, func(u Update) error { got = append(got, u); return nil }); err != nil {
				t.Error(err)
			}
			if len(got) != 2 || !reflect.DeepEqual(got[0].Update, says(id)) {
				t.Errorf("%s heard %+v", id, got)
			}
		})
	}
	callers.Wait()
}

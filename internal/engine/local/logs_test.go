package local_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/local"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Tasks run beside the services with their settings; what they print is masked and kept.
func TestTasksAndLogs(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	m.up(t, e, 0, "jobs", web("good", 1))
	err := e.Task(within(t, patience), "jobs", "migrate", `echo "token $SECRET_TOKEN in $LOTSE_SERVICE"; test -f app; exit 7`, nil)
	var exit *deploy.ExitError
	if !errors.As(err, &exit) || exit.Code != 7 || !slices.Contains(exit.Tail, "token ••• in migrate") {
		t.Errorf("%v", err)
	}
	if err := e.Task(within(t, patience), "nobody", "x", "true", nil); !errors.Is(err, deploy.ErrUnknown) {
		t.Errorf("a task of an unknown rollout: %v", err)
	}
	if err := m.open(t, m.stages[0]).Task(within(t, patience), "jobs", "x", "true", nil); !deploy.Retryable(err) {
		t.Errorf("a task before the settings are known: %v", err)
	}
	logs := func(q deploy.LogQuery) (texts []string) {
		t.Helper()
		if err := e.Logs(within(t, patience), q, func(l deploy.LogLine) bool { texts = append(texts, l.Service+": "+l.Text); return true }); err != nil {
			t.Error(err)
		}
		return texts
	}
	if got := logs(deploy.LogQuery{}); !slices.Equal(got, []string{"web: app starts in mode good", "web: app listens", "migrate: token ••• in migrate"}) {
		t.Errorf("%q", got)
	}
	if got := logs(deploy.LogQuery{Rollout: "jobs", Service: "web", Lines: 1}); !slices.Equal(got, []string{"web: app listens"}) {
		t.Errorf("%q", got)
	}
	var followed []string
	err = e.Logs(within(t, patience), deploy.LogQuery{Follow: true, Lines: 5}, func(l deploy.LogLine) bool {
		followed = append(followed, l.Text)
		return len(followed) < 2
	})
	if err != nil || len(followed) != 2 {
		t.Errorf("%q %v", followed, err)
	}
}

// following collects what is said until end is called, or the following ends.
type following struct {
	said  chan deploy.LogLine
	ended chan error
}

func follow(t *testing.T, e *local.Engine, q deploy.LogQuery) following {
	t.Helper()
	f := following{make(chan deploy.LogLine, 100), make(chan error, 1)}
	q.Follow = true
	ctx := within(t, patience)
	go func() {
		f.ended <- e.Logs(ctx, q, func(l deploy.LogLine) bool { f.said <- l; return ctx.Err() == nil })
	}()
	return f
}

// hear waits for a line, and returns all that were said up to it.
func (f following) hear(t *testing.T, rollout, text string) (said []deploy.LogLine) {
	t.Helper()
	for limit := time.After(patience); ; {
		select {
		case l := <-f.said:
			if said = append(said, l); l.Rollout == rollout && l.Text == text {
				return said
			}
		case err := <-f.ended:
			t.Fatalf("the following ended before %s said %q: %v", rollout, text, err)
		case <-limit:
			t.Fatalf("%s was never heard to say %q", rollout, text)
		}
	}
}

// A stage is followed while its releases come and go; a rollout until it is gone, with its last words.
func TestFollowTheStage(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	m.up(t, e, 0, "one", web("good", 2))
	stage, one := follow(t, e, deploy.LogQuery{}), follow(t, e, deploy.LogQuery{Rollout: "one"})
	stage.hear(t, "one", "app listens")
	one.hear(t, "one", "app listens")

	m.up(t, e, 0, "two", web("good", 1))
	stage.hear(t, "two", "app starts in mode good")
	if err := e.Stop(within(t, patience), 1, "one", 0); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-one.ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("a rollout that is gone is followed on")
	}
	for len(one.said) > 0 {
		if l := <-one.said; l.Rollout != "one" {
			t.Errorf("of another rollout: %+v", l)
		}
	}

	// Also what cannot start is heard, though nothing of it is left.
	bad := m.order(0, "bad", m.release(t, "bad", web("crash", 1)))
	if err := e.Start(within(t, patience), 1, bad); !errors.Is(err, deploy.ErrCannotStart) {
		t.Fatal(err)
	}
	stage.hear(t, "bad", "app starts in mode crash")
	m.up(t, e, 0, "three", web("good", 1))
	stage.hear(t, "three", "app listens")
}

// Of what is kept, and of what is followed, only what was said since.
func TestLogsSince(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	m.up(t, e, 0, "one", web("good", 1))
	task := func(text string) {
		t.Helper()
		if err := e.Task(within(t, patience), "one", "job", "echo "+text, nil); err != nil {
			t.Fatal(err)
		}
	}
	task("early")
	since := time.Now()
	task("late")
	var texts []string
	if err := e.Logs(within(t, patience), deploy.LogQuery{Since: since}, func(l deploy.LogLine) bool { texts = append(texts, l.Text); return true }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(texts, []string{"late"}) {
		t.Errorf("%q", texts)
	}
	f := follow(t, e, deploy.LogQuery{Since: since})
	m.up(t, e, 0, "two", web("good", 1))
	for _, l := range f.hear(t, "two", "app listens") {
		if l.At.Before(since) {
			t.Errorf("said before: %+v", l)
		}
	}
}

// A command runs in a release that was not started, with other values for some settings, which nobody sees; nothing but its log is left.
func TestTaskAhead(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	o := m.order(0, "ahead", m.release(t, "ahead", web("good", 1)))
	var lines []string
	instead := []deploy.Setting{{Name: "COLOUR", Value: secret.New("battery-staple")}}
	err := e.TaskAhead(within(t, patience), o, "migrate", `test "$COLOUR" = battery-staple && test -x app && echo "$COLOUR and $SECRET_TOKEN"; exit 3`, instead, func(line string) { lines = append(lines, line) })
	var exit *deploy.ExitError
	if !errors.As(err, &exit) || exit.Code != 3 || !slices.Equal(lines, []string{"••• and •••"}) || !slices.Equal(exit.Tail, lines) {
		t.Fatalf("%v, %q", err, lines)
	}
	var kept []string
	if err := e.Logs(within(t, patience), deploy.LogQuery{Rollout: "ahead"}, func(l deploy.LogLine) bool { kept = append(kept, l.Service+": "+l.Text); return true }); err != nil || !slices.Equal(kept, []string{"migrate: ••• and •••"}) {
		t.Errorf("the log has %q, %v", kept, err)
	}
	for _, folder := range []string{"releases", "homes"} {
		left, err := os.ReadDir(filepath.Join(e.Dir, folder))
		if err != nil || len(left) > 0 {
			t.Errorf("in %s is left %v, %v", folder, left, err)
		}
	}
	if err := e.Start(within(t, patience), 1, o); err != nil {
		t.Fatal(err)
	}
	if err := e.TaskAhead(within(t, patience), o, "", "true", nil, func(string) {}); err != nil {
		t.Fatal(err)
	}
	if err := e.Check(within(t, patience), "ahead"); err != nil {
		t.Errorf("what runs has lost its folder: %v", err)
	}
}

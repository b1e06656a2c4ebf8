package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// told is an update in a word, for comparing.
func told(u Update) string {
	switch {
	case u.Connection != "":
		return string(u.Connection)
	case u.Output != nil:
		return u.Output.Line
	}
	return string(u.Rollout.Outcome)
}

func TestFollowTellsEverything(t *testing.T) {
	f := newFake()
	f.send("aaaa", says("an earlier line"))
	f.send("aaaa", at("aaaa", deploy.Going))
	c := reached(t, f)
	var got []string
	err := c.Follow(t.Context(), "aaaa", func(u Update) error {
		if got = append(got, told(u)); len(got) == 2 { // live: sent only after the ones before have come
			f.send("aaaa", says("a line"))
			f.send("aaaa", at("aaaa", deploy.Reverted))
		}
		return nil
	})
	check(t, err, got, []string{"an earlier line", "going", "a line", "reverted"})
}

// A controller that ends and another that begins on the same socket: the stream goes on, and says so.
func TestFollowSurvivesARestart(t *testing.T) {
	f := newFake()
	f.send("aaaa", at("aaaa", deploy.Going))
	socket := socketOf(t)
	stop := serving(t, f, socket)
	lost, lines, end := make(chan struct{}), make(chan string, 10), make(chan error, 1)
	go func() {
		end <- NewClient(socket).Follow(t.Context(), "aaaa", func(u Update) error {
			if u.Connection == Lost {
				close(lost)
			}
			lines <- told(u)
			return nil
		})
	}()
	if got := <-lines; got != "going" {
		t.Fatal(got)
	}
	stop()
	<-lost // nobody is there now; it was said, and goes on trying
	f.send("aaaa", at("aaaa", deploy.Settled))
	t.Cleanup(serving(t, f, socket))
	err := <-end
	close(lines)
	var got []string
	for l := range lines {
		got = append(got, l)
	}
	check(t, err, got, []string{"lost", "back", "going", "settled"})
}

// plays serves a script over raw connections: the n-th request gets the n-th answer, and then the last.
func plays(t *testing.T, answers ...func(w http.ResponseWriter)) *Client {
	socket := socketOf(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	asked := 0 // by one client, one request after the other
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer := answers[min(asked, len(answers)-1)]
		asked++
		answer(w)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return NewClient(socket)
}

// dies answers with this much of a stream and hangs up.
func dies(text string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		io.WriteString(w, text)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
}

func line(text string) string {
	return `{"item":{"output":{"step":"test","line":"` + text + `"}}}` + "\n"
}

// A controller that dies in the middle of a line is as one that ends between two; however often it comes to nothing, it is said once.
func TestFollowSurvivesHalfALine(t *testing.T) {
	c := plays(t, dies(line("one")+`{"item":{"outp`), dies(""),
		func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
		func(w http.ResponseWriter) {
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"error":{"code":"unavailable","message":"being ended"}}`)
		},
		func(w http.ResponseWriter) { io.WriteString(w, line("two")+`{"end":true}`+"\n") })
	var got []string
	err := c.Follow(t.Context(), "aaaa", func(u Update) error { got = append(got, told(u)); return nil })
	check(t, err, got, []string{"one", "lost", "back", "two"})
}

// A stream that ends without its last line is not an end: it must not pass for a good one.
func TestFollowGivesUpInTheEnd(t *testing.T) {
	f := newFake()
	f.send("aaaa", at("aaaa", deploy.Going))
	socket := socketOf(t)
	stop := serving(t, f, socket)
	defer stop()
	c := NewClient(socket)
	c.ReachAgain = 120 * time.Millisecond
	var got []string
	err := c.Follow(t.Context(), "aaaa", func(u Update) error {
		if got = append(got, told(u)); len(got) == 1 {
			go stop()
		}
		return nil
	})
	if !errors.Is(err, deploy.ErrUnavailable) || !strings.Contains(deploy.HintOf(err), "`lotse follow aaaa`") {
		t.Errorf("%v; hint %q", err, deploy.HintOf(err))
	}
	if d := cmp.Diff([]string{"going", "lost"}, got); d != "" {
		t.Error(d)
	}
}

// One that is there and hangs up every time is away too.
func TestFollowGivesUpOnOneThatHangsUp(t *testing.T) {
	c := plays(t, dies(line("one")), dies(""))
	c.ReachAgain = 300 * time.Millisecond
	err := c.Follow(t.Context(), "aaaa", func(Update) error { return nil })
	if !errors.Is(err, deploy.ErrUnavailable) || !strings.Contains(err.Error(), "did not come back") {
		t.Error(err)
	}
}

// An error that yield returns ends it and comes back as it is, even one that looks like a lost controller, at any time.
func TestFollowEndsWhenToldTo(t *testing.T) {
	stop := deploy.Hint(deploy.ErrUnavailable, "mine")
	for after := 1; after <= 4; after++ {
		c := plays(t, dies(line("one")), dies(line("two")))
		calls := 0
		err := c.Follow(t.Context(), "aaaa", func(Update) error {
			if calls++; calls == after {
				return stop
			}
			return nil
		})
		if err != stop || calls != after { //nolint:errorlint // as it is: nothing is wrapped around it
			t.Errorf("told to end at call %d: %d calls, %v", after, calls, err)
		}
	}
}

func TestFollowEndsWithItsContext(t *testing.T) {
	f := newFake()
	f.send("aaaa", at("aaaa", deploy.Going))
	ctx, cancel := context.WithCancel(t.Context())
	err := reached(t, f).Follow(ctx, "aaaa", func(Update) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// An unknown rollout, and a controller that is not there, are errors at once.
func TestFollowFailsAtOnce(t *testing.T) {
	f := newFake()
	f.err = deploy.Hint(deploy.ErrNotFound, "look")
	if err := reached(t, f).Follow(t.Context(), "x", nil); !errors.Is(err, deploy.ErrNotFound) {
		t.Error(err)
	}
	if err := NewClient(socketOf(t)).Follow(t.Context(), "x", nil); !errors.Is(err, deploy.ErrUnavailable) {
		t.Error(err)
	}
}

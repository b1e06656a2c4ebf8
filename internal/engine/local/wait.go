package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

const (
	crashesMost = 3           // in a row, then waiting on is useless
	workerStays = time.Second // a worker has come up when it has stayed so long
	askEvery    = 50 * time.Millisecond
)

// portTakenError is why an instance has ended that found somebody else on its port.
type portTakenError struct{ *deploy.StartError }

// waiting is the time between the start of an instance and its first answer.
type waiting struct {
	engine   *Engine
	instance instance
	host     string
	begun    time.Time
	limit    time.Duration
	last     error     // of the last question that was not cut short
	started  time.Time // of the process that was seen last
	mask     *process.Mask
}

// wait returns nil at the first answer, or a StartError that says why there was none.
func (w *waiting) wait(ctx context.Context) error {
	deadline, cancel := context.WithDeadline(ctx, w.begun.Add(w.limit))
	defer cancel()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		status, err := process.Inspect(w.engine.dir(w.instance))
		if err != nil {
			return err
		}
		if err := w.ended(status); err != nil {
			return err
		}
		answer := w.engine.ask(deadline, w.instance, w.host, status)
		if answer == nil {
			return nil
		}
		if deadline.Err() == nil {
			w.last = answer
		}
		select {
		case <-tick.C:
		case <-deadline.Done():
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return w.fail(w.late())
		}
	}
}

// ended is an error when the process has ended for good, or so often that it will again.
func (w *waiting) ended(s process.Status) error {
	crashes := s.Restarts
	if !s.Process && s.LastExit != nil {
		crashes++
	}
	if s.LastExit == nil || !s.Ended && crashes < crashesMost {
		if s.Ended {
			return w.fail("could not be started: " + s.Failure)
		}
		w.started = s.Started
		return nil
	}
	cause := "ended with " + s.LastExit.String()
	if took, known := w.lived(s); known {
		cause += fmt.Sprintf(" after %.1f s", took.Seconds())
	}
	if crashes > 1 {
		cause += fmt.Sprintf(", %d times in a row", crashes)
	}
	failed := w.fail(cause)
	if w.instance.port != 0 && saysPortTaken(failed.Tail) {
		return portTakenError{failed}
	}
	return failed
}

// lived is how long the process ran that ended last. It may have been started again before we looked.
func (w *waiting) lived(s process.Status) (time.Duration, bool) {
	for _, started := range []time.Time{s.Started, w.started} {
		if took := s.LastExit.At.Sub(started); !started.IsZero() && took >= 0 {
			return took, true
		}
	}
	return 0, false
}

// saysPortTaken knows what programs print then: Go and C, Node, Python, Java.
func saysPortTaken(lines []string) bool {
	return slices.ContainsFunc(lines, func(l string) bool {
		l = strings.ToLower(l)
		return strings.Contains(l, "address already in use") || strings.Contains(l, "eaddrinuse")
	})
}

// late says why an instance has not answered in time.
func (w *waiting) late() string {
	within := "within " + w.limit.String()
	if w.instance.service.Worker() {
		return "did not stay up " + within
	}
	status, err := process.Inspect(w.engine.dir(w.instance))
	if err != nil || !status.Process {
		return "did not stay up " + within
	}
	ports, err := process.PortsOf(status.PID)
	switch {
	case err != nil || slices.Contains(ports, w.instance.port):
		return fmt.Sprintf("listens on its PORT (%d), but %s %s", w.instance.port, w.explain(), within)
	case len(ports) == 0:
		return fmt.Sprintf("did not listen on its PORT (%d) %s; it listens on no port at all", w.instance.port, within)
	}
	return fmt.Sprintf("did not listen on its PORT (%d) %s; it listens on %s", w.instance.port, within, strings.Trim(fmt.Sprint(ports), "[]"))
}

func (w *waiting) explain() string {
	if bad, ok := errors.AsType[*answerError](w.last); ok {
		return w.mask.String(bad.Error())
	}
	return "gave no answer"
}

func (w *waiting) fail(cause string) *deploy.StartError {
	return &deploy.StartError{Service: w.instance.service.Name, Instance: w.instance.number, Cause: cause, Tail: w.engine.tail(w.instance)}
}

func cannotStart(i instance, err error) error {
	if !errors.Is(err, process.ErrCannotStart) {
		return err
	}
	return &deploy.StartError{Service: i.service.Name, Instance: i.number, Cause: err.Error()}
}

// answerError is a health path that does not answer 2xx.
type answerError struct {
	path, line string
	status     int
}

func (b *answerError) Error() string {
	text := fmt.Sprintf("answers %s with %d", b.path, b.status)
	if b.line != "" {
		text += ": " + b.line
	}
	return text
}

// ask puts one question to an instance. Nil is a good answer.
func (e *Engine) ask(ctx context.Context, i instance, host string, s process.Status) error {
	switch {
	case !s.Process:
		return errors.New("does not run")
	case i.service.Worker():
		if up := time.Since(s.Started); up < workerStays {
			return fmt.Errorf("has been up for %.1f s only", up.Seconds())
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.Timeout)
	defer cancel()
	var err error
	if i.service.Health == "" {
		err = dial(ctx, i.address())
	} else {
		err = get(ctx, i, host)
	}
	var bad *answerError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bad):
		return bad
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("does not listen on its PORT (%d)", i.port)
	case ctx.Err() != nil:
		return fmt.Errorf("did not answer within %s", e.Timeout)
	}
	return errors.New("broke the connection off")
}

func dial(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// get asks the health path as the proxy would, so that an app that looks at its host name answers.
func get(ctx context.Context, i instance, host string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+i.address()+i.service.Health, nil)
	if err != nil {
		return err
	}
	req.Host = host
	req.Header.Set("X-Forwarded-Proto", "https")
	req.Header.Set("X-Forwarded-Host", host)
	req.Header.Set("User-Agent", "lotse")
	transport := &http.Transport{DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 == 2 {
		return err
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	line = strings.ToValidUTF8(line[:min(len(line), 200)], "")
	return &answerError{path: i.service.Health, status: resp.StatusCode, line: line}
}

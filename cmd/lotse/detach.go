package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/cli"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

const (
	// controllerGrace is what a controller gets to finish: a shared history has something to be written at the end.
	controllerGrace = 45 * time.Second

	// untilReady is how long a detached controller may take until it answers, beside what it waits for others.
	untilReady = 2 * time.Minute
)

// serveDetached starts the controller under a keeper and returns when it answers. One that runs already is fine. A controller that cannot
// begin is not tried again, and its error is this one's.
func serveDetached(ctx context.Context, o cli.ServeOptions) error {
	p := place(o.State)
	if err := p.make(); err != nil {
		return err
	}
	client := api.NewClient(p.socket())
	if _, err := client.Ping(ctx); err == nil {
		o.Ready("a controller runs already; `lotse down` ends it")
		return nil
	}
	keepers, err := openKeepers(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	spec, err := controllerSpec(p, o)
	if err != nil {
		return err
	}
	begun := time.Now()
	if err := keepers.Start(ctx, p.controllerKeeper(), spec); err != nil {
		return fmt.Errorf("starting the controller: %w", err)
	}
	if err := untilItAnswers(ctx, p, begun, client, o.Say); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), controllerGrace)
		defer cancel()
		if stopErr := keepers.Stop(stop, p.controllerKeeper(), controllerGrace); stopErr != nil {
			return fmt.Errorf("%w; and it could not be ended: %w", err, stopErr)
		}
		return err
	}
	o.Ready("the controller runs, and logs to " + p.controllerKeeper() + "; `lotse down` ends it")
	return nil
}

// controllerSpec is the controller as its keeper starts it. It says everything in JSON, so that its errors can be read.
func controllerSpec(p place, o cli.ServeOptions) (process.Spec, error) {
	exe, err := self()
	if err != nil {
		return process.Spec{}, err
	}
	here, err := os.Getwd()
	if err != nil {
		return process.Spec{}, err
	}
	command := []string{exe, "serve", "--json", "--state", string(p)}
	for flag, port := range map[string]int{"--https": o.HTTPS, "--http": o.HTTP} {
		if port != 0 {
			command = append(command, flag, strconv.Itoa(port))
		}
	}
	if o.Shared != "" {
		command = append(command, "--shared", o.Shared)
	}
	if o.Verbose {
		command = append(command, "--verbose")
	}
	return process.Spec{Name: "lotse-controller-" + strconv.Itoa(os.Getpid()), Command: command, Dir: here, Env: os.Environ(), Restart: true, Grace: controllerGrace}, nil
}

// untilItAnswers waits for the controller, and returns its error when it has ended before.
func untilItAnswers(ctx context.Context, p place, begun time.Time, client *api.Client, say func(string)) error {
	told := ""
	for deadline := time.Now().Add(untilReady + othersMayTake); ; {
		_, err := client.Ping(ctx)
		if err == nil {
			return nil
		}
		now, inspectErr := process.Inspect(p.controllerKeeper())
		if inspectErr != nil {
			return inspectErr
		}
		if now.Restarts > 0 || now.Ended {
			return endedWith(p, begun)
		}
		if waits := waitsFor(p, begun); waits != "" && waits != told {
			told = waits
			say(waits)
		}
		if time.Now().After(deadline) {
			return deploy.Hint(fmt.Errorf("%w: the controller does not answer: %w%s", deploy.ErrUnavailable, err, lastLines(p.controllerKeeper())), "its output is in "+p.controllerKeeper())
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// spoken is a line of a controller's JSON output: of its log, or its error.
type spoken struct {
	Message string `json:"msg"`
	Who     string `json:"who"`
	Error   struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Hint    string `json:"hint"`
	} `json:"error"`
}

func output(p place, begun time.Time) (all []spoken) {
	lines, err := process.Lines(p.controllerKeeper(), 50)
	if err != nil {
		return nil
	}
	for _, line := range lines {
		var s spoken
		if !line.At.Before(begun.Truncate(time.Millisecond)) && json.Unmarshal([]byte(line.Text), &s) == nil {
			all = append(all, s)
		}
	}
	return all
}

// waitsFor is what the controller waits for, in a sentence, or "".
func waitsFor(p place, begun time.Time) (sentence string) {
	for _, s := range output(p, begun) {
		if s.Message == waitingForAnother {
			sentence = s.Message + ": " + s.Who
		}
	}
	return sentence
}

// waitingForAnother is what internal/share logs.
const waitingForAnother = "waiting for another controller"

// endedWith is the error that the controller ended with.
func endedWith(p place, begun time.Time) error {
	for _, s := range output(p, begun) {
		if s.Error.Message == "" {
			continue
		}
		err := fmt.Errorf("the controller could not begin: %s", s.Error.Message)
		if sentinel := deploy.ErrorOf(s.Error.Code); sentinel != nil {
			err = &ended{err, sentinel}
		}
		return deploy.Hint(err, s.Error.Hint)
	}
	return deploy.Hint(fmt.Errorf("the controller could not begin%s", lastLines(p.controllerKeeper())), "its output is in "+p.controllerKeeper())
}

// ended is an error of another process, whose kind is known.
type ended struct {
	error
	kind error
}

func (e *ended) Is(target error) bool { return target == e.kind }

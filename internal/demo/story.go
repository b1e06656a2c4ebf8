package demo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/secret"
)

// story is the demo as it is told. Each chapter looks first at what has been done already.
type story struct {
	Parts
	controller Controller
	app        *repo
}

const appName = "whatsgonow"

var roadOfApp = []string{"dev", "staging", "prod"}

// threeStages brings the first commit to dev, staging and prod, and asks each address as a browser would.
func (s *story) threeStages(ctx context.Context) error {
	for i, stage := range roadOfApp {
		there, err := s.settled(ctx, stage)
		if err != nil || len(there) > 0 {
			if err != nil {
				return err
			}
			continue
		}
		if i == 0 {
			s.say("\n$ lotse deploy   # the first commit: lint, types, tests, build, and dev")
			err = s.Verbs.Deploy(ctx, deploy.Request{Dir: s.app.dir})
		} else {
			err = s.promote(ctx, stage)
		}
		if err != nil {
			return err
		}
	}
	return s.proveStages(ctx)
}

func (s *story) promote(ctx context.Context, stage string) error {
	s.say("\n$ lotse promote %s", stage)
	return s.Verbs.Promote(ctx, deploy.Move{App: appName, Stage: stage})
}

// settled are the settled rollouts of a stage, the newest first.
func (s *story) settled(ctx context.Context, stage string) ([]deploy.Rollout, error) {
	all, err := s.controller.History(ctx, appName, stage, 0)
	return slices.DeleteFunc(all, func(r deploy.Rollout) bool { return r.Outcome != deploy.Settled }), err
}

func (s *story) lanes(ctx context.Context) ([]deploy.StageStatus, error) {
	all, err := s.controller.Status(ctx)
	lanes := slices.DeleteFunc(all, func(l deploy.StageStatus) bool { return l.Stage.App != appName || l.Serves == nil })
	if err == nil && len(lanes) != len(roadOfApp) {
		err = fmt.Errorf("%w: %d of the %d stages serve something", deploy.ErrNotFound, len(lanes), len(roadOfApp))
	}
	return lanes, err
}

// proveStages asks every address the way a browser does that trusts the authority and nothing else.
func (s *story) proveStages(ctx context.Context) error {
	lanes, err := s.lanes(ctx)
	if err != nil {
		return err
	}
	s.say("")
	for _, l := range lanes {
		password, err := s.password(ctx, l)
		if err != nil {
			return err
		}
		if err := s.ask(ctx, l, password); err != nil {
			return err
		}
	}
	return nil
}

// password is that of a private stage; prod has none.
func (s *story) password(ctx context.Context, l deploy.StageStatus) (secret.Text, error) {
	if l.Stage.Stage == "prod" {
		return secret.Text{}, nil
	}
	return s.controller.Password(ctx, l.Stage)
}

func (s *story) ask(ctx context.Context, l deploy.StageStatus, password secret.Text) error {
	_, pool, err := s.Authority()
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DialContext: s.Dial, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, l.URL, nil)
	if err != nil {
		return err
	}
	if !password.Empty() {
		request.SetBasicAuth("demo", password.Reveal())
	}
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("asking %s: %w", l.URL, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", l.URL, answer.Status)
	}
	s.say("%-8s %s answers %s over %s: release %s", l.Stage.Stage, l.URL, answer.Status, answer.Proto, l.Serves.Release.Short())
	return nil
}

// secondTrip pushes a second commit, which reaches dev by itself, carries it on to prod, and prod back, while clients hammer prod.
func (s *story) secondTrip(ctx context.Context) error {
	if back, err := s.rolledBack(ctx); back || err != nil {
		return err
	}
	lanes, err := s.lanes(ctx)
	if err != nil {
		return err
	}
	prod := lanes[len(lanes)-1].URL
	_, pool, err := s.Authority()
	if err != nil {
		return err
	}
	s.say("\nFrom here on 12 clients hammer %s.", prod)
	hammer := load.Start(ctx, load.Plan{URL: prod, TLS: &tls.Config{RootCAs: pool}, Dial: s.Dial, Paths: s.app.paths(), Gets: 8, Fresh: 4,
		Pause: 50 * time.Millisecond})
	err = hammer.Await(ctx, 50)
	if err == nil {
		err = s.thereAndBack(ctx)
	}
	report := hammer.Stop()
	if err != nil {
		return err
	}
	s.say("\nMeanwhile on prod: %s", report.Summary())
	if report.Failed > 0 {
		return fmt.Errorf("%d of %d requests failed", report.Failed, report.Requests)
	}
	return nil
}

func (s *story) rolledBack(ctx context.Context) (bool, error) {
	settled, err := s.settled(ctx, "prod")
	return slices.ContainsFunc(settled, func(r deploy.Rollout) bool { return r.Verb == deploy.RolledBack }), err
}

func (s *story) thereAndBack(ctx context.Context) error {
	if err := s.push(ctx); err != nil {
		return err
	}
	for _, stage := range roadOfApp[1:] {
		if err := s.promote(ctx, stage); err != nil {
			return err
		}
	}
	s.say("\n$ lotse rollback prod")
	return s.Verbs.Rollback(ctx, deploy.Move{App: appName, Stage: "prod"})
}

// push commits and pushes, and then only looks on.
func (s *story) push(ctx context.Context) error {
	if err := s.app.secondCommit(ctx); err != nil {
		return err
	}
	head, err := s.app.head(ctx)
	if err != nil {
		return err
	}
	s.say("\n$ git commit -a && git push   # that is all: %.8s goes to dev by itself", head)
	if _, err := s.app.git(ctx, "push", "-q", "origin", "main"); err != nil {
		return err
	}
	id, err := s.arrived(ctx, head)
	if err != nil {
		return err
	}
	return s.Verbs.Follow(ctx, id)
}

// pushSeen is far beyond the time in which a push to a repository on this machine is seen.
const pushSeen = 30 * time.Second

// arrived waits until a rollout of the commit was asked for, and returns its id.
func (s *story) arrived(ctx context.Context, commit string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, pushSeen)
	defer cancel()
	for {
		all, err := s.controller.History(ctx, appName, "dev", 5)
		if i := slices.IndexFunc(all, func(r deploy.Rollout) bool { return r.Commit == commit }); err == nil && i >= 0 {
			return all[i].ID, nil
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return "", errors.Join(fmt.Errorf("the push of %.8s has started nothing within %s", commit, pushSeen), err)
		}
	}
}

// epilogue says what there is to click at and to type.
func (s *story) epilogue(ctx context.Context) error {
	lanes, err := s.lanes(ctx)
	if err != nil {
		return err
	}
	file, _, err := s.Authority()
	if err != nil {
		return err
	}
	s.say("\nLook at it")
	for _, l := range lanes {
		password, err := s.password(ctx, l)
		if err != nil {
			return err
		}
		how := "open to everybody"
		if !password.Empty() {
			how = "password " + password.Reveal()
		}
		s.say("  %-8s %-44s release %s   %s", l.Stage.Stage, l.URL, l.Serves.Release.Short(), how)
	}
	s.say("\nTrust it          sudo bin/lotse trust --state %s   (or: curl --cacert %s …)", s.State, file)
	s.say("Change it         cd %s, edit, git commit -a, git push", s.app.dir)
	s.say("Carry it on       bin/lotse promote staging --state %s   (then prod; back: rollback prod)", s.State)
	s.say("See it            bin/lotse status --state %s", s.State)
	s.say("Take it away      make demo-down")
	return nil
}

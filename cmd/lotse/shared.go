package main

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/lotse-eu/lotse/internal/bucket"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/ledger"
	"github.com/lotse-eu/lotse/internal/pipeline"
	"github.com/lotse-eu/lotse/internal/share"
)

// othersMayTake is how long a controller waits for another one that has the shared history: as long as most rollouts take.
const othersMayTake = 10 * time.Minute

// sharing is the history that this controller shares with others; nil where it has its own.
type sharing struct {
	*share.Share
	log *slog.Logger
}

// openSharing takes the lock of the shared history in a bucket, with the account and the region of the usual environment of AWS.
func openSharing(ctx context.Context, name string, log *slog.Logger) (*sharing, error) {
	if name == "" {
		return nil, nil
	}
	cloud, err := awsConfig(ctx, "")
	if err != nil {
		return nil, err
	}
	cloud.HTTPClient = bucket.HTTPClient(32)
	c := share.Config{AWS: cloud, Bucket: name, Who: job(os.Getenv), Wait: othersMayTake, Log: log}
	if cloud.Region != "" { // share says what is missing
		if c.People, err = share.PeopleKey(ctx, cloud, name); err != nil {
			log.Warn("ids of people are not the same on other machines", "error", err, "hint", deploy.HintOf(err))
		}
	}
	s, err := share.Open(ctx, c)
	if err != nil {
		return nil, err
	}
	return &sharing{s, log}, nil
}

// job is the address of the CI job that this is, for people. It names no person and no machine.
func job(env func(string) string) string {
	if run := env("GITHUB_RUN_ID"); run != "" {
		return cmp.Or(env("GITHUB_SERVER_URL"), "https://github.com") + "/" + env("GITHUB_REPOSITORY") + "/actions/runs/" + run
	}
	return cmp.Or(env("CODEBUILD_BUILD_ID"), "a controller outside of CI")
}

func (s *sharing) book(log *slog.Logger) ledger.Config {
	if s == nil {
		return ledger.Config{Now: time.Now, Log: log}
	}
	return ledger.Config{Now: s.Now, Log: log, PersonID: s.PersonID}
}

// history is the ledger that everything is written into.
func (s *sharing) history(ctx context.Context, book *ledger.Ledger) (deploy.Ledger, error) {
	if s == nil {
		return book, nil
	}
	return s.Ledger(ctx, book)
}

func (s *sharing) places(book *ledger.Ledger) deploy.Places {
	if s == nil {
		return book
	}
	here, err := os.Getwd()
	if err != nil { // the folder is gone
		return book
	}
	return share.Places(book, here)
}

func (s *sharing) builder(works *pipeline.Pipeline, store *depot.Depot) (deploy.Builder, error) {
	if s == nil {
		return works, nil
	}
	return s.Builder(works, store)
}

// sources are the repositories whose pushes start a deploy: none where CI does that.
func (s *sharing) sources(local deploy.Sources) deploy.Sources {
	if s == nil {
		return local
	}
	return nil
}

// run ends with an error when somebody else has taken over.
func (s *sharing) run(ctx context.Context) error {
	if s == nil {
		return nil
	}
	return s.Run(ctx)
}

// Figures of the last words of a controller in a CI job: `lotse down` follows the end of a rollout at once, and there may be no next
// controller for days that could tell of it.
const (
	lastWords = 5 * time.Second  // for looking up who is told, and for the first try
	justEnded = 30 * time.Second // a rollout that ended longer ago was told of, or is tried again anyway
)

// telling is a context for whoever tells people: it ends some seconds after ctx where a rollout has just ended.
func (s *sharing) telling(ctx context.Context, history deploy.Ledger) context.Context {
	if s == nil {
		return ctx
	}
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	context.AfterFunc(ctx, func() {
		ends, err := history.Events(longer, deploy.EventQuery{Kinds: []string{deploy.KindSettled, deploy.KindReverted}, Last: 1})
		if err != nil || len(ends) == 0 || s.Now().Sub(ends[0].At) > justEnded {
			cancel()
			return
		}
		time.AfterFunc(lastWords, cancel)
	})
	return longer
}

func (s *sharing) close(ctx context.Context) {
	if s == nil {
		return
	}
	if err := s.Close(context.WithoutCancel(ctx)); err != nil {
		s.log.Warn("the shared history was not closed", "error", err)
	}
}

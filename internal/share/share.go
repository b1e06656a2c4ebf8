package share

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

const (
	prefix = "state/"
	format = 1

	// tries is how often a call is made before it is given up: with pauses of up to 20 s, with jitter, about a minute of throttling.
	tries = 8
)

// Config says where history is shared. AWS and Bucket must be set.
type Config struct {
	AWS     aws.Config // with the region of the bucket
	Bucket  string
	Account string           // twelve digits of the account that the bucket must belong to; empty: the one of the credentials
	Who     string           // who this is, for people: the address of the CI job. No name of a person or of a machine
	People  secret.Text      // the key by which people's ids are made; empty: ids are random
	Expiry  time.Duration    // how long the lock lasts without a sign of life, default 60 s
	Wait    time.Duration    // how long another controller is waited for; 0: not at all
	Clock   func() time.Time // nil: the clock of this machine. How long something lasts is measured by that all the same
	Log     *slog.Logger     // nil logs nothing
}

// Share is the shared history, while this controller has its lock. It is safe for concurrent use.
type Share struct {
	Config
	objects
	owner string
	ahead time.Duration // of the clock of this machine

	ctx  context.Context // ends when the lock is lost or given back
	lose context.CancelCauseFunc

	end   context.CancelFunc // of the beat
	still chan struct{}      // closed when it beats no more
	mine  lock               // of the beat, once that began
	etag  string

	mu      sync.Mutex
	until   time.Time // as long as that, the lock can be relied on
	builder *Builder  // has something left to do at the end, perhaps
}

var errGivenBack = errors.New("the lock was given back")

// Open takes the lock of the shared history. It returns when this controller is the one that writes, with deploy.ErrBusy when another one
// was it all through Config.Wait. The caller calls Close.
func Open(ctx context.Context, c Config) (*Share, error) {
	if c.Bucket == "" {
		return nil, fmt.Errorf("%w: the bucket of the shared history has no name", deploy.ErrBadInput)
	}
	if c.AWS.Region == "" {
		return nil, deploy.Hint(fmt.Errorf("%w: sharing history in %s needs a region", deploy.ErrBadInput, c.Bucket), "set AWS_REGION to aws.region of lotse.yaml: eu-central-1 where that says nothing")
	}
	if c.Expiry == 0 {
		c.Expiry = time.Minute
	}
	if c.Who == "" {
		c.Who = "a controller"
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.AWS.Retryer == nil {
		c.AWS.Retryer = func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) {
				o.MaxAttempts, o.MaxBackoff, o.RateLimiter = tries, 20*time.Second, ratelimit.None
			})
		}
	}
	if c.Account == "" {
		account, err := accountOf(ctx, c.AWS)
		if err != nil {
			return nil, err
		}
		c.Account = account
	}
	s := &Share{Config: c, owner: rand.Text(), still: make(chan struct{}), objects: objects{bucket: c.Bucket, account: c.Account,
		s3: s3.NewFromConfig(c.AWS, func(o *s3.Options) { o.UsePathStyle = c.AWS.BaseEndpoint != nil })}}
	if err := s.take(ctx); err != nil {
		return nil, fmt.Errorf("sharing history in %s: %w", c.Bucket, err)
	}
	s.ctx, s.lose = context.WithCancelCause(context.WithoutCancel(ctx))
	beating, end := context.WithCancel(s.ctx)
	s.end = end
	go s.beat(beating)
	return s, nil
}

// accountOf asks whose the credentials are.
func accountOf(ctx context.Context, c aws.Config) (string, error) {
	out, err := sts.NewFromConfig(c).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", deploy.Hint(fmt.Errorf("%w: AWS does not say whose the credentials are", deploy.ErrUnavailable),
			"`aws sts get-caller-identity` says whether there are credentials; a CI job takes them by OpenID Connect, see docs/ci.md")
	}
	return aws.ToString(out.Account), nil
}

// Run returns nil when ctx or the Share ends, and deploy.ErrFenced when the lock was lost: this controller must end then.
func (s *Share) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-s.ctx.Done():
		return s.lost()
	}
}

// lost is why this controller may write no more; nil while it may, and when it has given the lock back.
func (s *Share) lost() error {
	if err := context.Cause(s.ctx); !errors.Is(err, errGivenBack) {
		return err
	}
	return nil
}

// Close finishes what was begun to be pruned, within seconds, and gives the lock back, so that the next controller need not wait. Twice is
// fine. A lock that was lost is left to whom has it.
func (s *Share) Close(ctx context.Context) error {
	if s.ctx.Err() == nil && s.builder != nil {
		s.builder.finish(ctx)
	}
	s.end()
	<-s.still
	if s.ctx.Err() != nil {
		return nil
	}
	s.mine.Free = true
	ctx, cancel := context.WithTimeout(ctx, s.Expiry)
	defer cancel()
	err := s.write(ctx, condition{etag: s.etag})
	s.lose(errGivenBack)
	if err != nil && !errors.Is(err, errLost) {
		return fmt.Errorf("the lock of the shared history was not given back, and ends by itself in %s: %w", s.Expiry, err)
	}
	return nil
}

// rely notes until when the lock is this controller's for certain. Wall clock and monotonic clock are both asked: a machine that was
// suspended has a monotonic clock that stood still.
func (s *Share) rely(until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = until
}

// holds reports whether the lock can be relied on.
func (s *Share) holds() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	return s.ctxErr() == nil && now.Before(s.until) && now.Round(0).Before(s.until.Round(0))
}

func (s *Share) ctxErr() error {
	if s.ctx == nil { // the lock was just taken
		return nil
	}
	return s.ctx.Err()
}

// relied is holds as an error.
func (s *Share) relied() error {
	if s.holds() {
		return nil
	}
	if err := context.Cause(s.ctx); err != nil && !errors.Is(err, errGivenBack) {
		return err
	}
	return fmt.Errorf("%w: this controller cannot rely on the lock of the history in %s any more", deploy.ErrFenced, s.Bucket)
}

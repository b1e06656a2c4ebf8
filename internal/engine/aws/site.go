package aws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/cloudfront"

	"github.com/lotse-eu/lotse/internal/bucket"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// Site runs one stage of an app that has files alone: S3 keeps them, and CloudFront carries them. It implements deploy.Engine and
// deploy.Ends. Package bucket says what lies where; a rollout is a release of the bucket, whose manifest has beside its files what is
// needed to find it again (siteNote).
//
// A shift goes file by file: while it lasts, and where it was broken off, pages of both releases may be seen. List then still gives the
// traffic to the release before, and whatever is said next (the shift again, another one, Stop) ends that.
//
// There is no process: settings of an order are not used, and what is baked into the files is all that they know of their stage.
type Site struct {
	e     *Engine // its configuration, stack, errors and waiting; never an environment
	edges bucket.CloudFront

	mu   sync.Mutex
	at   stack
	open *bucket.Bucket // of the stack in at
}

var (
	_ deploy.Engine = (*Site)(nil)
	_ deploy.Ends   = (*Site)(nil)
)

// parallel is how many files go at a time.
const parallel = 32

// OpenSite returns the engine of a stage whose app has files alone. Of c it needs neither Lotse nor Dir. It asks AWS nothing.
func OpenSite(c Config) (*Site, error) {
	c.Stage.AWS.Static = true
	if c.AWS.HTTPClient == nil {
		c.AWS.HTTPClient = bucket.HTTPClient(parallel)
	}
	e, err := Open(c)
	if err != nil {
		return nil, err
	}
	return &Site{e: e, edges: cloudfront.NewFromConfig(e.AWS)}, nil
}

// Facts implements deploy.Engine. A Shift returns when CloudFront has taken in what has changed.
func (s *Site) Facts() deploy.Facts {
	return deploy.Facts{Engine: "aws", Carries: "cloudfront", Switch: s.e.Timing.Switch}
}

// bucket is the stage's own, as the stack says.
func (s *Site) bucket(ctx context.Context) (*bucket.Bucket, error) {
	at, err := s.e.outputs(ctx)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil || s.at != *at {
		s.at = *at
		s.open = bucket.Open(bucket.Config{S3: s.e.api.s3, CloudFront: s.edges, Bucket: at.site, ExpectedOwner: at.account, Distribution: at.distribution,
			Parallel: parallel, Poll: s.e.Timing.Poll / 3, Now: s.e.Now, Log: s.e.Log})
	}
	return s.open, nil
}

// admitted is the bucket, after it has taken note of the fence.
func (s *Site) admitted(ctx context.Context, fence deploy.Fence) (*bucket.Bucket, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b, err := s.bucket(ctx)
	if err == nil {
		err = b.Admit(ctx, int64(fence))
	}
	return b, err
}

// changing lets one verb at a time change what is in the bucket: a file that one release does not need any more may be one that another
// relies on since a moment ago.
func (s *Site) changing(ctx context.Context) (unlock func(), err error) {
	return s.e.rollouts.lock(ctx, "")
}

func (s *Site) failed(ctx context.Context, what string, err error) error {
	return s.e.failed(ctx, what, fromBucket(err))
}

// fromBucket adds the sentinel of deploy to one of the bucket's. Its words and its hint stay.
func fromBucket(err error) error {
	for _, of := range []struct{ is, as error }{
		{bucket.ErrFenced, deploy.ErrFenced}, {bucket.ErrBusy, deploy.ErrBusy}, {bucket.ErrServing, deploy.ErrBusy}, {bucket.ErrUnknown, deploy.ErrUnknown},
		{bucket.ErrIncomplete, deploy.ErrUnhealthy}, {bucket.ErrInvalid, deploy.ErrBadInput}, {bucket.ErrClash, deploy.ErrBadInput}, {bucket.ErrDamaged, deploy.ErrDamaged},
		{bucket.ErrMissing, deploy.ErrNotFound}, {bucket.ErrDenied, deploy.ErrRefused}, {bucket.ErrUnavailable, deploy.ErrUnavailable},
	} {
		if errors.Is(err, of.is) && deploy.CodeOf(err) == "internal" {
			return fmt.Errorf("%w: %w", of.as, err)
		}
	}
	return err
}

// siteNote is what a manifest says of its rollout beside the files.
type siteNote struct {
	Release  deploy.Digest `json:"release"`
	Services []siteService `json:"services"`
}

// siteService is a service as CloudFront's function knows it.
type siteService struct {
	Name     string `json:"name"`
	Path     string `json:"path"`               // "/" or "/docs"
	Fallback string `json:"fallback,omitempty"` // path of the file from the site's root, "/docs/index.html"
}

func noteOf(r bucket.Release) (n siteNote) {
	_ = json.Unmarshal(r.About, &n) // what somebody else has put is listed without
	return n
}

// running is a rollout as List has it.
func (n siteNote) running(r bucket.Release) deploy.Running {
	out := deploy.Running{Rollout: r.ID, Release: n.Release, Since: r.Since.UTC()}
	for _, service := range n.Services {
		out.Services = append(out.Services, deploy.RunningService{Name: service.Name})
	}
	return out
}

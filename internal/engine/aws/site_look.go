package aws

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/lotse-eu/lotse/internal/bucket"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// Check implements deploy.Engine: every file of the rollout is in the bucket, and where it serves, what is served is it.
func (s *Site) Check(ctx context.Context, rollout string) error {
	b, err := s.bucket(ctx)
	if err == nil {
		err = s.check(ctx, b, rollout)
	}
	return s.failed(ctx, "check "+rollout, err)
}

func (s *Site) check(ctx context.Context, b *bucket.Bucket, rollout string) error {
	r, _, err := b.Of(ctx, rollout)
	if err != nil {
		return err
	}
	if err := s.whole(ctx, b, rollout, noteOf(r)); err != nil {
		return err
	}
	changed, err := s.drift(ctx, b, rollout)
	if err != nil || len(changed) == 0 {
		return err
	}
	return deploy.Hint(&deploy.CheckError{Service: noteOf(r).of("/" + changed[0]).Name, Cause: "is served with other files than the release has: " + some(changed)},
		"somebody has changed the bucket by hand; deploy or roll back, and it is mended")
}

// whole is nil where all files of a rollout are in the bucket.
func (s *Site) whole(ctx context.Context, b *bucket.Bucket, rollout string, note siteNote) error {
	missing, err := b.Missing(ctx, rollout)
	if errors.Is(err, bucket.ErrIncomplete) {
		return &deploy.CheckError{Service: note.first(), Cause: "was not uploaded to its end"}
	}
	if err != nil || len(missing) == 0 {
		return err
	}
	return deploy.Hint(&deploy.CheckError{Service: note.of("/" + missing[0]).Name, Cause: "misses files in the bucket: " + some(missing)},
		"somebody has deleted them; deploy again, and they are put back")
}

// some are the first of many paths.
func some(paths []string) string {
	const most = 3
	text := strings.Join(paths[:min(most, len(paths))], ", ")
	if more := len(paths) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// drift is what is served otherwise than the rollout has it; nothing while another one serves, or a shift is under way: then files of both
// are served, and nobody can say.
func (s *Site) drift(ctx context.Context, b *bucket.Bucket, rollout string) ([]string, error) {
	before, err := b.Serving(ctx)
	if err != nil || before.Release != rollout || before.Between {
		return nil, err
	}
	changed, err := b.Drift(ctx)
	if len(changed) == 0 && err == nil {
		return nil, nil
	}
	after, again := b.Serving(ctx)
	if again != nil || after.Release != rollout || after.Between || !after.Since.Equal(before.Since) {
		return nil, again
	}
	return changed, err
}

// List implements deploy.Engine. A rollout whose upload was interrupted is listed too: Start goes on with it, and Stop removes it.
func (s *Site) List(ctx context.Context) ([]deploy.Running, error) {
	all, err := s.list(ctx)
	return all, s.failed(ctx, "list", err)
}

func (s *Site) list(ctx context.Context) ([]deploy.Running, error) {
	b, err := s.bucket(ctx)
	if err != nil {
		return nil, err
	}
	releases, err := b.Releases(ctx)
	if err != nil {
		return nil, err
	}
	serving, err := b.Serving(ctx)
	if err != nil {
		return nil, err
	}
	var all []deploy.Running
	for _, r := range releases {
		one := noteOf(r).running(r)
		if r.ID == serving.Release {
			one.Share = 100
		}
		all = append(all, one)
	}
	return all, nil
}

// Reach implements deploy.Engine: it answers from the bucket, as CloudFront will.
func (s *Site) Reach(ctx context.Context, rollout string) (http.RoundTripper, error) {
	b, err := s.bucket(ctx)
	if err != nil {
		return nil, s.failed(ctx, "reach "+rollout, err)
	}
	r, index, err := b.Of(ctx, rollout)
	if err != nil {
		return nil, s.failed(ctx, "reach "+rollout, err)
	}
	return newEdge(s, b, noteOf(r), index), nil
}

package aws

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/bucket"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// Shift implements deploy.Engine. All or nothing can be given: CloudFront serves one set of pages.
func (s *Site) Shift(ctx context.Context, fence deploy.Fence, rollout string, share int) error {
	return s.failed(ctx, "shift to "+rollout, s.shift(ctx, fence, rollout, share))
}

func (s *Site) shift(ctx context.Context, fence deploy.Fence, rollout string, share int) error {
	b, err := s.admitted(ctx, fence)
	if err != nil {
		return err
	}
	r, _, err := b.Of(ctx, rollout)
	if err != nil {
		return err
	}
	if share != 0 && share != 100 {
		return fmt.Errorf("%w: a share of %d %%: what is in the bucket is served to everybody", deploy.ErrUnsupported, share)
	}
	unlock, err := s.changing(ctx)
	defer unlock()
	if err != nil {
		return err
	}
	if share == 0 {
		return s.withdraw(ctx, b, fence, rollout)
	}
	if err := s.whole(ctx, b, rollout, noteOf(r)); err != nil {
		return err
	}
	return s.serve(ctx, b, fence, rollout)
}

// serve switches to a rollout, or to nothing, and verifies it. The caller holds changing.
func (s *Site) serve(ctx context.Context, b *bucket.Bucket, fence deploy.Fence, rollout string) error {
	before, err := b.Serving(ctx)
	if err != nil {
		return err
	}
	if err := b.Serve(ctx, bucket.Target{Release: rollout, Rollout: rollout, Fence: int64(fence)}); err != nil {
		return err
	}
	if rollout != "" {
		return s.verify(ctx, b, rollout, true)
	}
	if before.Release == "" {
		return nil // nobody knows what it had
	}
	return s.verify(ctx, b, before.Release, false)
}

// withdraw gives what a rollout serves to the one before. The caller holds changing.
func (s *Site) withdraw(ctx context.Context, b *bucket.Bucket, fence deploy.Fence, rollout string) error {
	serving, err := b.Serving(ctx)
	if err != nil {
		return err
	}
	if serving.Release != rollout && (!serving.Between || serving.Next != rollout) {
		return nil
	}
	to := serving.Release
	if to == rollout {
		if to, err = s.before(ctx, b, serving); err != nil {
			return err
		}
	}
	return s.serve(ctx, b, fence, to)
}

// before is the rollout that has served last among those that are whole and do not serve now, "" for none.
func (s *Site) before(ctx context.Context, b *bucket.Bucket, serving bucket.Serving) (string, error) {
	all, err := b.Releases(ctx)
	if err != nil {
		return "", err
	}
	found, last := "", time.Time{}
	for _, r := range all {
		at, served := serving.Last[r.ID]
		if r.ID == serving.Release || !served || !at.After(last) {
			continue
		}
		missing, err := b.Missing(ctx, r.ID)
		if err != nil && !errors.Is(err, bucket.ErrIncomplete) {
			return "", err
		}
		if err == nil && len(missing) == 0 {
			found, last = r.ID, at
		}
	}
	return found, nil
}

// verify asks the stage's host, as everybody does, until the first page of the rollout is answered, or is not where it serves no more.
func (s *Site) verify(ctx context.Context, b *bucket.Bucket, rollout string, serves bool) error {
	r, index, err := b.Of(ctx, rollout)
	if err != nil {
		return err
	}
	uri, digest := frontPage(noteOf(r), index)
	if uri == "" {
		return nil // nothing but files that never change: they answer before and after
	}
	got := ""
	err = s.e.await(ctx, s.e.Timing.Switch+s.e.Timing.Settle, "the release that was shifted to", func(ctx context.Context) (bool, error) {
		var err error
		got, err = s.ask(ctx, uri)
		return (got == digest) == serves, err
	})
	if err != nil && ctx.Err() == nil && errors.Is(err, deploy.ErrUnavailable) {
		return deploy.Hint(fmt.Errorf("%w; %s%s answers with other bytes than it ought to (%s)", err, s.e.host, uri, got[:min(19, len(got))]),
			"look whether the name "+s.e.host+" leads to the distribution of the stage")
	}
	return err
}

// frontPage is a page of the release under which people come in, and its digest; "" where it has none.
func frontPage(note siteNote, index []bucket.File) (uri, digest string) {
	for _, service := range note.Services {
		root := strings.TrimSuffix(service.Path, "/") + "/"
		for _, f := range index {
			if "/"+f.Path == root+"index.html" && !f.Immutable {
				return root, f.Digest
			}
		}
	}
	i := slices.IndexFunc(index, func(f bucket.File) bool { return !f.Immutable })
	if i < 0 {
		return "", ""
	}
	return escapedPath(index[i].Path), index[i].Digest
}

// ask is the digest of what the stage's host answers, or how it refuses.
func (s *Site) ask(ctx context.Context, uri string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.e.Timing.Command)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.e.host+uri, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := s.e.client(s.e.host, "").RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("%w: a request to %s: %s", deploy.ErrUnavailable, s.e.host, plain(err))
	}
	defer resp.Body.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, resp.Body); err != nil {
		return "", fmt.Errorf("%w: an answer of %s was cut off", deploy.ErrUnavailable, s.e.host)
	}
	if resp.StatusCode != http.StatusOK {
		return resp.Status, nil
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

// Stop implements deploy.Engine. Nothing has to drain: S3 answers from what a request has found, whatever is deleted meanwhile; and files that
// never change stay for tabs that were opened before.
func (s *Site) Stop(ctx context.Context, fence deploy.Fence, rollout string, _ time.Duration) error {
	return s.failed(ctx, "stop "+rollout, s.stop(ctx, fence, rollout))
}

func (s *Site) stop(ctx context.Context, fence deploy.Fence, rollout string) error {
	b, err := s.admitted(ctx, fence)
	if err != nil {
		return err
	}
	s.e.abort(rollout)
	unlock, err := s.e.rollouts.lock(ctx, rollout)
	defer unlock()
	if err != nil {
		return err
	}
	free, err := s.changing(ctx)
	defer free()
	if err != nil {
		return err
	}
	if err := s.withdraw(ctx, b, fence, rollout); err != nil {
		return err
	}
	return b.Remove(ctx, int64(fence), rollout)
}

// End implements deploy.Ends: nothing is served any more. The bucket and the distribution are the stack's, and stay.
func (s *Site) End(ctx context.Context, fence deploy.Fence) error {
	return s.failed(ctx, "end", s.end(ctx, fence))
}

func (s *Site) end(ctx context.Context, fence deploy.Fence) error {
	b, err := s.admitted(ctx, fence)
	if err != nil {
		return err
	}
	unlock, err := s.changing(ctx)
	defer unlock()
	if err != nil {
		return err
	}
	serving, err := b.Serving(ctx)
	if err != nil || serving.Release == "" && !serving.Between {
		return err
	}
	return s.serve(ctx, b, fence, "")
}

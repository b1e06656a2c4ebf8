package bucket

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront/types"
)

// maxPaths is how many paths are named one by one. CloudFront takes 3,000 at a time for a distribution, and a thousand each month are
// free (CloudFront Developer Guide, "Quotas" and "Paying for file invalidation"); /* counts as one.
const maxPaths = 1000

// invalidate tells CloudFront of served files that have changed and waits until all of its places know. The reference makes a call that
// is repeated after a kill the same invalidation.
func (b *Bucket) invalidate(ctx context.Context, of string, files []string) error {
	paths := addresses(files)
	if b.c.Distribution == "" || len(paths) == 0 {
		return nil
	}
	if len(paths) > maxPaths {
		paths = []string{"/*"}
	}
	sum := sha256.Sum256([]byte(of + "\n" + strings.Join(paths, "\n")))
	in := &cloudfront.CreateInvalidationInput{DistributionId: &b.c.Distribution, InvalidationBatch: &types.InvalidationBatch{
		CallerReference: aws.String("lotse-" + hex.EncodeToString(sum[:16])),
		Paths:           &types.Paths{Quantity: aws.Int32(int32(len(paths))), Items: paths},
	}}
	wait := b.c.Poll
	for {
		out, err := b.c.CloudFront.CreateInvalidation(ctx, in, patiently)
		if err == nil {
			return b.await(ctx, out.Invalidation)
		}
		if _, busy := errors.AsType[*types.TooManyInvalidationsInProgress](err); !busy {
			return b.failed(ctx, "cloudfront:CreateInvalidation", b.c.Distribution, err)
		}
		if wait, err = pause(ctx, wait); err != nil {
			return fmt.Errorf("cloudfront:CreateInvalidation of %s: %w", b.c.Distribution, err)
		}
	}
}

func patiently(o *cloudfront.Options) { o.RetryMaxAttempts = attempts }

// await waits for "Completed", which some emulators write in capitals.
func (b *Bucket) await(ctx context.Context, i *types.Invalidation) error {
	wait := b.c.Poll
	for i == nil || !strings.EqualFold(aws.ToString(i.Status), "Completed") {
		if i == nil || i.Id == nil {
			return fmt.Errorf("%w: cloudfront:CreateInvalidation of %s: an answer without an id", ErrUnavailable, b.c.Distribution)
		}
		var err error
		if wait, err = pause(ctx, wait); err != nil {
			return fmt.Errorf("invalidation %s: %w", *i.Id, err)
		}
		out, err := b.c.CloudFront.GetInvalidation(ctx, &cloudfront.GetInvalidationInput{DistributionId: &b.c.Distribution, Id: i.Id}, patiently)
		if err != nil {
			return b.failed(ctx, "cloudfront:GetInvalidation", b.c.Distribution, err)
		}
		i = out.Invalidation
	}
	return nil
}

// pause waits, and returns how long to wait the next time.
func pause(ctx context.Context, wait time.Duration) (time.Duration, error) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return min(wait*3/2, longestPoll), nil
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// addresses are the paths under which browsers ask for files. A page has several, and where a function at the edge rewrites one to
// another, CloudFront has to be told of both (CloudFront Developer Guide, "Invalidate files").
func addresses(files []string) []string {
	var all []string
	for _, file := range files {
		all = append(all, escaped(file))
		if dir, is := strings.CutSuffix("/"+file, "/index.html"); is {
			all = append(all, escaped(dir[min(1, len(dir)):]+"/"))
			if dir != "" {
				all = append(all, escaped(dir[1:]))
			}
		} else if page, is := strings.CutSuffix(file, ".html"); is {
			all = append(all, escaped(page))
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(all)))
}

func escaped(file string) string {
	return (&url.URL{Path: "/" + strings.TrimPrefix(file, "/")}).EscapedPath()
}

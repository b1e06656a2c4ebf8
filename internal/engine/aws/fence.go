package aws

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// state is what lasts of a stage. It is replaced whole, on the condition that nobody else has done so since it was read: S3 then answers
// 412, and it is read again. So a smaller fence can never follow a greater one.
type state struct {
	Format int       `json:"format"`
	Fence  int64     `json:"fence"`
	Last   string    `json:"last,omitempty"` // rollout that had traffic before those that have it now
	At     time.Time `json:"at,omitzero"`    // when it lost its traffic
	Up     []string  `json:"up,omitempty"`   // rollouts whose start has succeeded: what is wrong with them later is no reason to remove them
}

const stateFormat = 1

func (e *Engine) stateKey() string { return "stages/" + e.Stage.Name + "/fence.json" }

// admit refuses a fence that is smaller than one that was seen, by whatever process; a greater one it keeps.
func (e *Engine) admit(ctx context.Context, fence deploy.Fence) error {
	return e.change(ctx, fence, func(*state) {})
}

// change does something to the state under a fence.
func (e *Engine) change(ctx context.Context, fence deploy.Fence, do func(*state)) error {
	const most = 30 // as many others may be at it at once
	for try := 0; ; try++ {
		was, tag, err := e.readState(ctx)
		if err != nil {
			return err
		}
		if int64(fence) < was.Fence {
			return fmt.Errorf("%w: its fence is %d, this one is %d", deploy.ErrFenced, was.Fence, fence)
		}
		now := was
		now.Up = slices.Clone(was.Up)
		now.Format, now.Fence = stateFormat, int64(fence)
		do(&now)
		if tag != "" && now.Fence == was.Fence && now.Last == was.Last && now.At.Equal(was.At) && slices.Equal(now.Up, was.Up) {
			return nil
		}
		err = e.writeState(ctx, now, tag)
		if err == nil || try == most || !coded(err, "PreconditionFailed", "ConditionalRequestConflict") {
			return err
		}
		select {
		case <-time.After(e.Timing.Poll / 10):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// readState returns the state and the tag of its bytes, "" where there is none yet.
func (e *Engine) readState(ctx context.Context) (state, string, error) {
	var s state
	at, err := e.outputs(ctx)
	if err != nil {
		return s, "", err
	}
	ctx, cancel := e.answering(ctx)
	defer cancel()
	out, err := e.api.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &at.releases, Key: sdk.String(e.stateKey()), ExpectedBucketOwner: &at.account})
	if coded(err, "NoSuchKey") {
		return s, "", nil
	}
	if err != nil {
		return s, "", inTime(ctx, err)
	}
	defer out.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(out.Body, 1<<20))
	if err != nil {
		return s, "", fmt.Errorf("%w: the state of the stage was cut off", deploy.ErrUnavailable)
	}
	if err := json.Unmarshal(raw, &s); err != nil || s.Format > stateFormat {
		return s, "", deploy.Hint(fmt.Errorf("%w: %s in the bucket %s is of another version of Lotse, or no state at all", deploy.ErrDamaged, e.stateKey(), at.releases),
			"use the newest Lotse; the bucket keeps earlier versions of the object")
	}
	return s, sdk.ToString(out.ETag), nil
}

func (e *Engine) writeState(ctx context.Context, s state, tag string) error {
	at, err := e.outputs(ctx)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return err
	}
	put := &s3.PutObjectInput{Bucket: &at.releases, Key: sdk.String(e.stateKey()), Body: bytes.NewReader(raw), ContentType: sdk.String("application/json"),
		ExpectedBucketOwner: &at.account, IfMatch: &tag}
	if tag == "" {
		put.IfMatch, put.IfNoneMatch = nil, sdk.String("*")
	}
	ctx, cancel := e.answering(ctx)
	defer cancel()
	_, err = e.api.s3.PutObject(ctx, put)
	return inTime(ctx, err)
}

// inTime is err, or why ctx has ended where that was why.
func inTime(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// answering bounds what is done with an object as small as the state.
func (e *Engine) answering(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, e.Timing.Answer, fmt.Errorf("%w: S3 did not answer within %s", deploy.ErrUnavailable, e.Timing.Answer))
}

// up notes that a rollout has started, or is not there any more.
func (e *Engine) up(ctx context.Context, fence deploy.Fence, rollout string, is bool) error {
	return e.change(ctx, fence, func(s *state) {
		s.Up = slices.DeleteFunc(s.Up, func(id string) bool { return id == rollout })
		if is {
			s.Up = append(s.Up, rollout)
		} else if s.Last == rollout {
			s.Last = ""
		}
	})
}

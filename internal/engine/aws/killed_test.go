package aws_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/aws"
)

// voyage is a deploy of "two" beside "one", and the end of "one".
func (c *cloud) voyage(ctx context.Context, e *aws.Engine, o deploy.Order, fence deploy.Fence) error {
	if err := e.Start(ctx, fence, o); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if err := e.Shift(ctx, fence, "two", 100); err != nil {
		return fmt.Errorf("shift: %w", err)
	}
	if err := e.Stop(ctx, fence, "one", 100*time.Millisecond); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

// A controller is killed at a call, whether or not the platform has carried it out: one release serves at every moment, a fresh
// controller finds what is there, ends the deploy, and nothing is left over. `make prove` (LOTSE_PROVE=1) kills it at
// every call, otherwise at some, beginning elsewhere each time.
func TestKilledAtEveryCall(t *testing.T) {
	t.Parallel()
	for _, balancer := range []string{deploy.AWSShared, deploy.AWSOwn} {
		t.Run(balancer, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t, balancer, options())
			calls := c.countVoyage(t)
			t.Logf("a deploy beside a running release, with its end: %d calls", calls)
			prove := os.Getenv("LOTSE_PROVE") != ""
			step := calls / 4
			if prove {
				step = 1
			}
			for at := int(time.Now().UnixNano()) % step; at < calls && !t.Failed(); at += step {
				c.killedAt(t, at, at%2 == 0)
				if prove {
					c.killedAt(t, at, at%2 != 0)
				}
			}
		})
	}
}

// countVoyage is how many calls a voyage makes. Afterwards the stage is empty.
func (c *cloud) countVoyage(t *testing.T) int {
	t.Helper()
	e := c.open(t, c.stages[0])
	c.up(t, e, 1, "one")
	c.shift(t, e, 1, "one", 100)
	c.w.ForgetCalls()
	o := deploy.Order{Rollout: "two", Release: c.release(t, "two", web("good", 1)), Stage: c.stages[0]}
	if err := c.voyage(within(t, patience), c.open(t, c.stages[0]), o, 1); err != nil {
		t.Fatal(err)
	}
	calls := len(c.w.Calls())
	if err := e.Stop(within(t, patience), 1, "two", 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	return calls
}

// dying is a controller's way to AWS that is cut for ever at one call.
type dying struct {
	next  sdk.HTTPClient
	after chan struct{} // one for each call that comes through
	done  bool          // the last one is carried out
	die   context.CancelFunc
}

var errDead = errors.New("the controller is dead")

// Do implements sdk.HTTPClient.
func (d dying) Do(r *http.Request) (*http.Response, error) {
	select {
	case <-d.after:
		return d.next.Do(r)
	default:
	}
	if d.done {
		if resp, err := d.next.Do(r.WithContext(context.WithoutCancel(r.Context()))); err == nil {
			resp.Body.Close()
		}
	}
	d.die()
	<-r.Context().Done()
	return nil, errDead
}

func (c *cloud) killedAt(t *testing.T, at int, done bool) {
	t.Helper()
	when := fmt.Sprintf("killed at call %d (carried out: %v)", at, done)
	e := c.open(t, c.stages[0])
	one := c.up(t, e, 1, "one")
	c.shift(t, e, 1, "one", 100)
	o := deploy.Order{Rollout: "two", Release: c.release(t, "two", web("good", 1)), Stage: c.stages[0]}

	ctx, cancel := context.WithCancel(within(t, patience))
	config := c.config(c.stages[0])
	after := make(chan struct{}, at)
	for range at {
		after <- struct{}{}
	}
	config.AWS.HTTPClient = dying{config.AWS.HTTPClient, after, done, cancel}
	config.AWS.Retryer = func() sdk.Retryer { return sdk.NopRetryer{} }
	config.Timing.Undo = 10 * time.Millisecond // the dead undo nothing
	dead, err := aws.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.voyage(ctx, dead, o, 2)
	cancel()

	both := []string{one.Release.ID.Short(), o.Release.ID.Short()}
	if got := c.serves(t); !slices.Contains(both, got) {
		t.Errorf("%s: %q serves", when, got)
	}
	fresh := c.open(t, c.stages[0])
	shares := c.listed(t)
	if sum := shares["one"] + shares["two"]; sum != 100 {
		t.Errorf("%s: shares %v", when, shares)
	}
	if shares["two"] == 0 { // by rule: nothing has moved, so it goes back
		if err := fresh.Stop(within(t, patience), 3, "two", 100*time.Millisecond); err != nil {
			t.Errorf("%s: stop two: %v", when, err)
		}
		c.clean(t, "one")
	}
	if err := c.voyage(within(t, patience), fresh, o, 3); err != nil {
		t.Errorf("%s: go on: %v\n%s", when, err, c.log)
	}
	c.clean(t, "two")
	if got := c.serves(t); got != o.Release.ID.Short() {
		t.Errorf("%s: at the end %q serves", when, got)
	}
	if err := fresh.Stop(within(t, patience), 3, "two", 100*time.Millisecond); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
	// The next one begins with fence 1.
	if _, err := s3.NewFromConfig(c.account, func(o *s3.Options) { o.UsePathStyle = true }).DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: sdk.String(bucket), Key: sdk.String("stages/dev/fence.json")}); err != nil {
		t.Fatal(err)
	}
}

// What a deploy costs in calls, by action; every one of them is on the list that policies are made of.
func TestCallsOfADeploy(t *testing.T) {
	t.Parallel()
	for _, balancer := range []string{deploy.AWSShared, deploy.AWSOwn} {
		c := newCloud(t, balancer, options())
		e := c.open(t, c.stages[0])
		c.up(t, e, 1, "one")
		c.shift(t, e, 1, "one", 100)
		c.w.ForgetCalls()
		o := deploy.Order{Rollout: "two", Release: c.release(t, "two", web("good", 1)), Stage: c.stages[0]}
		if err := c.voyage(within(t, patience), e, o, 1); err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		for _, call := range c.w.Calls() {
			count[call.Service+":"+call.Action]++
		}
		t.Logf("%s: %d calls: %v", balancer, len(c.w.Calls()), count)
		var known []string
		for _, a := range aws.Actions() {
			known = append(known, a.String())
		}
		for action := range count {
			if !slices.Contains(append(known, "s3:HeadObject"), action) {
				t.Errorf("%s is on no list", action)
			}
		}
	}
}

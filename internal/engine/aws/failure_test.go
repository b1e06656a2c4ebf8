package aws_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	eb "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk"
	ebtypes "github.com/aws/aws-sdk-go-v2/service/elasticbeanstalk/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/secret"
)

const patience = 2 * time.Minute // the machine that runs this may be busy

// up brings a rollout of a good release up.
func (c *cloud) up(t *testing.T, e *aws.Engine, fence deploy.Fence, id string) deploy.Order {
	t.Helper()
	o := deploy.Order{Rollout: id, Release: c.release(t, id, web("good", 1)), Stage: c.stages[0]}
	if err := e.Start(within(t, patience), fence, o); err != nil {
		t.Fatalf("start %s: %v\n%s", id, err, c.log)
	}
	return o
}

func (c *cloud) shift(t *testing.T, e *aws.Engine, fence deploy.Fence, id string, share int) {
	t.Helper()
	if err := e.Shift(within(t, patience), fence, id, share); err != nil {
		t.Fatalf("shift to %s: %v", id, err)
	}
}

// serves is the release that answers at the stage's host, as the front says it, "" for none.
func (c *cloud) serves(t *testing.T) string {
	t.Helper()
	tr := &http.Transport{DialContext: c.w.Dialer(), TLSClientConfig: c.w.TLS(), DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(within(t, 20*time.Second), http.MethodGet, c.stages[0].URL+"/get", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.Header.Get("Lotse-Release")
}

// listed are the rollouts of the first stage with their shares, as a fresh process sees them.
func (c *cloud) listed(t *testing.T) map[string]int {
	t.Helper()
	all, err := c.open(t, c.stages[0]).List(within(t, patience))
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	shares := map[string]int{}
	for _, r := range all {
		shares[r.Rollout] = r.Share
	}
	return shares
}

// clean fails unless nothing but these rollouts is on the first stage.
func (c *cloud) clean(t *testing.T, want ...string) {
	t.Helper()
	var running []deploy.Running
	shares := c.listed(t)
	for _, id := range want {
		if _, there := shares[id]; !there {
			t.Errorf("%s is not listed", id)
		}
		running = append(running, deploy.Running{Rollout: id})
	}
	if len(shares) != len(want) {
		t.Errorf("the stage has %v, want %v", shares, want)
	}
	if left := c.leftovers(t, c.stages[0], running); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
}

// A platform that asks for fewer calls gets fewer, and the deploy goes on.
func TestThrottledEverywhere(t *testing.T) {
	t.Parallel()
	c := newCloud(t, deploy.AWSShared, options())
	for _, a := range aws.Actions() {
		c.w.Inject(awsfake.Throttled(a.Service, a.Name, 2)) // the third try of the SDK succeeds
	}
	e := c.open(t, c.stages[0])
	o := c.up(t, e, 1, "one")
	c.shift(t, e, 1, "one", 100)
	if got := c.serves(t); got != o.Release.ID.Short() {
		t.Errorf("%q serves", got)
	}
	if err := e.Stop(within(t, patience), 1, "one", 100*time.Millisecond); err != nil {
		t.Errorf("stop: %v", err)
	}
	c.clean(t)
	struck := 0
	for _, call := range c.w.Calls() {
		if call.Err == "Throttling" {
			struck++
		}
	}
	if struck < 20 {
		t.Errorf("only %d calls were throttled", struck)
	}
}

// A launch that the platform itself calls failed, or that ends Ready and Red, is a release that cannot start. It says why, and nothing
// is left.
func TestReadyAndRed(t *testing.T) {
	t.Parallel()
	for name, c2 := range map[string]struct {
		trouble awsfake.Trouble
		wants   []string
	}{
		"red":    {awsfake.Trouble{Red: true}, []string{"Elastic Beanstalk says Red"}},
		"failed": {awsfake.Trouble{LaunchFails: true}, []string{"Failed to deploy application."}},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCloud(t, deploy.AWSShared, options())
			e := c.open(t, c.stages[0])
			old := c.up(t, e, 1, "old")
			c.shift(t, e, 1, "old", 100)
			c.w.Trouble(c2.trouble)
			err := e.Start(within(t, patience), 1, deploy.Order{Rollout: "new", Release: c.release(t, "new", web("good", 1)), Stage: c.stages[0]})
			failed, ok := errors.AsType[*deploy.StartError](err)
			if !ok {
				t.Fatalf("%v, want a StartError", err)
			}
			for _, want := range c2.wants {
				if !strings.Contains(failed.Cause, want) {
					t.Errorf("it does not say %q: %s", want, failed.Cause)
				}
			}
			if failed.Service != "web" {
				t.Errorf("the service is %q", failed.Service)
			}
			c.clean(t, "old")
			if got := c.serves(t); got != old.Release.ID.Short() {
				t.Errorf("%q serves", got)
			}
		})
	}
}

// A migration that fails on the instances is said to be one, with what it said.
func TestMigrationFails(t *testing.T) {
	c := newCloud(t, deploy.AWSShared, options())
	e := c.open(t, c.stages[0])
	o := deploy.Order{Rollout: "new", Release: c.release(t, "new", web("good", 1)), Stage: c.stages[0],
		Settings: []deploy.Setting{{Name: deploy.DatabaseURL, Value: secret.New("postgres://lotse:hunter2-correct@127.0.0.1:1/app?connect_timeout=1")}}}
	o.Stage.Database = deploy.Database{Postgres: 17, Migrations: "db"}
	err := e.Start(within(t, patience), 1, o)
	if !errors.Is(err, deploy.ErrMigration) || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
	c.clean(t)
}

// While somebody else is at an environment, it refuses; Stop waits and goes on.
func TestMustBeReady(t *testing.T) {
	t.Parallel()
	c := newCloud(t, deploy.AWSShared, options())
	e := c.open(t, c.stages[0])
	c.up(t, e, 1, "one")
	c.w.Trouble(awsfake.Trouble{Slower: time.Second})
	_, err := eb.NewFromConfig(c.account).UpdateEnvironment(t.Context(), &eb.UpdateEnvironmentInput{EnvironmentName: sdk.String(aws.EnvironmentName(e, "one")),
		OptionSettings: []ebtypes.ConfigurationOptionSetting{{Namespace: sdk.String("aws:elasticbeanstalk:command"), OptionName: sdk.String("Timeout"), Value: sdk.String("400")}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Check(within(t, patience), "one"); !errors.Is(err, deploy.ErrUnhealthy) || !strings.Contains(err.Error(), "Updating") {
		t.Errorf("check meanwhile: %v", err)
	}
	if err := e.Stop(within(t, patience), 1, "one", 100*time.Millisecond); err != nil {
		t.Errorf("stop: %v", err)
	}
	c.clean(t)
}

// An environment to which somebody has deployed something else by hand is not given traffic.
func TestChangedByHand(t *testing.T) {
	t.Parallel()
	c := newCloud(t, deploy.AWSShared, options())
	e := c.open(t, c.stages[0])
	c.up(t, e, 1, "one")
	c.up(t, e, 1, "two")
	client := eb.NewFromConfig(c.account)
	if _, err := client.UpdateEnvironment(t.Context(), &eb.UpdateEnvironmentInput{EnvironmentName: sdk.String(aws.EnvironmentName(e, "two")), VersionLabel: sdk.String("dev-one")}); err != nil {
		t.Fatal(err)
	}
	mustSay(t, e.Shift(within(t, patience), 1, "two", 100), deploy.ErrUnhealthy, "by hand", "dev-one")
	if shares := c.listed(t); shares["two"] != 0 {
		t.Errorf("shares %v", shares)
	}
}

// Descriptions that lag behind what was done delay a deploy, and do not confuse it.
func TestEventualConsistency(t *testing.T) {
	t.Parallel()
	for _, balancer := range []string{deploy.AWSShared, deploy.AWSOwn} {
		t.Run(balancer, func(t *testing.T) {
			o := options()
			o.Lag = 300 * time.Millisecond
			c := newCloud(t, balancer, o)
			e := c.open(t, c.stages[0])
			c.up(t, e, 1, "one")
			c.shift(t, e, 1, "one", 100)
			two := c.up(t, e, 1, "two")
			c.shift(t, e, 1, "two", 100)
			if got := c.serves(t); got != two.Release.ID.Short() {
				t.Errorf("%q serves", got)
			}
			if err := e.Stop(within(t, patience), 1, "one", 100*time.Millisecond); err != nil {
				t.Errorf("stop: %v", err)
			}
			c.w.SetLag(0)
			c.clean(t, "two")
		})
	}
}

// A swap that the platform accepts and that fails later leaves the old release serving, and says so; the next try succeeds. One of which
// it never tells is seen by its result.
func TestSwaps(t *testing.T) {
	t.Parallel()
	c := newCloud(t, deploy.AWSOwn, options())
	e := c.open(t, c.stages[0])
	one := c.up(t, e, 1, "one")
	c.shift(t, e, 1, "one", 100)
	two := c.up(t, e, 1, "two")
	c.w.Trouble(awsfake.Trouble{SwapFails: true})
	err := e.Shift(within(t, patience), 1, "two", 100)
	mustSay(t, err, deploy.ErrRefused, "SwapEnvironmentCNAMEs", "failed")
	if shares := c.listed(t); shares["one"] != 100 || shares["two"] != 0 {
		t.Errorf("shares %v", shares)
	}
	if got := c.serves(t); got != one.Release.ID.Short() {
		t.Errorf("%q serves", got)
	}
	c.w.Trouble(awsfake.Trouble{NoEvent: "Completed swapping", Times: -1})
	c.shift(t, e, 1, "two", 100)
	if shares := c.listed(t); shares["two"] != 100 {
		t.Errorf("shares %v", shares)
	}
	if got := c.serves(t); got != two.Release.ID.Short() {
		t.Errorf("%q serves", got)
	}
}

// The stage's name is never free: not before the first shift, and not after the last stop.
func TestTheNameIsKept(t *testing.T) {
	t.Parallel()
	c := newCloud(t, deploy.AWSOwn, options())
	e := c.open(t, c.stages[0])
	client := eb.NewFromConfig(c.account)
	free := func(when string) {
		t.Helper()
		out, err := client.CheckDNSAvailability(t.Context(), &eb.CheckDNSAvailabilityInput{CNAMEPrefix: sdk.String("shop-dev")})
		if err != nil || *out.Available {
			t.Errorf("%s anybody may take the name (%v)", when, err)
		}
	}
	c.up(t, e, 1, "one")
	free("after the first start")
	// The parking environment takes its time to go, and is wanted again before it is gone.
	c.w.Trouble(awsfake.Trouble{Environment: "shop-dev-parking", Slower: 3 * time.Second})
	c.shift(t, e, 1, "one", 100)
	free("after the first shift")
	if err := e.Stop(within(t, patience), 1, "one", 100*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	free("after the last stop")
	c.clean(t)
}

// Somebody else has the name: that is said before anything is launched.
func TestTheNameIsTaken(t *testing.T) {
	c := newCloud(t, deploy.AWSOwn, awsfake.Options{})
	c.lotse = "stack_test.go"
	client := eb.NewFromConfig(c.account)
	platforms, err := client.ListAvailableSolutionStacks(t.Context(), &eb.ListAvailableSolutionStacksInput{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateEnvironment(t.Context(), &eb.CreateEnvironmentInput{ApplicationName: sdk.String("shop"), SolutionStackName: &platforms.SolutionStacks[0],
		EnvironmentName: sdk.String("somebody"), CNAMEPrefix: sdk.String("shop-dev")}); err != nil {
		t.Fatal(err)
	}
	mustSay(t, c.start(t, c.stages[0], "r1"), deploy.ErrRefused, "shop-dev", "another name")
}

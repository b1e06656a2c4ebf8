package infra

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// Credentials that expire and a network that is lost in the middle: what AWS is at goes on, and so does the second apply.
func TestLostInTheMiddle(t *testing.T) {
	for name, fault := range map[string]awsfake.Fault{"expired": awsfake.Expired("cloudformation"), "no network": {Service: "cloudformation", Drop: true, Times: -1}} {
		t.Run(name, func(t *testing.T) {
			w := awsfake.Open(t, awsfake.Options{})
			held := make(chan struct{})
			w.StackTrouble(awsfake.StackTrouble{Resource: "ProdDatabase", Hold: held})
			c, app := cloudOf(w), appOf(t, parcels)
			_, err := c.Apply(bounded(t), app, nil, func(line string) {
				if strings.HasPrefix(line, "ProdDatabase ") {
					w.Inject(fault)
				}
			})
			fails(t, err, deploy.ErrUnavailable, "AWS goes on with the stack lotse-parcels without Lotse", "it goes on where this one ended")
			w.Heal()
			var said []string
			again := make(chan error, 1)
			go func() {
				_, err := c.Apply(bounded(t), app, nil, func(line string) { said = append(said, line) })
				again <- err
			}()
			close(held)
			if err := <-again; err != nil || len(said) == 0 {
				t.Errorf("%v\n%s\n%s", err, deploy.HintOf(err), strings.Join(said, "\n"))
			}
		})
	}
}

// Throttling for a while is nothing that anybody hears of.
func TestThrottlingPasses(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	for _, action := range []string{"CreateChangeSet", "DescribeChangeSet", "ExecuteChangeSet", "DescribeStackEvents", "SetStackPolicy", "UpdateTerminationProtection"} {
		w.Inject(awsfake.Throttled("cloudformation", action, 5))
	}
	if _, err := cloudOf(w).Apply(bounded(t), appOf(t, parcels), nil, func(string) {}); err != nil {
		t.Errorf("%v\n%s", err, deploy.HintOf(err))
	}
}

func TestCancelLeavesNothing(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{Stack: time.Hour}) // the change set is never worked out
	ctx, cancel := context.WithCancel(bounded(t))
	go func() {
		for len(leftovers(t, w, home, parcelStack)) == 0 && ctx.Err() == nil {
			<-time.After(time.Millisecond)
		}
		cancel()
	}()
	_, err := cloudOf(w).Plan(ctx, appOf(t, parcels))
	fails(t, err, context.Canceled)
	if s := stackOf(t, w, home, parcelStack); s != nil {
		t.Errorf("the plan has left a stack in %s, with %v", s.StackStatus, leftovers(t, w, home, parcelStack))
	}
}

// The first resource that failed is named, with its reason, and how to go on.
func TestCreationFails(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	w.StackTrouble(awsfake.StackTrouble{Resource: "ProdDatabase", Reason: "User: arn:aws:sts::123456789012:assumed-role/D/anna@parcels.eu is not authorized to perform: rds:CreateDBInstance on resource: arn:aws:rds:eu-central-1:123456789012:db:x because no identity-based policy allows it"})
	_, err := cloudOf(w).Apply(bounded(t), appOf(t, parcels), nil, func(string) {})
	fails(t, err, deploy.ErrRefused, "ProdDatabase (AWS::RDS::DBInstance) could not be made", "may not rds:CreateDBInstance", `"Action": "rds:CreateDBInstance"`, "delete-stack --stack-name lotse-parcels")
	if strings.Contains(err.Error()+deploy.HintOf(err), "anna") {
		t.Errorf("a person is named: %v", err)
	}
	// The database of dev was made before, and is protected.
	again := []string{"ROLLBACK_FAILED", "What had failed first: ProdDatabase", "what is left: DevDatabase", "modify-db-instance --no-deletion-protection --db-instance-identifier " + w.Physical(home, parcelStack, "DevDatabase"), "no-enable-termination-protection"}
	_, err = cloudOf(w).Apply(bounded(t), appOf(t, parcels), nil, func(string) {})
	fails(t, err, deploy.ErrRefused, again...)
}

// Where nothing is in the way, a creation that failed holds nothing.
func TestCreationFailsEarly(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	w.StackTrouble(awsfake.StackTrouble{Resource: "Certificate", Reason: "no"})
	_, err := cloudOf(w).Apply(bounded(t), appOf(t, parcels), nil, func(string) {})
	fails(t, err, deploy.ErrRefused, "Certificate (AWS::CertificateManager::Certificate) could not be made: no", "ended in ROLLBACK_COMPLETE", "it holds nothing")
	if kept := w.Kept(); len(kept) > 0 {
		t.Errorf("kept is %v: the second apply would meet them", kept)
	}
	_, err = cloudOf(w).Apply(bounded(t), appOf(t, parcels), nil, func(string) {})
	fails(t, err, deploy.ErrRefused, "ROLLBACK_COMPLETE", "Certificate: no", "no-enable-termination-protection", "delete-stack")
}

func TestUpdateFails(t *testing.T) {
	w, c := applied(t, parcels)
	w.StackTrouble(awsfake.StackTrouble{Resource: "ProdDatabase", Reason: "the class is not to be had"})
	bigger := strings.Replace(parcels, `account: "123456789012"`, `account: "123456789012", database: db.t4g.small`, 1)
	var said []string
	_, err := c.Apply(bounded(t), appOf(t, bigger), nil, func(line string) { said = append(said, line) })
	fails(t, err, deploy.ErrRefused, "ProdDatabase (AWS::RDS::DBInstance) could not be changed: the class is not to be had", "the stack is what it was before")
	if !slices.Contains(said, "ProdDatabase could not be changed: the class is not to be had") {
		t.Errorf("said was\n%s", strings.Join(said, "\n"))
	}
	if _, err := c.Apply(bounded(t), appOf(t, bigger), nil, func(string) {}); err != nil {
		t.Errorf("the second time: %v", err)
	}
}

// A change set that somebody else has made useless is busy, not a fault.
func TestChangeSetExpires(t *testing.T) {
	w, c := applied(t, parcels)
	w.Inject(awsfake.Fault{Service: "cloudformation", Action: "ExecuteChangeSet", Code: "ChangeSetNotFound", Message: "ChangeSet [x] does not exist", HTTP: 404})
	bigger := strings.Replace(parcels, `account: "123456789012"`, `account: "123456789012", database: db.t4g.small`, 1)
	_, err := c.Apply(bounded(t), appOf(t, bigger), nil, func(string) {})
	fails(t, err, deploy.ErrBusy, "holds no longer", "apply again")
}

// A change set is not left by somebody who was killed for ever.
func TestStaleChangeSetsAreSwept(t *testing.T) {
	w, c := applied(t, parcels)
	name, api := "lotse-killed", cloudformation.NewFromConfig(w.Config(home))
	if _, err := api.CreateChangeSet(t.Context(), &cloudformation.CreateChangeSetInput{StackName: aws.String(parcelStack), ChangeSetName: &name, TemplateBody: aws.String("Resources: { A: { Type: AWS::SNS::Topic } }")}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Plan(bounded(t), appOf(t, parcels)); err != nil || !slices.Equal(leftovers(t, w, home, parcelStack), []string{name}) {
		t.Errorf("a young one, which may be somebody's at work, is gone: %v, %v", leftovers(t, w, home, parcelStack), err)
	}
	c.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	if _, err := c.Plan(bounded(t), appOf(t, parcels)); err != nil || len(leftovers(t, w, home, parcelStack)) > 0 {
		t.Errorf("an old one is left: %v, %v", leftovers(t, w, home, parcelStack), err)
	}
}

// Two applies of the same follow each other, one of something else is told who is at work.
func TestAnotherApplyAtWork(t *testing.T) {
	w, c := applied(t, parcels)
	held := make(chan struct{})
	w.StackTrouble(awsfake.StackTrouble{Resource: "ProdDatabase", Hold: held})
	bigger := strings.Replace(parcels, `account: "123456789012"`, `account: "123456789012", database: db.t4g.small`, 1)
	first := make(chan error, 1)
	go func() {
		_, err := c.Apply(bounded(t), appOf(t, bigger), nil, func(string) {})
		first <- err
	}()
	for s := stackOf(t, w, home, parcelStack); s.StackStatus != types.StackStatusUpdateInProgress; s = stackOf(t, w, home, parcelStack) {
		<-time.After(time.Millisecond)
	}
	_, err := c.Apply(bounded(t), appOf(t, withoutProd), nil, func(string) {})
	fails(t, err, deploy.ErrBusy, "an apply of user/lotse changes the stack", "since ")
	second := make(chan error, 1)
	followed := make(chan struct{})
	go func() {
		_, err := c.Apply(bounded(t), appOf(t, bigger), nil, func(line string) {
			if strings.Contains(line, "is followed") {
				close(followed)
			}
		})
		second <- err
	}()
	<-followed
	close(held)
	if err := errors.Join(<-first, <-second); err != nil {
		t.Error(err)
	}
}

// dying is a process that is killed at a call: it goes out or not, no answer comes, and nothing after it goes out.
type dying struct {
	aws.HTTPClient
	left      *atomic.Int64
	delivered bool
}

func (d dying) Do(r *http.Request) (*http.Response, error) {
	left := d.left.Add(-1)
	if left > 0 {
		return d.HTTPClient.Do(r)
	}
	if left == 0 && d.delivered {
		if answer, err := d.HTTPClient.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
	}
	return nil, errors.New("killed")
}

// Killed at every call, whether or not AWS has heard of it: a second apply goes on, and nothing is done twice or left. `make prove`
// (LOTSE_PROVE=1) kills at every one; otherwise at every fourth, beginning elsewhere each time.
func TestKilledAtEveryCall(t *testing.T) {
	step, first := int64(1), int64(1)
	if os.Getenv("LOTSE_PROVE") != "1" {
		step, first = 4, 1+rand.Int64N(4)
	}
	for _, delivered := range []bool{false, true} {
		at := first
		for ; !killedAt(t, at, delivered); at += step {
		}
		if at < 10 {
			t.Errorf("an apply has %d calls only", at)
		}
		t.Logf("delivered %v: killed at every call from %d to %d in steps of %d", delivered, first, at-step, step)
	}
}

func killedAt(t *testing.T, at int64, delivered bool) (finished bool) {
	w := awsfake.Open(t, awsfake.Options{Stack: 100 * time.Microsecond})
	c, app := cloudOf(w), appOf(t, parcels)
	left := &atomic.Int64{}
	left.Store(at)
	mortal := c
	mortal.Config = func(_ context.Context, region string) (aws.Config, error) {
		cfg := w.Config(region)
		cfg.HTTPClient = dying{cfg.HTTPClient, left, delivered}
		cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
		return cfg, nil
	}
	_, err := mortal.Apply(bounded(t), app, nil, func(string) {})
	if err == nil {
		return true
	}
	var again error
	for range 200 { // an apply that was refused as busy is repeated, as its hint says
		if _, again = c.Apply(bounded(t), app, nil, func(string) {}); !errors.Is(again, deploy.ErrBusy) {
			break
		}
	}
	if again != nil {
		t.Errorf("killed at call %d (%v, delivered %v), and the second apply: %v\n%s", at, err, delivered, again, deploy.HintOf(again))
		return false
	}
	c.Now = func() time.Time { return time.Now().Add(2 * stale) }
	report, err := c.Plan(bounded(t), app)
	if err != nil || report.Stacks[0].State != asIs || len(report.Stacks[0].Drift) > 0 {
		t.Errorf("killed at call %d: afterwards %v, %v", at, report, err)
	}
	if left := leftovers(t, w, home, parcelStack); len(left) > 0 {
		t.Errorf("killed at call %d: change sets are left: %v", at, left)
	}
	executed := 0
	for _, call := range w.Calls() {
		if call.Action == "ExecuteChangeSet" && call.Err == "" {
			executed++
		}
	}
	if executed != 1 {
		t.Errorf("killed at call %d: executed %d times", at, executed)
	}
	return false
}

// An answer that is lost on the way: the call comes twice, and what it asks for is done once.
func TestLostAnswers(t *testing.T) {
	for _, action := range []string{"CreateChangeSet", "ExecuteChangeSet", "DeleteChangeSet", "UpdateTerminationProtection", "SetStackPolicy", "DetectStackDrift", "DeleteStack"} {
		t.Run(action, func(t *testing.T) {
			w := awsfake.Open(t, awsfake.Options{})
			c, app := cloudOf(w), appOf(t, parcels)
			w.Inject(awsfake.Fault{Service: "cloudformation", Action: action, Drop: true, Done: true})
			if _, err := c.Plan(bounded(t), app); err != nil {
				t.Errorf("plan: %v\n%s", err, deploy.HintOf(err))
			}
			if _, err := c.Apply(bounded(t), app, nil, func(string) {}); err != nil {
				t.Fatalf("apply: %v\n%s", err, deploy.HintOf(err))
			}
			if report, err := c.Plan(bounded(t), app); err != nil || report.Stacks[0].State != asIs || len(report.Stacks[0].Drift) > 0 {
				t.Errorf("afterwards: %+v, %v", report, err)
			}
			lost := slices.ContainsFunc(w.Calls(), func(call awsfake.Call) bool { return call.Action == action && call.Err == "Drop" })
			if left := leftovers(t, w, home, parcelStack); !lost || len(left) > 0 {
				t.Errorf("an answer was lost: %v; change sets are left: %v", lost, left)
			}
		})
	}
}

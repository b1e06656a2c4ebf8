package infra

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
)

const parcelBucket = "lotse-parcels-releases-123456789012"

// long is an app whose template is too long for a call, and where the bucket has it while CloudFormation reads it.
func long(t *testing.T) (app deploy.App, key string) {
	t.Helper()
	file := "app: parcels\nservices: { api: { command: bin/parcels, path: / } }\ndatabase: { postgres: 16 }\nstages:\n"
	for i := range 5 {
		file += fmt.Sprintf("  s%d: { url: \"https://s%d.parcels.eu\", engine: aws }\n", i, i)
	}
	app = appOf(t, file)
	files, err := Cloudformation(app, Options{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := Compact(files[0].Content)
	if err != nil || len(text) <= MaxTemplateBody {
		t.Fatalf("the template has %d bytes (%v), which is not too long", len(text), err)
	}
	sum := sha256.Sum256([]byte(text))
	return app, "infra/" + hex.EncodeToString(sum[:]) + ".json"
}

func seedFor(t *testing.T, content string) map[string]any {
	t.Helper()
	text, err := seedOf(content)
	var seed map[string]any
	if err != nil || json.Unmarshal([]byte(text), &seed) != nil {
		t.Fatalf("the seed is %s: %v", text, err)
	}
	return seed
}

// What a seed has is word for word what the whole has, so that the update leaves it alone; it refers to nothing that it has not, and keeps the
// rules by itself.
func TestSeedIsAPartOfTheWhole(t *testing.T) {
	for name := range shapes {
		content, whole := mainTemplate(t, shape(t, name))
		seed := seedFor(t, content)
		resources, _ := seed["Resources"].(map[string]any)
		if got := slices.Sorted(maps.Keys(resources)); !slices.Equal(got, []string{"Key", "Releases", "ReleasesPolicy"}) {
			t.Errorf("%s: the seed has %v", name, got)
		}
		for id, r := range resources {
			if diff := cmp.Diff(at(whole, "Resources", id), r); diff != "" {
				t.Errorf("%s: %s is otherwise in the whole: %s", name, id, diff)
			}
		}
		references(seed, func(id string) {
			if resources[id] == nil && id != "AWS" && !strings.HasPrefix(id, "AWS::") { // AWS::Region and the like
				t.Errorf("%s: the seed refers to %s, which it has not", name, id)
			}
		})
		for rule, judge := range rules {
			for _, wrong := range judge(seed) {
				t.Errorf("%s: the seed breaks the rule %s: %s", name, rule, wrong)
			}
		}
	}
	for _, bad := range []string{"Resources: {}", "Resources: { Releases: { Type: AWS::S3::Bucket } }", "Outputs: [1]"} {
		if text, err := seedOf(bad); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("the seed of %s is %s, %v", bad, text, err)
		}
	}
}

// What something refers to comes along in a seed, however it is written.
func TestReferences(t *testing.T) {
	value, err := read("A: !Ref B\nC: [!GetAtt D.Arn, !Sub 'x${E}y${F.Arn}z${!G}']\nH: { DependsOn: [I, J] }\nK: { DependsOn: L }\nM: !Sub ['${N}', { N: !Ref O }]\n")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	references(value, func(name string) { found[name] = true })
	for _, want := range []string{"B", "D", "E", "F", "I", "J", "L", "O"} {
		if !found[want] {
			t.Errorf("%s was not found", want)
		}
	}
	if found["G"] || found["A"] || found["Arn"] {
		t.Errorf("what is no reference was found: %v", found)
	}
}

// A template that is too long for a call: all of it is planned before anything is there, and made in two steps.
func TestLongTemplate(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	c := cloudOf(w)
	app, key := long(t)
	report, err := c.Plan(bounded(t), app)
	if err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	_, whole := mainTemplate(t, app)
	all, _ := whole["Resources"].(map[string]any)
	planned := report.Stacks[0]
	if got := changeOf(t, report, "S4Database"); planned.State != notThere || len(planned.Changes) != len(all) || got != (Change{Action: "add", Resource: "S4Database", Kind: "AWS::RDS::DBInstance"}) {
		t.Errorf("the plan of nothing %s, with %d changes of %d, such as %+v", planned.State, len(planned.Changes), len(all), got)
	}
	if s := stackOf(t, w, home, parcelStack); s != nil {
		t.Errorf("the plan has left a stack in %s", s.StackStatus)
	}
	var names []string // of the key and the bucket, when the second step begins
	report, err = c.Apply(bounded(t), app, nil, func(line string) {
		if strings.HasPrefix(line, "S0Database ") && names == nil {
			names = []string{w.Physical(home, parcelStack, "Key"), w.Physical(home, parcelStack, "Releases")}
		}
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	if got := report.Stacks[0]; got.State != asIs || len(got.Changes) != len(all) {
		t.Errorf("the apply says that the stack %s, by %d changes", got.State, len(got.Changes))
	}
	if got := []string{w.Physical(home, parcelStack, "Key"), w.Physical(home, parcelStack, "Releases")}; !slices.Equal(got, names) || got[1] != parcelBucket {
		t.Errorf("key and bucket were %v, and are %v after the second step", names, got)
	}
	begun := steps(w)
	if !slices.Equal(begun, []string{"ExecuteChangeSet", "PutObject " + parcelBucket + "/" + key, "ExecuteChangeSet"}) {
		t.Errorf("the steps were %v", begun)
	}
	made(t, w, c, app, key)
	if _, err := c.Apply(bounded(t), app, nil, func(string) {}); err != nil {
		t.Error(err)
	}
	if n := len(slices.DeleteFunc(steps(w), func(s string) bool { return s != "ExecuteChangeSet" })); n != 2 {
		t.Errorf("an apply of no changes has executed something: %d executions", n)
	}
}

// steps are the calls by which something begins.
func steps(w *awsfake.World) (all []string) {
	for _, call := range w.Calls() {
		switch {
		case call.Err != "":
		case call.Action == "ExecuteChangeSet":
			all = append(all, call.Action)
		case call.Service == "s3" && call.Action == "PutObject":
			all = append(all, "PutObject "+call.Resource)
		}
	}
	return all
}

// made wants the stack to be as it is written down, with its guards on and nothing left over.
func made(t *testing.T, w *awsfake.World, c Cloud, app deploy.App, key string) {
	t.Helper()
	c.Now = func() time.Time { return time.Now().Add(2 * stale) }
	after, err := c.Plan(bounded(t), app)
	if err != nil || after.Stacks[0].State != asIs || len(after.Stacks[0].Drift) > 0 {
		t.Errorf("the plan after it is %+v, %v", after, err)
	}
	if left := leftovers(t, w, home, parcelStack); len(left) > 0 {
		t.Errorf("change sets are left: %v", left)
	}
	if w.Object(parcelBucket, key) != nil {
		t.Error("the template is left in the bucket")
	}
}

// What goes wrong in either step is said, and a second apply goes on from there.
func TestLongTemplateFails(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(*awsfake.World)
		says []string
		heal func(*awsfake.World)
	}{
		"the bucket is somebody's": {func(w *awsfake.World) { w.Bucket(parcelBucket) }, []string{"Releases (AWS::S3::Bucket) could not be made", "already exists", "ROLLBACK_COMPLETE", "delete-stack"}, nil},
		"the second step fails": {func(w *awsfake.World) {
			w.StackTrouble(awsfake.StackTrouble{Resource: "Vpc", Times: 1, Reason: "The maximum number of VPCs has been reached."})
		},
			[]string{"Vpc (AWS::EC2::VPC) could not be made", "UPDATE_ROLLBACK_COMPLETE", "the stack is what it was before"}, func(w *awsfake.World) { w.HealStacks() }},
		"the bucket may not be written": {func(w *awsfake.World) { w.Deny("s3", "PutObject") }, []string{"may not s3:PutObject"}, func(w *awsfake.World) { w.Heal() }},
	} {
		t.Run(name, func(t *testing.T) {
			w := awsfake.Open(t, awsfake.Options{})
			c.harm(w)
			app, key := long(t)
			_, err := cloudOf(w).Apply(bounded(t), app, nil, func(string) {})
			fails(t, err, deploy.ErrRefused, c.says...)
			if c.heal == nil {
				return
			}
			bucket := w.Physical(home, parcelStack, "Key")
			c.heal(w)
			if _, err := cloudOf(w).Apply(bounded(t), app, nil, func(string) {}); err != nil {
				t.Fatalf("%v\n%s", err, deploy.HintOf(err))
			}
			if bucket == "" || w.Physical(home, parcelStack, "Key") != bucket {
				t.Error("the second apply has begun from nothing")
			}
			made(t, w, cloudOf(w), app, key)
		})
	}
}

// killer is a process that is killed at the n-th call of an action: it goes out or not, no answer comes, and nothing after it goes out.
type killer struct {
	aws.HTTPClient
	action    string
	left      *atomic.Int64
	delivered bool
}

func (k killer) Do(r *http.Request) (*http.Response, error) {
	if k.left.Load() > 0 && (actionOf(r) != k.action || k.left.Add(-1) > 0) {
		return k.HTTPClient.Do(r)
	}
	if k.left.CompareAndSwap(0, -1) && k.delivered {
		if answer, err := k.HTTPClient.Do(r); err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		}
	}
	return nil, errors.New("killed")
}

// actionOf is what a request asks for: a PUT of S3, or the action of a form.
func actionOf(r *http.Request) string {
	if r.Method == http.MethodPut {
		return "PutObject"
	}
	if r.Body == nil {
		return r.Method
	}
	raw, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(raw))
	form, _ := url.ParseQuery(string(raw))
	return form.Get("Action")
}

// Killed in and between the two steps: the next apply goes on, with the same key and the same bucket. `make prove` (LOTSE_PROVE=1) also kills
// where the call was not heard of; otherwise that is tried between the steps alone.
func TestKilledBetweenTheSteps(t *testing.T) {
	for _, at := range []struct {
		action string
		nth    int64
	}{{"CreateChangeSet", 1}, {"ExecuteChangeSet", 1}, {"DescribeStackEvents", 1}, {"GetTemplate", 1}, {"PutObject", 1}, {"CreateChangeSet", 2}, {"ExecuteChangeSet", 2}, {"SetStackPolicy", 2}} {
		for _, delivered := range []bool{false, true} {
			if !delivered && at.action != "PutObject" && os.Getenv("LOTSE_PROVE") != "1" {
				continue
			}
			t.Run(fmt.Sprintf("%s %d, delivered %v", at.action, at.nth, delivered), func(t *testing.T) {
				w := awsfake.Open(t, awsfake.Options{Stack: 100 * time.Microsecond})
				c := cloudOf(w)
				app, key := long(t)
				left := &atomic.Int64{}
				left.Store(at.nth)
				mortal := c
				mortal.Config = func(_ context.Context, region string) (aws.Config, error) {
					cfg := w.Config(region)
					cfg.HTTPClient = killer{cfg.HTTPClient, at.action, left, delivered}
					cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
					return cfg, nil
				}
				if _, err := mortal.Apply(bounded(t), app, nil, func(string) {}); err == nil {
					t.Fatal("it was never killed")
				}
				before := w.Physical(home, parcelStack, "Key")
				var again error
				for range 200 { // an apply that was refused as busy is repeated, as its hint says
					if _, again = c.Apply(bounded(t), app, nil, func(string) {}); !errors.Is(again, deploy.ErrBusy) {
						break
					}
				}
				if again != nil {
					t.Fatalf("the second apply: %v\n%s", again, deploy.HintOf(again))
				}
				if after := w.Physical(home, parcelStack, "Key"); before != "" && after != before {
					t.Error("the key is another one")
				}
				made(t, w, c, app, key)
			})
		}
	}
}

// The example app's template is such a one. Its parameters come with the second step: a seed has none.
func TestExampleAppIsMade(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	zone := w.Zone("whatsgonow.com")
	c, app := cloudOf(w), shape(t, "mixed")
	if _, err := c.Apply(bounded(t), app, nil, func(string) {}); err != nil {
		t.Fatalf("%v\n%s", err, deploy.HintOf(err))
	}
	s := stackOf(t, w, home, "lotse-whatsgonow")
	if !slices.ContainsFunc(s.Parameters, func(p types.Parameter) bool { return *p.ParameterKey == "ZoneId" && *p.ParameterValue == zone }) {
		t.Errorf("the stack was given %v", s.Parameters)
	}
	var outputs []string
	for _, o := range s.Outputs {
		outputs = append(outputs, *o.OutputKey)
	}
	if got, want := slices.Sorted(slices.Values(outputs)), slices.Sorted(slices.Values(Outputs(app))); !slices.Equal(got, want) {
		t.Errorf("the stack has the outputs %v, want %v", got, want)
	}
	if again, err := c.Plan(bounded(t), app); err != nil || again.Stacks[0].State != asIs || len(again.Stacks[0].Drift) > 0 {
		t.Errorf("the plan after it is %+v, %v", again, err)
	}
}

package share_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// One job deploys to dev and ends; the next one, on a machine with an empty disk, promotes the same bytes to staging. It takes up the lock at
// once, and nothing is built or uploaded twice.
func TestTwoJobsOneAfterTheOther(t *testing.T) {
	c := newCloud(t)
	one := c.runner().boot()
	first := one.deploy("")
	c.settled(first)
	one.stop()

	two := c.runner().boot()
	second := two.promote()
	c.settled(second)
	if second.Release != first.Release {
		t.Errorf("staging got %s, and dev has %s", second.Release, first.Release)
	}
	if c.serves("dev") != first.ID || c.serves("staging") != second.ID {
		t.Errorf("dev serves %s and staging %s", c.serves("dev"), c.serves("staging"))
	}
	if second.From != first.ID || len(second.Pipeline) > 1 {
		t.Errorf("the promotion came from %q and ran %d steps", second.From, len(second.Pipeline))
	}
	if first.Actor != second.Actor {
		t.Errorf("the same person is %s on one machine and %s on the other", first.Actor, second.Actor)
	}
	if got := contentOn(t, two, second.Release, "dist/index.html"); got != "<!doctype html>first" {
		t.Errorf("the second machine reads %q", got)
	}
	uploaded := map[string]int{}
	for _, call := range c.aws.Calls() {
		if call.Action == "PutObject" && strings.Contains(call.Resource, "state/blobs/") {
			uploaded[call.Resource]++
		}
	}
	for key, times := range uploaded {
		if times > 1 {
			t.Errorf("%s was uploaded %d times", key, times)
		}
	}
	if len(uploaded) < 4 {
		t.Errorf("only %d blobs were uploaded", len(uploaded))
	}
	two.stop()

	three := c.runner().boot()
	history, err := three.History(t.Context(), "shop", "", 0)
	if err != nil || len(history) != 2 || history[0].ID != second.ID || history[1].ID != first.ID {
		t.Errorf("the third machine has the history %+v, %v", history, err)
	}
	if err := three.book.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	again := three.deploy("")
	if again.Outcome != deploy.Unchanged {
		t.Errorf("the same commit once more is %s", again.Outcome)
	}
}

func contentOn(t *testing.T, r *runner, id deploy.Digest, name string) string {
	t.Helper()
	release, err := r.build.Release(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	files, err := r.build.Files(t.Context(), release)
	if err != nil {
		t.Fatal(err)
	}
	data, err := fs.ReadFile(files, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Nothing in the bucket says who anybody is.
func TestNoNamesInTheBucket(t *testing.T) {
	c := newCloud(t)
	one := c.runner().boot()
	c.settled(one.deploy(""))
	one.stop()
	all := everything(t, c)
	if len(all) < 10 {
		t.Fatalf("the bucket has %d objects", len(all))
	}
	for key, data := range all {
		for _, personal := range []string{"Ada", "Lovelace", "ada@example.org", one.here, one.dir, c.key} {
			if strings.Contains(string(data), personal) {
				t.Errorf("%s holds %q: %.400s", key, personal, data)
			}
		}
	}
}

// everything is all that the bucket holds.
func everything(t *testing.T, c *cloud) map[string][]byte {
	t.Helper()
	client := s3.NewFromConfig(c.aws.Config(""), func(o *s3.Options) { o.UsePathStyle = true })
	all := map[string][]byte{}
	for pages := s3.NewListObjectsV2Paginator(client, &s3.ListObjectsV2Input{Bucket: aws.String(bucketName)}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			all[*o.Key] = c.aws.Object(bucketName, *o.Key)
		}
	}
	return all
}

func keysOf(t *testing.T, c *cloud, prefix string) (keys []string) {
	t.Helper()
	for key := range everything(t, c) {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

// overwrite is somebody who changes an object by hand.
func overwrite(t *testing.T, c *cloud, key, content string) {
	t.Helper()
	client := s3.NewFromConfig(c.aws.Config(""), func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String(bucketName), Key: &key, Body: strings.NewReader(content)}); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, c *cloud, key string) {
	t.Helper()
	client := s3.NewFromConfig(c.aws.Config(""), func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String(bucketName), Key: &key}); err != nil {
		t.Fatal(err)
	}
}

// A second controller waits, and is then told who has the history since when.
func TestTwoAtOnce(t *testing.T) {
	c := newCloud(t)
	one := c.runner().boot()
	two := c.runner()
	two.wait = 300 * time.Millisecond
	err := two.open()
	if !errors.Is(err, deploy.ErrBusy) || !regexp.MustCompile(`job \d+ \([A-Z2-7]{8}\), since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC`).MatchString(err.Error()) {
		t.Errorf("the second controller is told %v", err)
	}
	if deploy.HintOf(err) == "" {
		t.Error("and not what to do")
	}
	c.settled(one.deploy("")) // the first goes on as if nothing had been
	waiting := c.runner()
	waiting.wait = 30 * time.Second
	opened := make(chan error, 1)
	go func() { opened <- waiting.open() }()
	one.stop()
	if err := <-opened; err != nil {
		t.Errorf("who waited is told %v", err)
	}
}

// A machine that dies in the middle of a rollout is followed by another, which brings the rollout to an end. The stage serves one
// release all the time, and history is whole.
func TestKilledInTheMiddle(t *testing.T) {
	for _, at := range []string{"requested", "step.begun build", "release.made", "step.begun start", "before", "settled"} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			c := newCloud(t)
			one := c.runner()
			one.expiry = 3 * time.Second
			one.boot()
			c.settled(one.deploy(""))
			c.commit("second")
			c.git("-C", one.here, "pull", "-q")
			died := make(chan string, 1)
			one.onEvent = func(e deploy.Event) {
				if named(e) == at && !one.net.cut() {
					one.kill()
					died <- e.Rollout
				}
			}
			id, err := one.Deploy(t.Context(), deploy.Request{Dir: one.here})
			if err != nil && !one.net.cut() {
				t.Fatal(err)
			}
			if of := <-died; id == "" {
				id = of
			}
			two := c.runner().boot()
			r := two.follow(id)
			c.settled(r)
			if c.serves("dev") != id {
				t.Errorf("dev serves %s", c.serves("dev"))
			}
			if err := two.book.Verify(t.Context()); err != nil {
				t.Error(err)
			}
			c.settled(two.promote())
		})
	}
}

// named is an event with the step that it is about.
func named(e deploy.Event) string {
	var d struct {
		Step string `json:"step"`
	}
	_ = json.Unmarshal(e.Data, &d) // of most kinds there is none
	return strings.TrimSpace(e.Kind + " " + d.Step)
}

// A controller that was paused, whose last PUT reaches S3 when another one goes on already, has written nothing, knows it, and ends.
func TestPausedAndLate(t *testing.T) {
	c := newCloud(t)
	one := c.runner()
	one.expiry = 500 * time.Millisecond
	one.boot()
	c.settled(one.deploy(""))
	waits, release := one.net.hold("state/") // the lock is not renewed either
	defer release()
	late := make(chan error, 1)
	go func() {
		_, err := one.shared.Append(context.Background(), deploy.Event{Kind: "late", App: "shop"})
		late <- err
	}()
	<-waits
	two := c.runner().boot() // waits until the lock of the first has run out
	c.settled(two.promote())
	release()
	if err := <-late; !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("the late one was told %v", err)
	}
	if _, err := one.shared.Append(t.Context(), deploy.Event{Kind: "late", App: "shop"}); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("the next one was told %v", err)
	}
	if _, err := one.shared.Acquire(t.Context(), deploy.StageRef{App: "shop", Stage: "dev"}, "me", time.Second, nil); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("a lease was given, or refused with %v", err)
	}
	if err := one.share.Run(t.Context()); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("Run says %v", err)
	}
	c.commit("second")
	c.git("-C", two.here, "pull", "-q")
	c.settled(two.deploy("")) // the lock is still the second one's
	events, err := two.book.Events(t.Context(), deploy.EventQuery{Kinds: []string{"late"}})
	if err != nil || len(events) != 0 {
		t.Errorf("history has %+v, %v", events, err)
	}
}

// The last PUT of a dead controller that arrives before the next one has written anything is history, and known to that one.
func TestLateButBeforeTheNext(t *testing.T) {
	c := newCloud(t)
	one := c.runner()
	if err := one.open(); err != nil {
		t.Fatal(err)
	}
	draft, err := one.book.Draft(t.Context(), deploy.Event{Kind: "late", App: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	if err := one.share.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	two := c.runner()
	waits, release := two.net.hold("state/events/") // its first event is on the way
	opened := make(chan error, 1)
	go func() { opened <- two.open() }()
	<-waits
	data, err := json.Marshal(draft)
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, c, "state/events/000000000002.json", string(data))
	release()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	events, err := two.book.Events(t.Context(), deploy.EventQuery{Kinds: []string{"late"}})
	if err != nil || len(events) != 1 {
		t.Errorf("history has %+v, %v", events, err)
	}
}

// A ledger with another history than the bucket's is refused, and both are as they were. One that is only ahead, or behind, is brought
// together.
func TestDiverged(t *testing.T) {
	c := newCloud(t)
	one := c.runner()
	if err := one.open(); err != nil {
		t.Fatal(err)
	}
	if err := one.share.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := one.book.Append(t.Context(), deploy.Event{Kind: "alone", App: "shop"}); err != nil { // without --shared
		t.Fatal(err)
	}
	if err := one.open(); err != nil {
		t.Errorf("a ledger that is ahead: %v", err)
	}
	if err := one.share.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	two := c.runner()
	if err := two.open(); err != nil {
		t.Fatal(err)
	}
	if events, err := two.book.Events(t.Context(), deploy.EventQuery{Kinds: []string{"alone"}}); err != nil || len(events) != 1 {
		t.Errorf("what one had alone is not shared: %+v, %v", events, err)
	}
	if err := two.share.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := one.book.Append(t.Context(), deploy.Event{Kind: "alone again", App: "shop"}); err != nil {
		t.Fatal(err)
	}
	before := len(keysOf(t, c, "state/events/"))
	err := one.open()
	if !errors.Is(err, deploy.ErrDamaged) || !strings.Contains(deploy.HintOf(err), "ledger.db") {
		t.Errorf("a ledger that has diverged: %v (%s)", err, deploy.HintOf(err))
	}
	if now := len(keysOf(t, c, "state/events/")); now != before {
		t.Errorf("the bucket has %d events, and had %d", now, before)
	}
	if err := one.book.Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

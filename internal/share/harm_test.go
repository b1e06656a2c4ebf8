package share_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// Whatever of the bucket is damaged is named, and nothing of it is used.
func TestDamaged(t *testing.T) {
	c := newCloud(t)
	one := c.runner().boot()
	first := one.deploy("")
	c.settled(first)
	one.stop()
	event := keysOf(t, c, "state/events/")[4]
	blob := ""
	for key, data := range everything(t, c) {
		if string(data) == "<!doctype html>first" {
			blob = key
		}
	}
	digest := strings.TrimPrefix(string(first.Release), "sha256:")
	parcel := "state/releases/" + digest + "/" + digest + ".json"
	for key, how := range map[string]string{event: `{"seq":5,"kind":"forged"}`, parcel: `{"format":1}`, blob: "<!doctype html>wrong", "state/lock.json": "{}"} {
		good := string(c.aws.Object(bucketName, key))
		if good == "" {
			t.Fatalf("there is no %q", key)
		}
		overwrite(t, c, key, how)
		r := c.runner()
		err := r.open()
		if err == nil {
			err = r.build.Verify(t.Context(), first.Release)
		}
		if !errors.Is(err, deploy.ErrDamaged) || !strings.Contains(err.Error(), strings.TrimSuffix(key, ".json")) && !strings.Contains(err.Error(), "event 5") || deploy.HintOf(err) == "" {
			t.Errorf("%s: %v (%s)", key, err, deploy.HintOf(err))
		}
		overwrite(t, c, key, good)
		if r.share != nil {
			if err := r.share.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	gone := c.runner()
	remove(t, c, event)
	if err := gone.open(); !errors.Is(err, deploy.ErrDamaged) {
		t.Errorf("a missing event: %v", err)
	}
}

// Damaged bytes are put there anew by the next build of the commit.
func TestDamagedBytesHeal(t *testing.T) {
	c := newCloud(t)
	one := c.runner().boot()
	c.settled(one.deploy(""))
	one.stop()
	for key, data := range everything(t, c) {
		if string(data) == "<!doctype html>first" {
			overwrite(t, c, key, "<!doctype html>wrong")
		}
	}
	two := c.runner().boot()
	if r := two.promote(); r.Outcome != deploy.Reverted || r.Turned.Code != "damaged" {
		t.Errorf("a promotion of damaged bytes is %s: %+v", r.Outcome, r.Turned)
	}
	id, err := two.Deploy(t.Context(), deploy.Request{Dir: two.here, Again: true})
	if err != nil {
		t.Fatal(err)
	}
	c.settled(two.follow(id))
	c.settled(two.promote())
}

// Throttling and lost answers cost time and nothing else.
func TestThrottledAndLostAnswers(t *testing.T) {
	c := newCloud(t)
	one := c.runner()
	one.expiry = 20 * time.Second
	c.aws.Inject(awsfake.Fault{Service: "s3", Action: "PutObject", After: 3, Times: 6, Code: "SlowDown", HTTP: 503})
	c.aws.Inject(awsfake.Fault{Service: "s3", Action: "PutObject", Resource: "state/events/", After: 4, Times: 5, Drop: true, Done: true})
	c.aws.Inject(awsfake.Fault{Service: "s3", Action: "PutObject", Resource: "state/lock.json", Times: 2, Drop: true, Done: true})
	c.aws.Inject(awsfake.Fault{Service: "s3", Action: "ListObjectsV2", Times: 2, Code: "InternalError", HTTP: 500})
	one.boot()
	first := one.deploy("")
	c.settled(first)
	one.stop()
	c.aws.Heal()
	c.aws.Inject(awsfake.Fault{Service: "s3", Action: "GetObject", After: 5, Times: 4, Code: "SlowDown", HTTP: 503})
	two := c.runner().boot()
	c.settled(two.promote())
	if err := two.book.Verify(t.Context()); err != nil {
		t.Error(err)
	}
	numbers := keysOf(t, c, "state/events/")
	if seq, _, err := two.book.Head(t.Context()); err != nil || int64(len(numbers)) != seq {
		t.Errorf("the bucket has %d events, and the last is %d, %v", len(numbers), seq, err)
	}
}

// A controller that cannot reach the bucket for as long as its lock lasts ends; what it was doing is taken up by the next one. One that
// can again before goes on.
func TestLostNetwork(t *testing.T) {
	c := newCloud(t)
	one := c.runner()
	one.expiry = 2 * time.Second
	one.boot()
	one.onEvent = func(e deploy.Event) {
		if named(e) == "step.begun start" {
			one.net.cutOff()
			time.AfterFunc(300*time.Millisecond, one.net.mend)
		}
	}
	c.settled(one.deploy(""))
	one.onEvent = func(e deploy.Event) {
		if named(e) == "step.begun start" {
			one.net.cutOff()
		}
	}
	c.commit("second")
	c.git("-C", one.here, "pull", "-q")
	id, err := one.Deploy(t.Context(), deploy.Request{Dir: one.here})
	if err != nil {
		t.Fatal(err)
	}
	if err := one.share.Run(t.Context()); !errors.Is(err, deploy.ErrFenced) {
		t.Errorf("Run says %v", err)
	}
	<-one.done
	one.done <- nil
	one.net.mend()
	two := c.runner().boot()
	c.settled(two.follow(id))
	if c.serves("dev") != id {
		t.Errorf("dev serves %s", c.serves("dev"))
	}
}

// A bucket that is not ours, or not there, and credentials that have ended, are said so.
func TestRefused(t *testing.T) {
	c := newCloud(t)
	c.aws.Inject(awsfake.Expired("s3"))
	err := c.runner().open()
	if err == nil || !strings.Contains(deploy.HintOf(err), "credentials") {
		t.Errorf("credentials that have ended: %v (%s)", err, deploy.HintOf(err))
	}
	c.aws.Heal()
	c.aws.Deny("s3", "PutObject")
	if err := c.runner().open(); !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(deploy.HintOf(err), "s3:PutObject") {
		t.Errorf("a missing permission: %v (%s)", err, deploy.HintOf(err))
	}
	c.aws.Heal()
	c.aws.ForeignBucket(bucketName)
	if err := c.runner().open(); !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(deploy.HintOf(err), c.aws.Account()) {
		t.Errorf("a bucket of somebody else: %v (%s)", err, deploy.HintOf(err))
	}
}

// Ids of people are the same under one key, others under another, and say nothing without it.
func TestPeople(t *testing.T) {
	c := newCloud(t)
	one := c.runner()
	if err := one.open(); err != nil {
		t.Fatal(err)
	}
	id := one.share.PersonID("mail:ada@example.org")
	if !regexp.MustCompile(`^p-[a-z2-7]{16}$`).MatchString(id) || id == one.share.PersonID("mail:bob@example.org") {
		t.Errorf("the id is %q", id)
	}
	if err := one.share.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.key = "another key that is long enough"
	two := c.runner()
	if err := two.open(); err != nil {
		t.Fatal(err)
	}
	if two.share.PersonID("mail:ada@example.org") == id {
		t.Error("the id does not depend on the key")
	}
}

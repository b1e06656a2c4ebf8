package share_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/share"
)

// A long history comes in a few calls, also where a pack of it is damaged.
func TestLongHistory(t *testing.T) {
	c := newCloud(t)
	const events = 1100
	one := c.runner()
	one.expiry = 20 * time.Second
	if err := one.open(); err != nil {
		t.Fatal(err)
	}
	for range events {
		if _, err := one.shared.Append(t.Context(), deploy.Event{Kind: "step.begun", App: "shop"}); err != nil {
			t.Fatal(err)
		}
	}
	end := func(r *runner) {
		t.Helper()
		if err := r.share.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := r.book.Verify(t.Context()); err != nil {
			t.Error(err)
		}
		if seq, _, err := r.book.Head(t.Context()); err != nil || seq < events {
			t.Errorf("the machine knows %d events, %v", seq, err)
		}
	}
	end(one)
	two := c.runner() // makes packs
	if err := two.open(); err != nil {
		t.Fatal(err)
	}
	end(two)
	packs := keysOf(t, c, "state/packs/")
	if len(packs) != 2 {
		t.Fatalf("there are the packs %v", packs)
	}
	read := func() (n int) {
		for _, call := range c.aws.Calls() {
			if call.Action == "GetObject" {
				n++
			}
		}
		c.aws.ForgetCalls()
		return n
	}
	read()
	three := c.runner()
	if err := three.open(); err != nil {
		t.Fatal(err)
	}
	if n := read(); n > 2+events-1000+10 {
		t.Errorf("%d objects were read", n)
	}
	end(three)
	overwrite(t, c, packs[1], "{}\n")
	four := c.runner()
	if err := four.open(); err != nil {
		t.Fatal(err)
	}
	end(four)
	if err := one.open(); err != nil { // it knows all but the end
		t.Fatal(err)
	}
	end(one)
}

// What no stage uses goes after a day, with the bytes that nobody else needs; what is kept can be had on any machine.
func TestPrune(t *testing.T) {
	c := newCloud(t)
	one := c.runner().boot()
	first := one.deploy("")
	c.commit("second")
	c.git("-C", one.here, "pull", "-q")
	second := one.deploy("")
	c.settled(second)
	c.settled(one.promote())
	keep := []deploy.Digest{second.Release}
	releases, blobs := len(keysOf(t, c, "state/releases/")), len(keysOf(t, c, "state/blobs/"))
	if err := one.build.Prune(t.Context(), keep); err != nil {
		t.Fatal(err)
	}
	if now := len(keysOf(t, c, "state/releases/")); now != releases {
		t.Errorf("%d of %d releases are left on the first day", now, releases)
	}
	one.stop()

	two := c.runner()
	two.clock = func() time.Time { return time.Now().Add(25 * time.Hour) }
	if err := two.open(); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := two.build.Prune(ended, keep); err == nil {
		t.Error("a Prune whose time is over did all the same")
	}
	if err := two.share.Close(t.Context()); err != nil { // which finishes it
		t.Fatal(err)
	}
	for _, key := range keysOf(t, c, "state/releases/") {
		if strings.Contains(key, strings.TrimPrefix(string(first.Release), "sha256:")) {
			t.Errorf("%s is still there", key)
		}
	}
	if now := len(keysOf(t, c, "state/blobs/")); now >= blobs {
		t.Errorf("%d blobs are there, and were %d", now, blobs)
	}
	three := c.runner()
	three.clock = two.clock
	if err := three.open(); err != nil {
		t.Fatal(err)
	}
	if err := three.build.Verify(t.Context(), second.Release); err != nil {
		t.Error(err)
	}
	if err := three.build.Verify(t.Context(), first.Release); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("what was pruned: %v", err)
	}
}

// A machine whose clock is behind the one before makes greater fences all the same, and later events; one whose clock is wrong by more than an
// hour is refused.
func TestClockThatIsBehind(t *testing.T) {
	c := newCloud(t)
	stage := deploy.StageRef{App: "shop", Stage: "dev"}
	fence := func(r *runner) deploy.Fence {
		t.Helper()
		if err := r.open(); err != nil {
			t.Fatal(err)
		}
		lease, err := r.shared.Acquire(t.Context(), stage, "me", time.Second, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.share.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		return lease.Fence
	}
	before := fence(c.runner())
	behind := c.runner()
	behind.clock = func() time.Time { return time.Now().Add(-30 * time.Minute) }
	if after := fence(behind); after <= before {
		t.Errorf("the fences are %d and %d", before, after)
	}
	events, err := behind.book.Events(t.Context(), deploy.EventQuery{})
	if err != nil || len(events) != 2 || events[1].At.Before(events[0].At) {
		t.Errorf("the events are %+v, %v", events, err)
	}
	wrong := c.runner()
	wrong.clock = func() time.Time { return time.Now().Add(-2 * time.Hour) }
	if err := wrong.open(); !errors.Is(err, deploy.ErrUnavailable) || !strings.Contains(deploy.HintOf(err), "clock") {
		t.Errorf("a clock that is wrong: %v", err)
	}
}

// The key of people's ids is made once, and read by everybody after.
func TestPeopleKey(t *testing.T) {
	c := newCloud(t)
	first, err := share.PeopleKey(t.Context(), c.aws.Config(""), bucketName)
	if err != nil || len(first.Reveal()) != 32 {
		t.Fatalf("the key has %d bytes, %v", len(first.Reveal()), err)
	}
	second, err := share.PeopleKey(t.Context(), c.aws.Config(""), bucketName)
	if err != nil || second.Reveal() != first.Reveal() {
		t.Errorf("the second time there is another key, %v", err)
	}
	c.aws.Deny("secretsmanager", "GetSecretValue")
	if _, err := share.PeopleKey(t.Context(), c.aws.Config(""), bucketName); !errors.Is(err, deploy.ErrUnavailable) || !strings.Contains(deploy.HintOf(err), "secretsmanager:GetSecretValue") {
		t.Errorf("a missing permission: %v", err)
	}
}

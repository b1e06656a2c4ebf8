package bucket_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/bucket"
)

func TestOnTheFake(t *testing.T) { contract(t, fake(t)) }

func TestOnMoto(t *testing.T) { contract(t, moto(t)) }

// contract is what holds on every S3.
func contract(t *testing.T, a *amazon) {
	for _, clause := range []struct {
		name string
		test func(*testing.T, *amazon)
	}{
		{"there and back", thereAndBack}, {"nothing is uploaded twice", nothingTwice}, {"killed at every call", killedAnywhere}, {"old fences", oldFences},
		{"a zombie between two files", zombie}, {"remove", removal}, {"nothing is served", nothingServed}, {"changed by hand", changedByHand},
		{"names that clash", clashes}, {"odd names", oddNames}, {"two at once", twoAtOnce},
	} {
		t.Run(clause.name, func(t *testing.T) { clause.test(t, a) })
	}
}

func thereAndBack(t *testing.T, a *amazon) {
	name := a.bucket(t)
	seen := &wrapped{}
	b := a.open(name, seen)
	put(t, b, 1, before())
	if got := a.read(t, name, "index.html"); got != "" {
		t.Errorf("Put has put %q where it is served", got)
	}
	serve(t, b, 1, before())
	a.serves(t, name, before())
	put(t, b, 2, after())
	a.serves(t, name, before())
	seen.calls = nil
	serve(t, b, 2, after())
	a.serves(t, name, after())
	want := "CreateInvalidation / /index.html /new /new.html /old /old.html /sw.js"
	if seen.count("CreateInvalidation") != 1 || seen.count(want) != 1 {
		t.Errorf("invalidated is not exactly what changed: %q", seen.calls)
	}
	if n := seen.count("CopyObject"); n != 3 {
		t.Errorf("%d copies, want 3: %q", n, seen.calls)
	}
	pages, worker := slices.Index(seen.calls, "CopyObject index.html"), slices.Index(seen.calls, "CopyObject sw.js")
	if first := slices.Index(seen.calls, "CopyObject new.html"); first > pages || pages > worker {
		t.Errorf("files were switched in this order: %q", seen.calls)
	}
	seen.calls = nil
	serve(t, b, 2, after())
	if seen.count("PutObject")+seen.count("CopyObject")+seen.count("CreateInvalidation") > 0 {
		t.Errorf("serving what is served changes something: %q", seen.calls)
	}
	serve(t, b, 3, before())
	a.serves(t, name, before())
	is, err := b.Serving(t.Context())
	if err != nil || is.Release != "before" || is.Rollout != "r-before" || is.Fence != 3 || is.Between {
		t.Errorf("Serving = %+v, %v", is, err)
	}
	all, err := b.Releases(t.Context())
	if err != nil || len(all) != 2 || all[0].ID != "before" || all[1].ID != "after" || !all[0].Whole || all[0].Files != 6 || all[0].Bytes == 0 {
		t.Errorf("Releases = %+v, %v", all, err)
	}
}

func nothingTwice(t *testing.T, a *amazon) {
	name := a.bucket(t)
	seen := &wrapped{}
	b := a.open(name, seen)
	if added := put(t, b, 1, before()); added.Files != 6 || added.There != 0 {
		t.Errorf("added %+v", added)
	}
	seen.calls = nil
	if added := put(t, a.open(name, seen), 1, before()); added != (bucket.Added{There: 6}) || seen.count("PutObject")+seen.count("HeadObject") > 0 {
		t.Errorf("put again: %+v, %q", added, seen.calls)
	}
	if added := put(t, b, 1, after()); added.Files != 4 || added.There != 3 {
		t.Errorf("of the next release: %+v", added)
	}
	if seen.count("HeadObject") > 0 {
		t.Errorf("files of a whole release were asked for: %q", seen.calls)
	}
}

// killedAnywhere ends the process at every call, before it and after it, and lets another one go on.
func killedAnywhere(t *testing.T, a *amazon) {
	ways, step := []bool{true, false}, 1
	if !a.conditions {
		ways, step = ways[:1], 5 // moto is slow
	}
	for _, carriedOut := range ways {
		for n := 1; ; n += step {
			if !killed(t, a, n, carriedOut) {
				if n < 20 {
					t.Errorf("there are only %d calls", n)
				}
				t.Logf("%d calls", n-1)
				break
			}
			if t.Failed() {
				t.Fatalf("killed at call %d (carried out: %v)", n, carriedOut)
			}
		}
	}
}

// killed reports whether there was a call n.
func killed(t *testing.T, a *amazon, n int, carriedOut bool) bool {
	name := a.bucket(t)
	old := a.open(name, nil)
	put(t, old, 1, before())
	serve(t, old, 1, before())

	dying := &wrapped{dies: n, after: carriedOut}
	look := func(call string) {
		if strings.HasPrefix(call, "Copy") || strings.HasPrefix(call, "Delete") || strings.HasPrefix(call, "PutObject assets") {
			a.whole(t, name, call)
		}
	}
	dying.then = look
	b := a.open(name, dying, func(c *bucket.Config) { c.Parallel, c.Keep = 1, time.Nanosecond })
	next := after()
	_, err := b.Put(t.Context(), 2, next.id, nil, next.files, next.index)
	if err == nil {
		err = b.Serve(t.Context(), bucket.Target{Release: next.id, Rollout: "r-after", Fence: 2})
	}
	if err == nil {
		err = b.Remove(t.Context(), 2, "before")
	}
	if err == nil {
		return false
	}
	fresh := &wrapped{then: look}
	b = a.open(name, fresh, func(c *bucket.Config) { c.Keep = time.Nanosecond })
	put(t, b, 3, next)
	for _, f := range next.index {
		key := f.Path
		if !f.Immutable {
			key = ".lotse/files/" + strings.TrimPrefix(f.Digest, "sha256:")
		}
		first, again := dying.count("PutObject "+key), fresh.count("PutObject "+key)
		if lost := !carriedOut && dying.calls[n-1] == "PutObject "+key; first+again > 1 && !lost {
			t.Errorf("%s was uploaded %d times", key, first+again)
		}
	}
	serve(t, b, 3, next)
	a.serves(t, name, next)
	told := append(invalidated(dying.calls), invalidated(fresh.calls)...)
	for _, path := range []string{"/", "/index.html", "/new.html", "/old.html", "/sw.js"} {
		if !slices.Contains(told, path) {
			t.Errorf("nobody told CloudFront of %s", path)
		}
	}
	is, err := b.Serving(t.Context())
	if err != nil || is.Release != "after" || is.Between || is.Fence != 3 {
		t.Errorf("Serving = %+v, %v", is, err)
	}
	if err := b.Remove(t.Context(), 3, "before"); err != nil {
		t.Error(err)
	}
	a.serves(t, name, next)
	if keys := a.keys(t, name); slices.Contains(keys, "assets/one-11111111.js") || slices.Contains(keys, ".lotse/releases/before.json.gz") || len(keys) != 2*len(next.index)-2+2 {
		t.Errorf("of the removed release there is something left: %q", keys)
	}
	return true
}

func invalidated(calls []string) (paths []string) {
	for _, c := range calls {
		if rest, is := strings.CutPrefix(c, "CreateInvalidation "); is {
			paths = append(paths, strings.Fields(rest)...)
		}
	}
	return paths
}

func oldFences(t *testing.T, a *amazon) {
	name := a.bucket(t)
	b := a.open(name, nil)
	put(t, b, 5, before())
	put(t, b, 5, after())
	serve(t, b, 5, before())
	was := a.keys(t, name)
	third := release("third", map[string]string{"index.html": "3"})
	_, putErr := b.Put(t.Context(), 4, third.id, nil, third.files, third.index)
	for what, err := range map[string]error{"Put": putErr, "Serve": b.Serve(t.Context(), bucket.Target{Release: "after", Rollout: "r", Fence: 4}), "Remove": b.Remove(t.Context(), 4, "after")} {
		if !errors.Is(err, bucket.ErrFenced) {
			t.Errorf("%s with an old fence: %v", what, err)
		}
	}
	if now := a.keys(t, name); !slices.Equal(now, was) {
		t.Errorf("an old fence has changed the bucket: %q", now)
	}
	a.serves(t, name, before())
	if err := b.Remove(t.Context(), 6, "nothing"); err != nil {
		t.Error(err)
	}
	if err := b.Serve(t.Context(), bucket.Target{Release: "after", Rollout: "r", Fence: 5}); !errors.Is(err, bucket.ErrFenced) {
		t.Errorf("Serve with a fence older than that of a Remove: %v", err)
	}
}

// zombie is an older controller that has begun to switch, is held up, and goes on when a newer one is through.
func zombie(t *testing.T, a *amazon) {
	moments := map[string]int{"ListObjectsV2": 2, "PutObject .lotse/serving.json": 1, "GetObject .lotse/serving.json": 3, "CopyObject": 3}
	if !a.conditions {
		moments = map[string]int{"PutObject .lotse/serving.json": 1}
	}
	third := release("third", map[string]string{"index.html": "third"})
	for at, times := range moments {
		for n := 1; n <= times; n++ {
			name := a.bucket(t)
			b := a.open(name, nil)
			for _, s := range []site{before(), after(), third} {
				put(t, b, 1, s)
			}
			serve(t, b, 1, before())
			left := n
			held := &wrapped{}
			held.then = func(call string) {
				if strings.HasPrefix(call, at) {
					if left--; left == 0 {
						serve(t, b, 9, third)
					}
				}
			}
			err := a.open(name, held, func(c *bucket.Config) { c.Parallel = 1 }).Serve(t.Context(), bucket.Target{Release: "after", Rollout: "r", Fence: 2})
			if left > 0 {
				t.Errorf("there is no %s %d", at, n)
			}
			if !errors.Is(err, bucket.ErrFenced) {
				t.Errorf("held up at %s %d: %v", at, n, err)
			}
			if got := a.read(t, name, "index.html"); got != "third" {
				t.Errorf("held up at %s %d, it has put its page over the newer one: %q", at, n, got)
			}
			a.whole(t, name, at)
			drift, err := b.Drift(t.Context())
			if err != nil || len(drift) > 1 {
				t.Errorf("held up at %s %d: drift %q, %v", at, n, drift, err)
			}
			serve(t, b, 9, third)
			a.serves(t, name, third)
			if drift, err = b.Drift(t.Context()); err != nil || len(drift) > 0 {
				t.Errorf("drift after mending: %q, %v", drift, err)
			}
		}
	}
}

func removal(t *testing.T, a *amazon) {
	name := a.bucket(t)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	b := a.open(name, nil, func(c *bucket.Config) { c.Now = func() time.Time { return now }; c.Keep = time.Hour })
	put(t, b, 1, before())
	put(t, b, 1, after())
	put(t, b, 1, release("never", map[string]string{"index.html": "never", "assets/never-33333333.js": "never"}))
	serve(t, b, 1, before())
	serve(t, b, 1, after())
	if err := b.Remove(t.Context(), 1, "after"); !errors.Is(err, bucket.ErrServing) {
		t.Errorf("Remove of what is served: %v", err)
	}
	for _, id := range []string{"before", "before", "never", "unknown"} {
		if err := b.Remove(t.Context(), 2, id); err != nil {
			t.Errorf("Remove of %s: %v", id, err)
		}
	}
	if all, err := b.Releases(t.Context()); err != nil || len(all) != 1 || all[0].ID != "after" {
		t.Errorf("Releases = %+v, %v", all, err)
	}
	a.serves(t, name, after())
	if a.read(t, name, "assets/one-11111111.js") != "one" {
		t.Error("an old tab has lost its chunk")
	}
	if a.read(t, name, "assets/never-33333333.js") != "" {
		t.Error("the chunk of a release that was never served is still there")
	}
	if err := b.Serve(t.Context(), bucket.Target{Release: "before", Fence: 2}); !errors.Is(err, bucket.ErrUnknown) {
		t.Errorf("Serve of what was removed: %v", err)
	}
	now = now.Add(time.Hour)
	if err := b.Remove(t.Context(), 2, "unknown"); err != nil {
		t.Error(err)
	}
	a.serves(t, name, after())
	if a.read(t, name, "assets/one-11111111.js") != "" || a.read(t, name, ".lotse/releases/before.json.gz") != "" {
		t.Errorf("an hour later there is still %q", a.keys(t, name))
	}
	put(t, b, 2, before())
	serve(t, b, 2, before())
	a.serves(t, name, before())
}

func nothingServed(t *testing.T, a *amazon) {
	name := a.bucket(t)
	b := a.open(name, nil)
	put(t, b, 1, before())
	serve(t, b, 1, before())
	if err := b.Serve(t.Context(), bucket.Target{Fence: 1}); err != nil {
		t.Fatal(err)
	}
	if a.read(t, name, "index.html") != "" {
		t.Error("a page is still served")
	}
	if is, err := b.Serving(t.Context()); err != nil || is.Release != "" {
		t.Errorf("Serving = %+v, %v", is, err)
	}
	if err := b.Remove(t.Context(), 1, "before"); err != nil {
		t.Error(err)
	}
}

func changedByHand(t *testing.T, a *amazon) {
	name := a.bucket(t)
	b := a.open(name, nil)
	put(t, b, 1, before())
	serve(t, b, 1, before())
	client := a.s3()
	for key, text := range map[string]string{"index.html": strings.Repeat("x", len(before().files["index.html"].Data)), "mine.txt": "of a person", "robots.txt": "all"} {
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &name, Key: &key, Body: strings.NewReader(text)}); err != nil {
			t.Fatal(err)
		}
	}
	serve(t, b, 1, before())
	if a.read(t, name, "mine.txt") == "" {
		t.Error("a file that Lotse does not know was deleted")
	}
	if got := a.read(t, name, "index.html"); got != string(before().files["index.html"].Data) {
		t.Errorf("the page is %q", got)
	}
	chunk := "assets/one-11111111.js"
	if _, err := client.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &name, Key: &chunk}); err != nil {
		t.Fatal(err)
	}
	put(t, b, 1, after())
	serve(t, b, 1, after())
	err := b.Serve(t.Context(), bucket.Target{Release: "before", Fence: 1})
	if !errors.Is(err, bucket.ErrIncomplete) || !strings.Contains(err.Error(), chunk) {
		t.Errorf("Serve without a chunk: %v", err)
	}
	if got := a.read(t, name, "index.html"); got != string(after().files["index.html"].Data) {
		t.Errorf("the page is %q", got)
	}
	// Somebody has put other bytes of the same length under the chunk's name.
	if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &name, Key: aws.String("assets/new-44444444.js"), Body: strings.NewReader("bad")}); err != nil {
		t.Fatal(err)
	}
	put(t, b, 1, release("next", map[string]string{"index.html": "n", "assets/new-44444444.js": "new"}))
	if got := a.read(t, name, "assets/new-44444444.js"); got != "new" {
		t.Errorf("a file of somebody else was taken for the release's: %q", got)
	}
	if added := put(t, b, 1, before()); added.Files != 1 {
		t.Errorf("put again: %+v", added)
	}
	serve(t, b, 1, before())
}

func clashes(t *testing.T, a *amazon) {
	name := a.bucket(t)
	b := a.open(name, nil)
	put(t, b, 1, before())
	was := a.keys(t, name)
	for _, files := range []map[string]string{{"assets/one-11111111.js": "another"}, {"assets/one-11111111.js": "one", "index.html/": ""}} {
		s := release("clash", files)
		_, err := b.Put(t.Context(), 1, s.id, nil, s.files, s.index)
		if !errors.Is(err, bucket.ErrClash) && !errors.Is(err, bucket.ErrInvalid) {
			t.Errorf("%v: %v", files, err)
		}
	}
	changed := release("before", map[string]string{"index.html": "another"})
	if _, err := b.Put(t.Context(), 1, changed.id, nil, changed.files, changed.index); !errors.Is(err, bucket.ErrInvalid) {
		t.Errorf("a release with other files: %v", err)
	}
	if now := a.keys(t, name); !slices.Equal(now, was) {
		t.Errorf("what was refused has left %q", now)
	}
	damaged := release("damaged", map[string]string{"index.html": "whole", "assets/x-55555555.js": "whole"})
	damaged.files["assets/x-55555555.js"].Data = []byte("whol!")
	if _, err := b.Put(t.Context(), 1, damaged.id, nil, damaged.files, damaged.index); !errors.Is(err, bucket.ErrDamaged) {
		t.Errorf("a file that is not the index's: %v", err)
	}
	if err := b.Serve(t.Context(), bucket.Target{Release: "damaged", Fence: 1}); !errors.Is(err, bucket.ErrIncomplete) {
		t.Errorf("Serve of it: %v", err)
	}
	if err := b.Remove(t.Context(), 1, "damaged"); err != nil {
		t.Error(err)
	}
}

// oddNames are names that have to be escaped somewhere on the way.
func oddNames(t *testing.T, a *amazon) {
	name := a.bucket(t)
	seen := &wrapped{}
	b := a.open(name, seen)
	s := release("odd", map[string]string{"index.html": "1", "über uns.html": "2", "a+b%20c.txt": "3", "assets/größe-12345678.js": "4", "q?x=1&y.html": "5", ".well-known/security.txt": "6"})
	put(t, b, 1, s)
	serve(t, b, 1, s)
	a.serves(t, name, s)
	for _, want := range []string{"/%C3%BCber%20uns.html", "/a+b%2520c.txt", "/q%3Fx=1&y"} {
		if !slices.Contains(invalidated(seen.calls), want) {
			t.Errorf("%s is not invalidated: %q", want, invalidated(seen.calls))
		}
	}
}

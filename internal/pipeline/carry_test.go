package pipeline_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A release that was packed on one machine is known on another: the same digest, no step run, and it is fitted to values there as it would have
// been here. The note says nothing of the machine that it comes from.
func TestCarriedToAnotherMachine(t *testing.T) {
	app := bundled(`MAIN='fetch("'$VITE_API'")'; `, "VITE_API")
	one, two := newBench(t), newBench(t)
	for _, b := range []*bench{one, two} {
		b.repo.commit(map[string]string{"src": "1", "lotse.yaml": "app: shop"})
	}
	source := one.must(app)
	fitted := one.mustFit(app, source, "VITE_API=https://api.example.org")
	for _, r := range []deploy.Release{source, fitted} {
		note, blobs, err := one.Pack(t.Context(), r.ID)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(note), one.dir) || strings.Contains(string(note), "/runs/") {
			t.Errorf("the note is %s", note)
		}
		manifest, err := one.depot.Read(t.Context(), string(r.ID))
		if err != nil {
			t.Fatal(err)
		}
		if err := two.Unpack(t.Context(), r.ID, append([]byte(" "), manifest...), note); !errors.Is(err, deploy.ErrDamaged) {
			t.Errorf("another manifest: %v", err)
		}
		for range 2 {
			if err := two.Unpack(t.Context(), r.ID, manifest, note); err != nil {
				t.Fatal(err)
			}
		}
		if err := two.Verify(t.Context(), r.ID); !errors.Is(err, deploy.ErrDamaged) {
			t.Errorf("a release whose bytes are not there: %v", err)
		}
		for _, f := range r.Manifest.Files {
			blobs = append(blobs, f.Digest)
		}
		for _, digest := range blobs {
			from, err := one.depot.Open(t.Context(), string(digest))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := two.depot.Put(t.Context(), from); err != nil {
				t.Fatal(err)
			}
			from.Close()
		}
		got, err := two.Release(t.Context(), r.ID)
		if err != nil || !cmp.Equal(got.Manifest, r.Manifest) {
			t.Errorf("it is %+v, %v", got.Manifest, err)
		}
		if err := two.Verify(t.Context(), r.ID); err != nil {
			t.Error(err)
		}
	}
	if again := two.mustFit(app, source, "VITE_API=https://api.example.org"); again.ID != fitted.ID || two.last["site"].State != deploy.StepCached {
		t.Errorf("fitted there, it is %s (%s), and here %s", again.ID, two.last["site"].State, fitted.ID)
	}
	other := "VITE_API=https://other.example.org"
	if there, here := two.mustFit(app, source, other), one.mustFit(app, source, other); there.ID != here.ID || two.last["site"].State == deploy.StepDone {
		t.Errorf("for other values it is %s there, and %s here", there.ID, here.ID)
	}
	if _, _, err := two.Pack(t.Context(), "sha256:"+deploy.Digest(strings.Repeat("0", 64))); !errors.Is(err, deploy.ErrNotFound) {
		t.Errorf("a release that is not there: %v", err)
	}
}

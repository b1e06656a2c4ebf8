package bucket_test

import (
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/bucket"
)

// What was put can be asked for again, by another process, also what is not served.
func TestWhatWasPut(t *testing.T) {
	a := fake(t)
	name := a.bucket(t)
	s := before()
	if _, err := a.open(name, nil).Put(t.Context(), 1, s.id, []byte(`{"mine":1}`), s.files, s.index); err != nil {
		t.Fatal(err)
	}
	b := a.open(name, nil)
	r, index, err := b.Of(t.Context(), s.id)
	if err != nil || string(r.About) != `{"mine":1}` || !r.Whole || len(index) != len(s.index) {
		t.Errorf("Of = %+v, %d files, %v", r, len(index), err)
	}
	for _, f := range index {
		body, err := b.Read(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := io.ReadAll(body)
		_ = body.Close()
		if string(got) != string(s.files[f.Path].Data) {
			t.Errorf("%s is %q", f.Path, got)
		}
	}
	if missing, err := b.Missing(t.Context(), s.id); err != nil || len(missing) > 0 {
		t.Errorf("Missing = %q, %v", missing, err)
	}
	const chunk = "assets/one-11111111.js"
	if _, err := a.s3().DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &name, Key: aws.String(chunk)}); err != nil {
		t.Fatal(err)
	}
	if missing, err := b.Missing(t.Context(), s.id); err != nil || !slices.Equal(missing, []string{chunk}) {
		t.Errorf("without a chunk, Missing = %q, %v", missing, err)
	}
	i := slices.IndexFunc(index, func(f bucket.File) bool { return f.Path == chunk })
	if _, err := b.Read(t.Context(), index[i]); !errors.Is(err, bucket.ErrIncomplete) {
		t.Errorf("Read of it: %v", err)
	}
	if err := b.Remove(t.Context(), 1, s.id); err != nil {
		t.Fatal(err)
	}
	_, _, of := b.Of(t.Context(), s.id)
	_, missing := b.Missing(t.Context(), s.id)
	if !errors.Is(of, bucket.ErrUnknown) || !errors.Is(missing, bucket.ErrUnknown) {
		t.Errorf("after it was removed: %v, %v", of, missing)
	}
}

// A fence that was admitted is kept, though nothing was put or served under it; and who has served before is told.
func TestAdmitAndLast(t *testing.T) {
	a := fake(t)
	b := a.open(a.bucket(t), nil)
	put(t, b, 1, before())
	put(t, b, 1, after())
	serve(t, b, 1, before())
	serve(t, b, 1, after())
	is, err := b.Serving(t.Context())
	if err != nil || is.Last["before"].IsZero() || len(is.Last) != 1 {
		t.Errorf("Serving = %+v, %v", is, err)
	}
	if err := b.Admit(t.Context(), 7); err != nil {
		t.Fatal(err)
	}
	if err := b.Serve(t.Context(), bucket.Target{Release: "before", Fence: 6}); !errors.Is(err, bucket.ErrFenced) {
		t.Errorf("Serve under an older fence: %v", err)
	}
	if err := b.Admit(t.Context(), 6); !errors.Is(err, bucket.ErrFenced) {
		t.Errorf("Admit of an older one: %v", err)
	}
}

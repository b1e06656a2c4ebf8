package awsfake_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/lotse-eu/lotse/internal/awsfake"
)

// The edge answers as before until an invalidation of that path is complete, and carries the headers that the object was put with.
func TestEdgeKeepsUntilInvalidated(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{Plane: true})
	w.Bucket("site")
	id := w.Distribution(&awsfake.Distribution{Bucket: "site", Hosts: []string{"shop.example"}, Root: "index.html", Denied: []string{".lotse/"}, Headers: map[string]string{"X-Frame-Options": "SAMEORIGIN"}})
	w.Record("shop.example", awsfake.DistributionName(id))
	store := s3.NewFromConfig(w.Config(""), func(o *s3.Options) { o.UsePathStyle = true })
	put := func(key, text string) {
		t.Helper()
		_, err := store.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("site"), Key: &key, Body: strings.NewReader(text), CacheControl: aws.String("no-cache"), ContentType: aws.String("text/html")})
		if err != nil {
			t.Fatal(err)
		}
	}
	client := http.Client{Transport: &http.Transport{DialContext: w.Dialer(), TLSClientConfig: w.TLS(), ForceAttemptHTTP2: true}}
	t.Cleanup(client.CloseIdleConnections)
	get := func(path string) (int, string, http.Header) {
		t.Helper()
		resp, err := client.Get("https://shop.example" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body), resp.Header
	}
	put("index.html", "one")
	put(".lotse/own", "nobody's")
	if _, body, h := get("/"); body != "one" || h.Get("Cache-Control") != "no-cache" || h.Get("Content-Type") != "text/html" || h.Get("X-Frame-Options") != "SAMEORIGIN" {
		t.Errorf("%q with %v", body, h)
	}
	for path, want := range map[string]int{"/.lotse/own": 403, "/%2elotse/own": 403, "/none": 404} {
		if code, _, _ := get(path); code != want {
			t.Errorf("%s is answered %d, want %d", path, code, want)
		}
	}
	put("index.html", "two")
	if _, body, _ := get("/"); body != "one" {
		t.Errorf("without an invalidation the edge says %q", body)
	}
	cf := cloudfront.NewFromConfig(w.Config(""))
	begin := func(ref string, quantity int, paths ...string) (*types.Invalidation, error) {
		out, err := cf.CreateInvalidation(t.Context(), &cloudfront.CreateInvalidationInput{DistributionId: &id,
			InvalidationBatch: &types.InvalidationBatch{CallerReference: &ref, Paths: &types.Paths{Quantity: aws.Int32(int32(quantity)), Items: paths}}})
		if err != nil {
			return nil, err
		}
		return out.Invalidation, nil
	}
	for name, err := range map[string]error{"another count": last(begin("a", 2, "/")), "a path without a slash": last(begin("b", 1, "index.html")), "no reference": last(begin("", 1, "/"))} {
		if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	made, err := begin("c", 1, "/index.html")
	if err != nil || *made.Status != "InProgress" {
		t.Fatalf("%+v, %v", made, err)
	}
	if again, err := begin("c", 1, "/index.html"); err != nil || *again.Id != *made.Id {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	if err := last(begin("c", 1, "/other")); err == nil {
		t.Error("a reference was taken for other paths")
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for status := ""; status != "Completed"; <-tick.C {
		out, err := cf.GetInvalidation(t.Context(), &cloudfront.GetInvalidationInput{DistributionId: &id, Id: made.Id})
		if err != nil {
			t.Fatal(err)
		}
		status = *out.Invalidation.Status
	}
	if _, body, _ := get("/"); body != "two" {
		t.Errorf("after the invalidation the edge says %q", body)
	}
	if out, err := cf.GetDistribution(t.Context(), &cloudfront.GetDistributionInput{Id: &id}); err != nil || *out.Distribution.DomainName != awsfake.DistributionName(id) {
		t.Errorf("GetDistribution: %+v, %v", out, err)
	}
	if _, err := cf.GetDistribution(t.Context(), &cloudfront.GetDistributionInput{Id: aws.String("E0")}); err == nil || !strings.Contains(err.Error(), "NoSuchDistribution") {
		t.Errorf("one that is not there: %v", err)
	}
}

func last(_ *types.Invalidation, err error) error { return err }

// A bucket of another account is refused to who says whose it must be.
func TestExpectedBucketOwner(t *testing.T) {
	w := awsfake.Open(t, awsfake.Options{})
	w.Bucket("site")
	store := s3.NewFromConfig(w.Config(""), func(o *s3.Options) { o.UsePathStyle = true })
	for owner, want := range map[string]bool{w.Account(): true, "999999999999": false} {
		_, err := store.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("site"), ExpectedBucketOwner: &owner})
		if (err == nil) != want {
			t.Errorf("%s: %v", owner, err)
		}
	}
}

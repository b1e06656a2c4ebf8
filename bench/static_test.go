package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// A small site, and one subject that is not there: every row is a figure or NOT RUN, and nothing was uploaded twice.
func TestUploadsAreCounted(t *testing.T) {
	var out bytes.Buffer
	report := newReport(t.Context(), time.Now())
	subjects := []uploader{uploaders()[0], {name: "aws s3 sync", missing: "aws is not on the PATH"}}
	if err := compareUploads(t.Context(), &out, report, 100, 8, subjects); err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, f := range report.Figures {
		if f.Status != statusReal {
			found[f.Status]++
			continue
		}
		found[f.Measure+" of "+f.Case] = f.Value
	}
	// Beside the files: the manifest when it begins and when it ends, and serving.json when the switch begins and when it ends.
	if n := found["uploads of 100 files to an empty bucket"]; n != 104 {
		t.Errorf("%v uploads of 100 files:\n%s", n, out.String())
	}
	if n := found["uploads of the same with 8 files changed"]; n != 12 {
		t.Errorf("%v uploads of 8 files:\n%s", n, out.String())
	}
	if found[statusNotRun] != 2 || !strings.Contains(out.String(), "aws s3 sync NOT RUN: aws is not on the PATH") {
		t.Errorf("what is missing is not said:\n%s", out.String())
	}
}

func TestUploadsTwiceAreAnError(t *testing.T) {
	two := uploader{name: "lotse", upload: func(ctx context.Context, endpoint, dir string, release int) error {
		if release == 0 {
			return lotseUpload(ctx, endpoint, dir, 0)
		}
		client := storeOf(endpoint)
		for range 2 {
			if _, err := client.PutObject(ctx, &s3.PutObjectInput{Bucket: aws.String(benchBucket), Key: aws.String("assets/x.js"), Body: strings.NewReader("x")}); err != nil {
				return err
			}
		}
		return nil
	}}
	var out bytes.Buffer
	err := compareUploads(t.Context(), &out, newReport(t.Context(), time.Now()), 100, 8, []uploader{two})
	if err == nil || !strings.Contains(err.Error(), "was uploaded 2 times") {
		t.Errorf("error %v", err)
	}
}

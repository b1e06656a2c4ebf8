package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/lotse-eu/lotse/internal/bucket"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// A static site as a bundler leaves it: chunks with a hash in their names, pictures and pages without. Sizes are log-normal with a
// median of 4.5 kB and a mean of 12 kB, about 60 MB in all.
const (
	siteFiles    = 5000
	sitePictures = 300
	sitePages    = 100
	siteChanged  = 20 // of the second upload; a quarter of them pages, the others chunks, which get new names
)

// asked is what a server was asked.
type asked struct {
	Requests int            `json:"requests"`
	Uploads  int            `json:"uploads"` // PUTs that carry bytes
	Bytes    int64          `json:"bytes"`   // in them
	ByKey    map[string]int `json:"by_key"`  // uploads
}

const askedPath = "/asked"

// objectStore is an S3 server in memory that tells what it was asked since the last time.
func objectStore() http.Handler {
	next := gofakes3.New(s3mem.New()).Server()
	var mu sync.Mutex
	seen := asked{ByKey: map[string]int{}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		if r.URL.Path == askedPath {
			_ = json.NewEncoder(w).Encode(seen) // whoever asks fails on an answer that is cut off
			seen = asked{ByKey: map[string]int{}}
			mu.Unlock()
			return
		}
		seen.Requests++
		if r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") == "" {
			seen.Uploads++
			seen.Bytes += r.ContentLength
			seen.ByKey[r.URL.Path]++
		}
		mu.Unlock()
		next.ServeHTTP(w, r)
	})
}

// uploader brings the files of a folder into a bucket.
type uploader struct {
	name    string
	missing string // why it cannot be had
	upload  func(ctx context.Context, endpoint, dir string, release int) error
}

func uploaders() []uploader {
	sync := uploader{name: "aws s3 sync", upload: awsSync}
	if _, err := exec.LookPath("aws"); err != nil {
		sync.missing = "aws is not on the PATH"
	}
	return []uploader{{name: "lotse", upload: lotseUpload}, sync}
}

// benchStatic uploads a site, and again with a few files changed, to a server of its own for each subject.
func benchStatic(ctx context.Context, out io.Writer, report *report) error {
	return compareUploads(ctx, out, report, siteFiles, siteChanged, uploaders())
}

func compareUploads(ctx context.Context, out io.Writer, report *report, files, changed int, subjects []uploader) error {
	cases := []string{fmt.Sprintf("%d files to an empty bucket", files), fmt.Sprintf("the same with %d files changed", changed)}
	ours := make([]float64, len(cases))
	for _, u := range subjects {
		if u.missing != "" {
			for _, name := range cases {
				notRun(out, report, figure{Bench: "static", Case: name, Subject: u.name}, errors.New(u.missing))
			}
			continue
		}
		took, seen, err := u.measure(ctx, files, changed)
		if err != nil {
			return fmt.Errorf("%s: %w", u.name, err)
		}
		for i, name := range cases {
			f := figure{Bench: "static", Case: name, Subject: u.name, Measure: "time", Unit: "s", Value: took[i].Seconds()}
			if u.name == "lotse" {
				ours[i] = f.Value
			} else {
				f.Ratio = ratio(ours[i], f.Value)
			}
			one(out, report, f, "")
			one(out, report, figure{Bench: "static", Case: name, Subject: u.name, Measure: "requests", Value: float64(seen[i].Requests)}, "")
			one(out, report, figure{Bench: "static", Case: name, Subject: u.name, Measure: "uploads", Value: float64(seen[i].Uploads)}, "")
			one(out, report, figure{Bench: "static", Case: name, Subject: u.name, Measure: "uploaded", Unit: "MB", Value: float64(seen[i].Bytes) / 1e6}, "")
			if f.Ratio > 0 {
				fmt.Fprintf(out, "lotse ÷ %s: %.2f (target under 1)\n", u.name, f.Ratio)
			}
		}
	}
	return nil
}

// measure uploads a fresh site and a changed one to a fresh server.
func (u uploader) measure(ctx context.Context, files, changed int) (took [2]time.Duration, seen [2]asked, err error) {
	dir, err := os.MkdirTemp("", "lotse-bench-static-")
	if err != nil {
		return took, seen, err
	}
	defer os.RemoveAll(dir)
	server, address, err := startSelf("s3", childPlan{})
	if err != nil {
		return took, seen, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	endpoint := "http://" + address
	if _, err := storeOf(endpoint).CreateBucket(ctx, &s3.CreateBucketInput{Bucket: aws.String(benchBucket)}); err != nil {
		return took, seen, err
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same site in each run
	if err := writeSite(dir, files, random); err != nil {
		return took, seen, err
	}
	for i := range took {
		if i > 0 {
			if err := changeSite(dir, changed, random); err != nil {
				return took, seen, err
			}
		}
		if _, err := askedOf(ctx, endpoint); err != nil { // begins to count
			return took, seen, err
		}
		began := time.Now()
		if err := u.upload(ctx, endpoint, dir, i); err != nil {
			return took, seen, err
		}
		took[i] = time.Since(began)
		if seen[i], err = askedOf(ctx, endpoint); err != nil {
			return took, seen, err
		}
	}
	return took, seen, twice(seen)
}

// twice finds what was uploaded more than once. What Lotse keeps about a release is written when it begins and when it ends.
func twice(seen [2]asked) error {
	total := map[string]int{}
	for _, s := range seen {
		for key, n := range s.ByKey {
			total[key] += n
		}
	}
	for key, n := range total {
		once := strings.Contains(key, "/assets/") || strings.Contains(key, "/.lotse/files/") // a page is uploaded anew by those who do not copy
		if n > 1 && once {
			return fmt.Errorf("%s was uploaded %d times", key, n)
		}
	}
	return nil
}

func askedOf(ctx context.Context, endpoint string) (asked, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+askedPath, nil)
	if err != nil {
		return asked{}, err
	}
	answer, err := (&http.Client{Timeout: 10 * time.Second}).Do(q)
	if err != nil {
		return asked{}, err
	}
	defer answer.Body.Close()
	var seen asked
	return seen, json.NewDecoder(answer.Body).Decode(&seen)
}

const benchBucket = "site"

func storeOf(endpoint string) *s3.Client {
	return s3.NewFromConfig(aws.Config{Region: "eu-central-1", BaseEndpoint: &endpoint, HTTPClient: bucket.HTTPClient(32),
		Credentials: credentials.NewStaticCredentialsProvider("bench", "bench", "")}, func(o *s3.Options) { o.UsePathStyle = true })
}

// lotseUpload is all that a rollout does with files: the index, what is missing, the switch. There is no CloudFront here, and none
// beside aws s3 sync.
func lotseUpload(ctx context.Context, endpoint, dir string, release int) error {
	files := os.DirFS(dir)
	built, err := proxy.BuildIndex(files, nil)
	if err != nil {
		return err
	}
	var index []bucket.File
	for _, name := range slices.Sorted(maps.Keys(built.Files)) {
		f := built.Files[name]
		index = append(index, bucket.File{Path: name, Type: f.Type, Digest: f.Digest, Size: f.Size, Immutable: f.Immutable})
	}
	b := bucket.Open(bucket.Config{S3: storeOf(endpoint), Bucket: benchBucket})
	id := fmt.Sprintf("release-%d", release)
	if _, err := b.Put(ctx, 1, id, nil, files, index); err != nil {
		return err
	}
	return b.Serve(ctx, bucket.Target{Release: id, Rollout: id, Fence: 1})
}

// awsSync is what is typed where there is no Lotse, with the defaults of the AWS CLI.
func awsSync(ctx context.Context, endpoint, dir string, _ int) error {
	cmd := exec.CommandContext(ctx, "aws", "s3", "sync", dir, "s3://"+benchBucket, "--delete", "--only-show-errors", "--endpoint-url", endpoint)
	clean := slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "AWS_") })
	cmd.Env = append(clean, "AWS_ACCESS_KEY_ID=bench", "AWS_SECRET_ACCESS_KEY=bench", "AWS_DEFAULT_REGION=eu-central-1", "AWS_REGION=eu-central-1",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("aws s3 sync: %w\n%s", err, bytes.TrimSpace(said))
	}
	return nil
}

// writeSite writes a site of so many files.
func writeSite(dir string, files int, random *rand.Rand) error {
	for i := range files {
		name := fmt.Sprintf("assets/chunk%d-%08x.js", i, random.Uint32()|1<<28|10)
		switch {
		case i == 0:
			name = "index.html"
		case i < files*sitePages/siteFiles:
			name = fmt.Sprintf("page%d/index.html", i)
		case i < files*(sitePages+sitePictures)/siteFiles:
			name = fmt.Sprintf("img/picture%d.png", i)
		}
		if err := writeRandom(filepath.Join(dir, name), random); err != nil {
			return err
		}
	}
	return nil
}

func writeRandom(file string, random *rand.Rand) error {
	size := min(int(math.Exp(8.4+1.4*random.NormFloat64())), 4<<20)
	text := make([]byte, size)
	for i := range text {
		text[i] = byte(' ' + random.IntN(95))
	}
	return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, text, 0o644))
}

// changeSite makes of a site its next release.
func changeSite(dir string, changed int, random *rand.Rand) error {
	chunks, err := fs.Glob(os.DirFS(dir), "assets/*.js")
	if err != nil {
		return err
	}
	for i := range changed {
		if i%4 == 0 {
			name := fmt.Sprintf("page%d/index.html", i/4)
			if i == 0 {
				name = "index.html"
			}
			if err := writeRandom(filepath.Join(dir, name), random); err != nil {
				return err
			}
			continue
		}
		fresh := fmt.Sprintf("assets/next%d-%08x.js", i, random.Uint32()|1<<28|10)
		if err := errors.Join(os.Remove(filepath.Join(dir, chunks[i])), writeRandom(filepath.Join(dir, fresh), random)); err != nil {
			return err
		}
	}
	return nil
}

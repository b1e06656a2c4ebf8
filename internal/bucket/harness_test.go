package bucket_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	cftypes "github.com/aws/aws-sdk-go-v2/service/cloudfront/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/lotse-eu/lotse/internal/awsfake"
	"github.com/lotse-eu/lotse/internal/awsfake/mototest"
	"github.com/lotse-eu/lotse/internal/bucket"
)

const (
	region  = "eu-central-1"
	account = "123456789012"
)

// amazon is a place with S3 and CloudFront that a test runs on.
type amazon struct {
	config       aws.Config
	cloudfront   bucket.CloudFront
	distribution string
	buckets      int
	checksums    bool // S3 refuses bytes that are not those of the checksum
	conditions   bool // copies and deletes know conditions
	owners       bool // the account in a call must be the bucket's
}

func (a *amazon) s3() *s3.Client {
	return s3.NewFromConfig(a.config, func(o *s3.Options) { o.UsePathStyle = true })
}

// bucket makes an empty bucket.
func (a *amazon) bucket(t *testing.T) string {
	t.Helper()
	a.buckets++
	name := fmt.Sprintf("site-%d", a.buckets)
	if _, err := a.s3().CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: &name,
		CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: region}}); err != nil {
		t.Fatal(err)
	}
	return name
}

// config is for a bucket, with the clock of a test.
func (a *amazon) open(name string, clients *wrapped, change ...func(*bucket.Config)) *bucket.Bucket {
	c := bucket.Config{S3: a.s3(), CloudFront: a.cloudfront, Bucket: name, ExpectedOwner: account, Distribution: a.distribution, Parallel: 4, Poll: time.Millisecond}
	if clients != nil {
		clients.S3, clients.CloudFront = c.S3, c.CloudFront
		c.S3, c.CloudFront = clients, clients
	}
	for _, f := range change {
		f(&c)
	}
	return bucket.Open(c)
}

func sdk(endpoint string) aws.Config {
	return aws.Config{Region: region, BaseEndpoint: &endpoint, HTTPClient: bucket.HTTPClient(8), Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "example", ""),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond })
		}}
}

// fake is the FAKE of AWS that other rooms are tried on too.
func fake(t *testing.T) *amazon {
	t.Helper()
	w := awsfake.Open(t, awsfake.Options{Account: account, Region: region, Invalidation: 2 * time.Millisecond})
	a := &amazon{config: sdk(w.Endpoint()), distribution: w.Distribution(&awsfake.Distribution{}), checksums: true, conditions: true, owners: true}
	a.cloudfront = cloudfront.NewFromConfig(a.config)
	return a
}

// moto is an emulator that we did not write.
func moto(t *testing.T) *amazon {
	t.Helper()
	a := &amazon{config: mototest.Start(t, region, "nothing was tried against an S3 and a CloudFront that others wrote")}
	client := cloudfront.NewFromConfig(a.config)
	made, err := client.CreateDistribution(t.Context(), &cloudfront.CreateDistributionInput{DistributionConfig: &cftypes.DistributionConfig{
		CallerReference: aws.String("1"), Comment: aws.String("a test"), Enabled: aws.Bool(true),
		Origins: &cftypes.Origins{Quantity: aws.Int32(1), Items: []cftypes.Origin{{Id: aws.String("s3"), DomainName: aws.String("site.s3.eu-central-1.amazonaws.com"),
			S3OriginConfig: &cftypes.S3OriginConfig{OriginAccessIdentity: aws.String("")}}}},
		DefaultCacheBehavior: &cftypes.DefaultCacheBehavior{TargetOriginId: aws.String("s3"), ViewerProtocolPolicy: cftypes.ViewerProtocolPolicyRedirectToHttps},
	}})
	if err != nil {
		t.Fatal(err)
	}
	a.cloudfront, a.distribution = client, *made.Distribution.Id
	return a
}

// wrapped counts calls, calls back after each, and can fail like a process that ends: at the call of number dies and all after it.
type wrapped struct {
	bucket.S3
	bucket.CloudFront
	mu    sync.Mutex
	calls []string // "PutObject assets/a.js"
	dies  int      // 0: never
	after bool     // the call of that number is carried out, its answer is lost
	then  func(call string)
}

var errKilled = errors.New("killed")

// do carries a call out, unless the process has ended.
func do[Out any](w *wrapped, name, key string, call func() (Out, error)) (out Out, err error) {
	w.mu.Lock()
	n := len(w.calls) + 1
	dead := w.dies > 0 && (n > w.dies || n == w.dies && !w.after)
	if !dead || n == w.dies {
		w.calls = append(w.calls, name+" "+key)
	}
	w.mu.Unlock()
	if dead {
		return out, errKilled
	}
	if out, err = call(); w.then != nil {
		w.then(name + " " + key)
	}
	if n == w.dies {
		var none Out
		return none, errKilled
	}
	return out, err
}

// count is how many calls begin so.
func (w *wrapped) count(prefix string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		if strings.HasPrefix(c, prefix) {
			n++
		}
	}
	return n
}

func (w *wrapped) GetObject(ctx context.Context, in *s3.GetObjectInput, o ...func(*s3.Options)) (*s3.GetObjectOutput, error) {
	return do(w, "GetObject", *in.Key, func() (*s3.GetObjectOutput, error) { return w.S3.GetObject(ctx, in, o...) })
}

func (w *wrapped) HeadObject(ctx context.Context, in *s3.HeadObjectInput, o ...func(*s3.Options)) (*s3.HeadObjectOutput, error) {
	return do(w, "HeadObject", *in.Key, func() (*s3.HeadObjectOutput, error) { return w.S3.HeadObject(ctx, in, o...) })
}

func (w *wrapped) PutObject(ctx context.Context, in *s3.PutObjectInput, o ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	return do(w, "PutObject", *in.Key, func() (*s3.PutObjectOutput, error) { return w.S3.PutObject(ctx, in, o...) })
}

func (w *wrapped) CopyObject(ctx context.Context, in *s3.CopyObjectInput, o ...func(*s3.Options)) (*s3.CopyObjectOutput, error) {
	return do(w, "CopyObject", *in.Key, func() (*s3.CopyObjectOutput, error) { return w.S3.CopyObject(ctx, in, o...) })
}

func (w *wrapped) DeleteObjects(ctx context.Context, in *s3.DeleteObjectsInput, o ...func(*s3.Options)) (*s3.DeleteObjectsOutput, error) {
	return do(w, "DeleteObjects", *in.Delete.Objects[0].Key, func() (*s3.DeleteObjectsOutput, error) { return w.S3.DeleteObjects(ctx, in, o...) })
}

func (w *wrapped) ListObjectsV2(ctx context.Context, in *s3.ListObjectsV2Input, o ...func(*s3.Options)) (*s3.ListObjectsV2Output, error) {
	return do(w, "ListObjectsV2", *in.Bucket, func() (*s3.ListObjectsV2Output, error) { return w.S3.ListObjectsV2(ctx, in, o...) })
}

func (w *wrapped) CreateInvalidation(ctx context.Context, in *cloudfront.CreateInvalidationInput, o ...func(*cloudfront.Options)) (*cloudfront.CreateInvalidationOutput, error) {
	return do(w, "CreateInvalidation", strings.Join(in.InvalidationBatch.Paths.Items, " "), func() (*cloudfront.CreateInvalidationOutput, error) {
		return w.CloudFront.CreateInvalidation(ctx, in, o...)
	})
}

func (w *wrapped) GetInvalidation(ctx context.Context, in *cloudfront.GetInvalidationInput, o ...func(*cloudfront.Options)) (*cloudfront.GetInvalidationOutput, error) {
	return do(w, "GetInvalidation", *in.Id, func() (*cloudfront.GetInvalidationOutput, error) { return w.CloudFront.GetInvalidation(ctx, in, o...) })
}

// site is a release: its files, and the index that says what they are.
type site struct {
	id    string
	files fstest.MapFS
	index []bucket.File
}

// release makes one. Files below assets/ never change.
func release(id string, files map[string]string) site {
	s := site{id: id, files: fstest.MapFS{}}
	for name, text := range files {
		s.files[name] = &fstest.MapFile{Data: []byte(text)}
		sum := sha256.Sum256([]byte(text))
		kind := "text/html; charset=utf-8"
		if strings.HasSuffix(name, ".js") {
			kind = "text/javascript; charset=utf-8"
		}
		s.index = append(s.index, bucket.File{Path: name, Type: kind, Digest: "sha256:" + hex.EncodeToString(sum[:]), Size: int64(len(text)), Immutable: strings.HasPrefix(name, "assets/")})
	}
	return s
}

// Two releases of one app: they share a chunk and a picture, and have entry files that the other does not have.
func before() site {
	return release("before", map[string]string{"index.html": "<script src=assets/one-11111111.js></script>", "about/index.html": "<script src=assets/shared-00000000.js></script>",
		"robots.txt": "all", "old.html": "<b>old</b> <script src=assets/one-11111111.js></script>", "assets/one-11111111.js": "one", "assets/shared-00000000.js": "shared"})
}

func after() site {
	return release("after", map[string]string{"index.html": "<script src=assets/two-22222222.js></script>", "about/index.html": "<script src=assets/shared-00000000.js></script>",
		"robots.txt": "all", "new.html": "<b>new</b> <script src=assets/two-22222222.js></script>", "sw.js": "precache new.html assets/two-22222222.js", "assets/two-22222222.js": "two", "assets/shared-00000000.js": "shared"})
}

func put(t *testing.T, b *bucket.Bucket, fence int64, s site) bucket.Added {
	t.Helper()
	added, err := b.Put(t.Context(), fence, s.id, nil, s.files, s.index)
	if err != nil {
		t.Fatal(err)
	}
	return added
}

func serve(t *testing.T, b *bucket.Bucket, fence int64, s site) {
	t.Helper()
	if err := b.Serve(t.Context(), bucket.Target{Release: s.id, Rollout: "r-" + s.id, Fence: fence}); err != nil {
		t.Fatal(err)
	}
}

// read is what a browser would get of a bucket, "" for nothing.
func (a *amazon) read(t *testing.T, name, key string) string {
	out, err := a.s3().GetObject(context.WithoutCancel(t.Context()), &s3.GetObjectInput{Bucket: &name, Key: &key})
	if err != nil {
		return ""
	}
	defer out.Body.Close()
	text, _ := io.ReadAll(out.Body)
	return string(text)
}

// serves compares what is served with a release, in both directions.
func (a *amazon) serves(t *testing.T, name string, s site) {
	t.Helper()
	for _, f := range s.index {
		if got := a.read(t, name, f.Path); got != string(s.files[f.Path].Data) {
			t.Errorf("%s is %q", f.Path, got)
		}
		head, err := a.s3().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &name, Key: &f.Path})
		cache := map[bool]string{true: "public, max-age=31536000, immutable", false: "no-cache"}[f.Immutable]
		if err != nil || aws.ToString(head.CacheControl) != cache || aws.ToString(head.ContentType) != f.Type {
			t.Errorf("%s: %v, its headers are not those of the proxy", f.Path, err)
		}
	}
	for _, key := range a.keys(t, name) {
		if _, has := s.files[key]; !has && !strings.HasPrefix(key, ".lotse/") && !strings.HasPrefix(key, "assets/") {
			t.Errorf("%s is served, and is not of %s", key, s.id)
		}
	}
}

func (a *amazon) keys(t *testing.T, name string) (keys []string) {
	t.Helper()
	out, err := a.s3().ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &name})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range out.Contents {
		keys = append(keys, *o.Key)
	}
	return keys
}

// whole looks as a browser does: whatever page or service worker is there, what it names is there.
func (a *amazon) whole(t *testing.T, name, when string) {
	t.Helper()
	for _, page := range []string{"index.html", "about/index.html", "old.html", "new.html", "sw.js"} {
		for _, word := range strings.FieldsFunc(a.read(t, name, page), func(r rune) bool { return r == ' ' || r == '=' || r == '>' }) {
			if (strings.HasPrefix(word, "assets/") || strings.HasSuffix(word, ".html")) && a.read(t, name, word) == "" {
				t.Errorf("after %s, %s needs %s, which is not there", when, page, word)
			}
		}
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

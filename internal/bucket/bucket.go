package bucket

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"regexp"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/cloudfront"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// S3 is what of S3 is called; *s3.Client is one.
type S3 interface {
	GetObject(context.Context, *s3.GetObjectInput, ...func(*s3.Options)) (*s3.GetObjectOutput, error)
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	PutObject(context.Context, *s3.PutObjectInput, ...func(*s3.Options)) (*s3.PutObjectOutput, error)
	CopyObject(context.Context, *s3.CopyObjectInput, ...func(*s3.Options)) (*s3.CopyObjectOutput, error)
	DeleteObjects(context.Context, *s3.DeleteObjectsInput, ...func(*s3.Options)) (*s3.DeleteObjectsOutput, error)
	ListObjectsV2(context.Context, *s3.ListObjectsV2Input, ...func(*s3.Options)) (*s3.ListObjectsV2Output, error)
}

// CloudFront is what of CloudFront is called; *cloudfront.Client is one.
type CloudFront interface {
	CreateInvalidation(context.Context, *cloudfront.CreateInvalidationInput, ...func(*cloudfront.Options)) (*cloudfront.CreateInvalidationOutput, error)
	GetInvalidation(context.Context, *cloudfront.GetInvalidationInput, ...func(*cloudfront.Options)) (*cloudfront.GetInvalidationOutput, error)
}

// Config says which bucket, and how it is worked with.
type Config struct {
	S3            S3 // HTTPClient gives it the connections that Parallel needs
	CloudFront    CloudFront
	Bucket        string
	ExpectedOwner string           // twelve digits of the account that the bucket must belong to; empty: not checked
	Distribution  string           // id of the distribution in front; empty: there is none, and nothing is invalidated
	Parallel      int              // calls at a time, default 32
	Keep          time.Duration    // how long after it was served a removed release's files stay for old tabs, default 7 days
	Poll          time.Duration    // how soon an invalidation is asked for again at first, default 1 s; it grows to 10 s
	Now           func() time.Time // default time.Now
	Log           *slog.Logger     // default: nothing is logged
}

// Defaults.
const (
	defaultParallel = 32
	defaultKeep     = 7 * 24 * time.Hour
	defaultPoll     = time.Second
	longestPoll     = 10 * time.Second

	// attempts is how often the SDK asks in all when S3 says SlowDown, with back-off and jitter of its own; its default of 3 is too
	// few for some thousand files in a row.
	attempts = 8
)

// Bucket is one bucket with one distribution in front. It is safe for concurrent use; it holds nothing but what it has read, by its
// ETag.
type Bucket struct {
	c    Config
	mu   sync.Mutex
	read map[string]cached // manifests, by key
}

// Open makes no call.
func Open(c Config) *Bucket {
	if c.Parallel <= 0 {
		c.Parallel = defaultParallel
	}
	if c.Keep <= 0 {
		c.Keep = defaultKeep
	}
	if c.Poll <= 0 {
		c.Poll = defaultPoll
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Bucket{c: c, read: map[string]cached{}}
}

// HTTPClient is a client for the SDK that keeps as many connections as calls go at a time; the SDK's own keeps 10 for a host.
func HTTPClient(parallel int) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = max(parallel, t.MaxIdleConnsPerHost)
		t.MaxIdleConns = max(2*parallel, t.MaxIdleConns)
	})
}

// File is one file of a release.
type File struct {
	Path      string `json:"path"`   // slash path within the release and the site, without leading slash
	Type      string `json:"type"`   // media type, with charset for text
	Digest    string `json:"digest"` // "sha256:<hex>"
	Size      int64  `json:"size"`
	Immutable bool   `json:"immutable,omitempty"` // never changes under its name
}

// Cache-Control as Lotse's proxy gives it for the same files.
const (
	cacheForever = "public, max-age=31536000, immutable"
	cacheAsk     = "no-cache"
)

// CacheControl is the header with which the file is served.
func (f File) CacheControl() string {
	if f.Immutable {
		return cacheForever
	}
	return cacheAsk
}

// hex is the digest as it stands in names.
func (f File) hex() string { return strings.TrimPrefix(f.Digest, "sha256:") }

// key is where the bytes of a file are put: under their own name, or aside.
func (f File) key() string {
	if f.Immutable {
		return f.Path
	}
	return asideDir + f.hex()
}

// Names in the bucket.
const (
	ours       = ".lotse/"
	asideDir   = ours + "files/"
	releaseDir = ours + "releases/"
	servingKey = ours + "serving.json"
)

// maxObject is what one PutObject takes, in bytes (S3 User Guide, "Uploading objects": 5 GB). maxKey is the length of a key in bytes.
const (
	maxObject = 5 << 30
	maxKey    = 1024
)

var (
	validID     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$`)
	validDigest = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// problem says why a release cannot be put; every sentence begins with what it is about.
func problem(id string, index []File) error {
	if !validID.MatchString(id) {
		return fmt.Errorf("%w: %q is not the name of a release", ErrInvalid, id)
	}
	seen := map[string]bool{}
	for _, f := range index {
		switch {
		case f.Path == "" || path.Clean("/"+f.Path) != "/"+f.Path || len(f.Path) > maxKey || !utf8.ValidString(f.Path):
			return fmt.Errorf("%w: %q is not a path that S3 and browsers agree on", ErrInvalid, f.Path)
		case f.Path == strings.TrimSuffix(ours, "/") || strings.HasPrefix(f.Path, ours):
			return fmt.Errorf("%w: %s: what begins with %s is Lotse's own", ErrInvalid, f.Path, ours)
		case !validDigest.MatchString(f.Digest):
			return fmt.Errorf("%w: %s has no SHA-256 digest", ErrInvalid, f.Path)
		case f.Size < 0 || f.Size > maxObject:
			return &hinted{fmt.Errorf("%w: %s has %d bytes, and S3 takes at most %d at once", ErrInvalid, f.Path, f.Size, int64(maxObject)), "take it out of the release"}
		case f.Type == "":
			return fmt.Errorf("%w: %s has no media type", ErrInvalid, f.Path)
		case seen[f.Path]:
			return fmt.Errorf("%w: %s is there twice", ErrInvalid, f.Path)
		}
		seen[f.Path] = true
	}
	return nil
}

package bucket_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/bucket"
)

// twoAtOnce are two calls of one controller for the same, and for different releases.
func twoAtOnce(t *testing.T, a *amazon) {
	name := a.bucket(t)
	b := a.open(name, nil)
	errs := make(chan error)
	for range 3 {
		go func() {
			s := before()
			_, err := b.Put(t.Context(), 1, s.id, nil, s.files, s.index)
			if err == nil {
				err = b.Serve(t.Context(), bucket.Target{Release: s.id, Rollout: "r", Fence: 1})
			}
			errs <- err
		}()
	}
	for range 3 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	a.serves(t, name, before())
}

func TestABucketThatIsNotOurs(t *testing.T) {
	a := fake(t)
	name := a.bucket(t)
	s := before()
	other := a.open(name, nil, func(c *bucket.Config) { c.ExpectedOwner = "999999999999" })
	_, err := other.Put(t.Context(), 1, s.id, nil, s.files, s.index)
	if !errors.Is(err, bucket.ErrDenied) || !strings.Contains(err.Error(), "s3:GetObject") {
		t.Errorf("Put: %v", err)
	}
	hint, ok := errors.AsType[interface {
		error
		Hint() string
	}](err)
	if !ok || !strings.Contains(hint.Hint(), "another account than 999999999999") {
		t.Errorf("the hint does not say whose it may be: %v", err)
	}
	if keys := a.keys(t, name); len(keys) > 0 {
		t.Errorf("it has %q", keys)
	}
	gone := a.open("nowhere", nil)
	if _, err := gone.Releases(t.Context()); !errors.Is(err, bucket.ErrMissing) {
		t.Errorf("no bucket: %v", err)
	}
}

// Every call says whose the bucket must be.
func TestEveryCallNamesTheOwner(t *testing.T) {
	a := fake(t)
	name := a.bucket(t)
	behind := a.config.HTTPClient
	a.config.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("X-Amz-Expected-Bucket-Owner") != account {
			t.Errorf("%s %s does not", r.Method, r.URL.Path)
		}
		return behind.Do(r)
	})
	b := bucket.Open(bucket.Config{S3: a.s3(), CloudFront: a.cloudfront, Distribution: a.distribution, Bucket: name, ExpectedOwner: account, Poll: time.Millisecond, Log: discard()})
	put(t, b, 1, before())
	serve(t, b, 1, before())
	put(t, b, 1, after())
	serve(t, b, 1, after())
	if err := b.Remove(t.Context(), 1, "before"); err != nil {
		t.Error(err)
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

func TestThrottlingIsWaitedOut(t *testing.T) {
	a := fake(t)
	name := a.bucket(t)
	asked, behind := map[string]int{}, a.config.HTTPClient
	a.config.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
		key := r.Method + r.URL.String()
		if asked[key]++; asked[key] <= 4 {
			body := "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
			return &http.Response{StatusCode: http.StatusServiceUnavailable, Header: http.Header{}, Body: readCloser{strings.NewReader(body)}, Request: r}, nil
		}
		return behind.Do(r)
	})
	b := a.open(name, nil, func(c *bucket.Config) { c.Parallel = 1 })
	s := release("r", map[string]string{"index.html": "1", "assets/a-12345678.js": "2"})
	put(t, b, 1, s)
	serve(t, b, 1, s)
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// What never ends is an error that says "later", and one of a lost network says nothing of addresses.
func TestErrorsSayWhatToDo(t *testing.T) {
	a := fake(t)
	name := a.bucket(t)
	for code, want := range map[string]error{"SlowDown": bucket.ErrUnavailable, "ExpiredToken": bucket.ErrDenied, "AccessDenied": bucket.ErrDenied, "InternalError": bucket.ErrUnavailable,
		"NoSuchBucket": bucket.ErrMissing, "": bucket.ErrUnavailable} {
		a.config.HTTPClient = doer(func(r *http.Request) (*http.Response, error) {
			if code == "" {
				return nil, errors.New("dial tcp 10.1.2.3:443: connection refused")
			}
			body := "<Error><Code>" + code + "</Code><Message>User: arn:aws:sts::1:assumed-role/x/eve@example.invalid</Message></Error>"
			return &http.Response{StatusCode: http.StatusBadRequest, Header: http.Header{}, Body: readCloser{strings.NewReader(body)}, Request: r}, nil
		})
		b := a.open(name, nil)
		_, err := b.Releases(t.Context())
		if !errors.Is(err, want) || strings.Contains(err.Error(), "10.1") || strings.Contains(err.Error(), "@") || !strings.Contains(err.Error(), "s3:ListBucket") {
			t.Errorf("%s: %v", code, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.open(name, nil).Releases(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A file has the same Cache-Control here and behind Lotse's own proxy.
func TestCacheControlIsTheProxys(t *testing.T) {
	source, err := parser.ParseFile(token.NewFileSet(), "../proxy/static.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	proxys := map[string]string{}
	ast.Inspect(source, func(n ast.Node) bool {
		if v, is := n.(*ast.ValueSpec); is && len(v.Values) == 1 {
			if text, is := v.Values[0].(*ast.BasicLit); is {
				proxys[v.Names[0].Name], _ = strconv.Unquote(text.Value)
			}
		}
		return true
	})
	a := fake(t)
	name := a.bucket(t)
	b := a.open(name, nil)
	put(t, b, 1, before())
	serve(t, b, 1, before())
	for key, want := range map[string]string{"index.html": proxys["cacheAsk"], "assets/one-11111111.js": proxys["cacheForever"]} {
		head, err := a.s3().HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: &name, Key: &key})
		if err != nil || want == "" || aws.ToString(head.CacheControl) != want {
			t.Errorf("%s has Cache-Control %q, the proxy gives %q (%v)", key, aws.ToString(head.CacheControl), want, err)
		}
	}
}

func TestBadIndexes(t *testing.T) {
	a := fake(t)
	name := a.bucket(t)
	b := a.open(name, nil)
	good := release("good", map[string]string{"index.html": "1"}).index[0]
	for what, change := range map[string]func(*bucket.File){
		"no path": func(f *bucket.File) { f.Path = "" }, "a way out": func(f *bucket.File) { f.Path = "../index.html" }, "a slash first": func(f *bucket.File) { f.Path = "/index.html" },
		"Lotse's own": func(f *bucket.File) { f.Path = ".lotse/serving.json" }, "a long path": func(f *bucket.File) { f.Path = strings.Repeat("a", 1025) },
		"no digest": func(f *bucket.File) { f.Digest = "" }, "too large": func(f *bucket.File) { f.Size = 6 << 30 }, "no type": func(f *bucket.File) { f.Type = "" },
	} {
		f := good
		change(&f)
		if _, err := b.Put(t.Context(), 1, "id", nil, nil, []bucket.File{f}); !errors.Is(err, bucket.ErrInvalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, id := range []string{"", "a/b", "..", strings.Repeat("a", 201)} {
		if _, err := b.Put(t.Context(), 1, id, nil, nil, []bucket.File{good}); !errors.Is(err, bucket.ErrInvalid) {
			t.Errorf("the name %q: %v", id, err)
		}
	}
	if _, err := b.Put(t.Context(), 1, "id", nil, nil, []bucket.File{good, good}); !errors.Is(err, bucket.ErrInvalid) {
		t.Errorf("a file twice: %v", err)
	}
	if keys := a.keys(t, name); len(keys) > 0 {
		t.Errorf("something was put: %q", keys)
	}
}

func TestDamagedManifestsAreSaid(t *testing.T) {
	a := fake(t)
	for key, text := range map[string]string{".lotse/releases/before.json.gz": "{", ".lotse/releases/w.json.gz": packed("{"), ".lotse/releases/x.json.gz": packed(`{"id":"y"}`),
		".lotse/releases/z.json.gz": packed(`{"id":"z","format":99}`), ".lotse/serving.json": "["} {
		name := a.bucket(t)
		if _, err := a.s3().PutObject(t.Context(), &s3.PutObjectInput{Bucket: &name, Key: &key, Body: strings.NewReader(text)}); err != nil {
			t.Fatal(err)
		}
		s := before()
		if _, err := a.open(name, nil).Put(t.Context(), 1, s.id, nil, s.files, s.index); !errors.Is(err, bucket.ErrDamaged) {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func packed(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

func TestManyChangesAreOneInvalidation(t *testing.T) {
	a := fake(t)
	name := a.bucket(t)
	files := map[string]string{}
	for i := range 1100 {
		files["p"+strings.Repeat("a", i%30)+string(rune('a'+i%26))+strings.Repeat("b", i/30)+".txt"] = "x"
	}
	var log bytes.Buffer
	seen := &wrapped{}
	b := a.open(name, seen, func(c *bucket.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	s := release("many", files)
	put(t, b, 1, s)
	if n := seen.count("PutObject .lotse/files/"); n != 1 {
		t.Errorf("the same bytes were uploaded %d times", n)
	}
	serve(t, b, 1, s)
	if got := invalidated(seen.calls); len(files) > 1000 && !slices.Equal(got, []string{"/*"}) {
		t.Errorf("%d files, invalidated %d paths", len(files), len(got))
	}
	if !strings.Contains(log.String(), "files=1") {
		t.Errorf("the log is %s", log.String())
	}
}

package awsfake

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // one of the checksums that S3 takes; it protects nothing here
	"crypto/sha256"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// objects is S3: gofakes3 in memory. Its lock makes a conditional PUT one step, as it is on S3.
type objects struct {
	mu      sync.RWMutex
	backend gofakes3.Backend
}

func (w *World) openS3() {
	backend := s3mem.New()
	w.objects = &objects{backend: backend}
	w.s3 = gofakes3.New(backend).Server()
}

// Bucket makes a bucket, as a stack or a person would have.
func (w *World) Bucket(name string) {
	if err := w.objects.backend.CreateBucket(name); err != nil {
		w.t.Errorf("awsfake: bucket %s: %v", name, err)
	}
}

// ForeignBucket makes a bucket that belongs to another account: every call for it is 403.
func (w *World) ForeignBucket(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.foreign[name] = true
}

// Object reads what a bucket holds under key, nil where there is nothing.
func (w *World) Object(bucket, key string) []byte {
	return w.objects.bytes(bucket, key)
}

// RemoveObject deletes what lies under key, as somebody else would.
func (w *World) RemoveObject(bucket, key string) {
	w.objects.mu.Lock()
	defer w.objects.mu.Unlock()
	w.objects.remove(bucket, key)
}

func (o *objects) bytes(bucket, key string) []byte {
	object, err := o.backend.GetObject(bucket, key, nil)
	if err != nil {
		return nil
	}
	defer func() { _ = object.Contents.Close() }()
	raw, _ := io.ReadAll(object.Contents)
	return raw
}

// storage is a bucket that Beanstalk makes for itself, once.
func (w *World) storage(bucket string) { _ = w.objects.backend.CreateBucket(bucket) }

func (o *objects) size(bucket, key string) (int64, bool) {
	object, err := o.backend.HeadObject(bucket, key)
	if err != nil || object.IsDeleteMarker {
		return 0, false
	}
	return object.Size, true
}

func (o *objects) remove(bucket, key string) { _, _ = o.backend.DeleteObject(bucket, key) }

func (o *objects) put(bucket, key, body string) {
	_, _ = o.backend.PutObject(bucket, key, map[string]string{}, strings.NewReader(body), int64(len(body)), nil)
}

func (w *World) serveS3(rw http.ResponseWriter, r *http.Request, region string) {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	w.mu.Lock()
	call := w.record(Call{Service: "s3", Action: s3Action(r, bucket, key), Resource: strings.Trim(bucket+"/"+key, "/"), Region: region})
	fault, foreign := w.strikes(call), w.foreign[bucket] || !w.owns(r)
	w.mu.Unlock()
	switch {
	case fault != nil && fault.Done:
		w.s3Do(discardAnswer{}, r, bucket, key)
		w.strike(rw, r, nil, query, fault, call)
	case fault != nil:
		w.strike(rw, r, nil, query, fault, call)
	case foreign:
		w.setErr(call, accessDenied)
		answerS3Error(rw, r, &apiError{Code: accessDenied, Message: "Access Denied", HTTP: http.StatusForbidden})
	default:
		watched := &statusWriter{ResponseWriter: rw}
		w.s3Do(watched, r, bucket, key)
		if watched.status >= 400 {
			w.setErr(call, fmt.Sprint(watched.status))
		}
	}
}

// s3Do carries a request out. Writers are alone, so that no write comes between a condition and its PUT.
func (w *World) s3Do(rw http.ResponseWriter, r *http.Request, bucket, key string) {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		w.objects.mu.RLock()
		defer w.objects.mu.RUnlock()
	} else {
		w.objects.mu.Lock()
		defer w.objects.mu.Unlock()
	}
	if refusal := w.objects.condition(r, bucket, key); refusal != nil {
		answerS3Error(rw, r, refusal)
		return
	}
	if refusal := checksum(r); refusal != nil {
		answerS3Error(rw, r, refusal)
		return
	}
	if r.Method == http.MethodPut {
		r.Header.Del("If-Match")
		r.Header.Del("If-None-Match")
		r.Header.Set(heldCacheControl, r.Header.Get("Cache-Control"))
	}
	answer := cacheControl{rw}
	w.s3.ServeHTTP(answer, r)
	answer.settle() // where nothing was written
}

// heldCacheControl is where Cache-Control of an object is kept: gofakes3 drops that header, and keeps those of this kind.
const heldCacheControl = "X-Amz-Fake-Cache-Control"

// cacheControl gives an answer the Cache-Control that its object was put with.
type cacheControl struct{ http.ResponseWriter }

func (c cacheControl) settle() {
	if held := c.Header().Get(heldCacheControl); held != "" {
		c.Header().Set("Cache-Control", held)
	}
	c.Header().Del(heldCacheControl)
}

func (c cacheControl) WriteHeader(status int) {
	c.settle()
	c.ResponseWriter.WriteHeader(status)
}

func (c cacheControl) Write(p []byte) (int, error) {
	c.settle()
	return c.ResponseWriter.Write(p)
}

// owns reports whether a request is for buckets of this account, where it says whose they must be.
func (w *World) owns(r *http.Request) bool {
	for _, name := range []string{"X-Amz-Expected-Bucket-Owner", "X-Amz-Source-Expected-Bucket-Owner"} {
		if owner := r.Header.Get(name); owner != "" && owner != w.options.Account {
			return false
		}
	}
	return true
}

// checksum holds a body against the checksum in its head, where one of those that S3 knows is there; gofakes3 does that for
// Content-MD5 only. Checksums in trailers are not looked at.
func checksum(r *http.Request) *apiError {
	for name, sum := range map[string]hash.Hash{"X-Amz-Checksum-Sha256": sha256.New(), "X-Amz-Checksum-Crc32": crc32.NewIEEE(),
		"X-Amz-Checksum-Sha1": sha1.New()} { //nolint:gosec // one of the checksums that S3 takes; it protects nothing here
		said := r.Header.Get(name)
		if said == "" || r.Method != http.MethodPut {
			continue
		}
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			return &apiError{Code: "IncompleteBody", Message: "You did not provide the number of bytes specified by the Content-Length HTTP header"}
		}
		r.Body = io.NopCloser(bytes.NewReader(raw))
		sum.Write(raw)
		if base64.StdEncoding.EncodeToString(sum.Sum(nil)) != said {
			return &apiError{Code: "BadDigest", Message: "The " + strings.TrimPrefix(name, "X-Amz-Checksum-") + " you specified did not match the calculated checksum."}
		}
	}
	return nil
}

// condition judges If-Match and If-None-Match of a PUT: 412 where the object is another or is there already, 404 where it
// is gone. S3 knows no other value than * for If-None-Match.
func (o *objects) condition(r *http.Request, bucket, key string) *apiError {
	match, none := r.Header.Get("If-Match"), r.Header.Get("If-None-Match")
	if r.Method != http.MethodPut || match == "" && none == "" {
		return nil
	}
	if none != "" && none != "*" {
		return &apiError{Code: "NotImplemented", Message: "A header you provided implies functionality that is not implemented", HTTP: http.StatusNotImplemented}
	}
	failed := &apiError{Code: "PreconditionFailed", Message: "At least one of the pre-conditions you specified did not hold", HTTP: http.StatusPreconditionFailed}
	object, err := o.backend.HeadObject(bucket, key)
	there := err == nil && !object.IsDeleteMarker
	switch {
	case none != "" && there:
		return failed
	case match != "" && !there:
		return &apiError{Code: "NoSuchKey", Message: "The specified key does not exist.", HTTP: http.StatusNotFound}
	case match != "" && strings.Trim(match, `"`) != fmt.Sprintf("%x", object.Hash):
		return failed
	}
	return nil
}

func answerS3Error(rw http.ResponseWriter, r *http.Request, refusal *apiError) {
	rw.Header().Set("Content-Type", "application/xml")
	rw.WriteHeader(refusal.status())
	if r.Method == http.MethodHead {
		return
	}
	_ = xml.NewEncoder(rw).Encode(struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: refusal.Code, Message: refusal.Message})
}

// s3Action names a REST request as the API and IAM do, for those that Lotse's rooms make.
func s3Action(r *http.Request, bucket, key string) string {
	asked := r.URL.Query()
	if bucket == "" {
		return "ListBuckets"
	}
	for _, sub := range []struct{ name, action string }{
		{"tagging", "Tagging"}, {"versioning", "BucketVersioning"}, {"policy", "BucketPolicy"}, {"encryption", "BucketEncryption"}, {"location", "BucketLocation"},
		{"publicAccessBlock", "PublicAccessBlock"}, {"lifecycle", "BucketLifecycleConfiguration"}, {"cors", "BucketCors"}, {"acl", "Acl"}, {"versions", "ObjectVersions"},
	} {
		if asked.Has(sub.name) {
			return map[string]string{"GET": "Get", "PUT": "Put", "DELETE": "Delete"}[r.Method] + sub.action
		}
	}
	switch {
	case asked.Has("uploads"):
		return "CreateMultipartUpload"
	case asked.Has("delete"):
		return "DeleteObjects"
	case asked.Has("uploadId"):
		return map[string]string{"PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload", "GET": "ListParts"}[r.Method]
	case key == "" && r.Method == http.MethodGet:
		return "ListObjectsV2"
	case key == "":
		return map[string]string{"HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket"}[r.Method]
	case r.Header.Get("X-Amz-Copy-Source") != "":
		return "CopyObject"
	}
	return map[string]string{"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject", "POST": "PostObject"}[r.Method]
}

// statusWriter remembers what was answered.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// discardAnswer takes an answer that is lost on the way.
type discardAnswer struct{}

func (discardAnswer) Header() http.Header         { return http.Header{} }
func (discardAnswer) Write(p []byte) (int, error) { return len(p), nil }
func (discardAnswer) WriteHeader(int)             {}

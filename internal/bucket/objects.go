package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// object is what a listing says of one object.
type object struct {
	size int64
	etag string
}

// digestName is the name under which an object's own SHA-256 digest lies in its metadata. The checksum that S3 keeps says the same,
// but is not told to everybody who may read the object; and both were verified when it was put.
const digestName = "lotse-sha256"

func (b *Bucket) owner() *string {
	if b.c.ExpectedOwner == "" {
		return nil
	}
	return &b.c.ExpectedOwner
}

func patient(o *s3.Options) { o.RetryMaxAttempts = attempts }

// list sweeps the whole bucket, 1,000 names for each call.
func (b *Bucket) list(ctx context.Context) (map[string]object, error) {
	found := map[string]object{}
	in := &s3.ListObjectsV2Input{Bucket: &b.c.Bucket, ExpectedBucketOwner: b.owner()}
	for {
		out, err := b.c.S3.ListObjectsV2(ctx, in, patient)
		if err != nil {
			return nil, b.failed(ctx, "s3:ListBucket", b.c.Bucket, err)
		}
		for _, o := range out.Contents {
			found[aws.ToString(o.Key)] = object{aws.ToInt64(o.Size), aws.ToString(o.ETag)}
		}
		if !aws.ToBool(out.IsTruncated) {
			return found, nil
		}
		in.ContinuationToken = out.NextContinuationToken
	}
}

// linger is how long a write that S3 may have taken already is waited for after a cancel.
const linger = 2 * time.Second

// lingering is ctx for one write. A write whose answer nobody waits for could land after whatever is done next, as a file that nothing
// names or over a newer one.
func lingering(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() != nil {
		return context.WithCancel(ctx)
	}
	late, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(linger)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(context.Cause(ctx))
		case <-late.Done():
		}
	})
	return late, func() { stop(); cancel(nil) }
}

// get reads a whole object of .lotse/; errAbsent for none.
func (b *Bucket) get(ctx context.Context, key string) (data []byte, etag string, err error) {
	out, err := b.c.S3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.c.Bucket, Key: &key, ExpectedBucketOwner: b.owner()}, patient)
	if err != nil {
		return nil, "", b.failed(ctx, "s3:GetObject", key, err)
	}
	defer out.Body.Close()
	data, err = io.ReadAll(out.Body)
	return data, aws.ToString(out.ETag), b.failed(ctx, "s3:GetObject", key, err)
}

// condition is what must be so when an object is written. The zero value: nothing.
type condition struct {
	etag   string // it is this one
	absent bool   // it is not there
}

// only is the condition that an object is as it was seen.
func only(o object, there bool) condition { return condition{etag: o.etag, absent: !there} }

func (c condition) headers() (match, none *string) {
	if c.absent {
		return nil, aws.String("*")
	}
	if c.etag == "" {
		return nil, nil
	}
	return &c.etag, nil
}

// unmet makes errLost of a 404: so S3 says that what If-Match speaks of is gone, or the source of a copy. Who looks again sees which.
func (c condition) unmet(err error) error {
	if errors.Is(err, errAbsent) {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	return err
}

// put writes a small object of .lotse/ and returns its ETag; errLost when the condition does not hold.
func (b *Bucket) put(ctx context.Context, key string, data []byte, when condition) (etag string, err error) {
	ctx, end := lingering(ctx)
	defer end()
	match, none := when.headers()
	sum := sha256.Sum256(data)
	out, err := b.c.S3.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.c.Bucket, Key: &key, ExpectedBucketOwner: b.owner(),
		Body: bytes.NewReader(data), ContentType: aws.String("application/octet-stream"), CacheControl: aws.String("no-store"),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:])),
		IfMatch: match, IfNoneMatch: none}, patient)
	if err != nil {
		return "", when.unmet(b.failed(ctx, "s3:PutObject", key, err))
	}
	return aws.ToString(out.ETag), nil
}

// upload writes the bytes of a file under its key. S3 refuses other bytes than those of the digest.
func (b *Bucket) upload(ctx context.Context, f File, body io.ReadSeeker) error {
	ctx, end := lingering(ctx)
	defer end()
	key, sum := f.key(), f.base64()
	out, err := b.c.S3.PutObject(ctx, &s3.PutObjectInput{Bucket: &b.c.Bucket, Key: &key, ExpectedBucketOwner: b.owner(),
		Body: body, ContentLength: &f.Size, ContentType: &f.Type, CacheControl: aws.String(f.CacheControl()), Metadata: map[string]string{digestName: f.hex()},
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: &sum}, patient)
	if err != nil {
		return b.failed(ctx, "s3:PutObject", key, err)
	}
	return verified(f, out.ChecksumSHA256)
}

// copy puts an entry file from aside to where it is served.
func (b *Bucket) copy(ctx context.Context, f File, when condition) error {
	ctx, end := lingering(ctx)
	defer end()
	match, none := when.headers()
	out, err := b.c.S3.CopyObject(ctx, &s3.CopyObjectInput{Bucket: &b.c.Bucket, Key: &f.Path, ExpectedBucketOwner: b.owner(), ExpectedSourceBucketOwner: b.owner(),
		CopySource: aws.String(b.c.Bucket + "/" + f.key()), MetadataDirective: types.MetadataDirectiveReplace,
		ContentType: &f.Type, CacheControl: aws.String(f.CacheControl()), Metadata: map[string]string{digestName: f.hex()},
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256, IfMatch: match, IfNoneMatch: none}, patient)
	if err != nil {
		return when.unmet(b.failed(ctx, "s3:PutObject", f.Path, err))
	}
	if out.CopyObjectResult == nil {
		return nil
	}
	return verified(f, out.CopyObjectResult.ChecksumSHA256)
}

// verified compares what S3 says that it holds; nil where it says nothing.
func verified(f File, sum *string) error {
	if sum != nil && *sum != f.base64() {
		return fmt.Errorf("%w: S3 holds other bytes of %s than the release has", ErrDamaged, f.Path)
	}
	return nil
}

func (f File) base64() string {
	raw, _ := hex.DecodeString(f.hex()) // problem has looked at it
	return base64.StdEncoding.EncodeToString(raw)
}

// holds asks whether the object of that key has the bytes of a file, and, as one that is served, also its headers.
func (b *Bucket) holds(ctx context.Context, key string, f File, headers bool) (bool, error) {
	out, err := b.c.S3.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.c.Bucket, Key: &key, ExpectedBucketOwner: b.owner(), ChecksumMode: types.ChecksumModeEnabled}, patient)
	if err != nil {
		if err = b.failed(ctx, "s3:GetObject", key, err); errors.Is(err, errAbsent) {
			return false, nil
		}
		return false, err
	}
	if headers && (aws.ToString(out.ContentType) != f.Type || aws.ToString(out.CacheControl) != f.CacheControl()) {
		return false, nil
	}
	if out.ChecksumSHA256 != nil {
		return *out.ChecksumSHA256 == f.base64(), nil
	}
	return aws.ToInt64(out.ContentLength) == f.Size && out.Metadata[digestName] == f.hex(), nil
}

// maxDelete is how many objects one DeleteObjects takes.
const maxDelete = 1000

// remove deletes objects in the order given, 1,000 at a time. One that is gone is fine.
func (b *Bucket) remove(ctx context.Context, keys []string) error {
	for len(keys) > 0 {
		n := min(len(keys), maxDelete)
		in := &s3.DeleteObjectsInput{Bucket: &b.c.Bucket, ExpectedBucketOwner: b.owner(), Delete: &types.Delete{Quiet: aws.Bool(true)}}
		for _, key := range keys[:n] {
			in.Delete.Objects = append(in.Delete.Objects, types.ObjectIdentifier{Key: aws.String(key)})
		}
		out, err := b.c.S3.DeleteObjects(ctx, in, patient)
		if err != nil {
			return b.failed(ctx, "s3:DeleteObject", b.c.Bucket, err)
		}
		for _, e := range out.Errors {
			return b.failed(ctx, "s3:DeleteObject", aws.ToString(e.Key), &smithy.GenericAPIError{Code: aws.ToString(e.Code)})
		}
		keys = keys[n:]
	}
	return nil
}

package share

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// objects is the bucket.
type objects struct {
	s3      *s3.Client
	bucket  string
	account string
}

// object is one that was read.
type object struct {
	data    []byte
	etag    string
	age     time.Duration // since it was written, by the clock of S3, to the second; 0 where that is not known
	written time.Time
}

// condition is what must be so when an object is written. The zero value: nothing.
type condition struct {
	etag   string
	absent bool
}

var (
	errAbsent = errors.New("there is no such object")
	errLost   = errors.New("somebody else has written it") // a condition did not hold
)

func (o *objects) get(ctx context.Context, key string) (object, error) {
	out, err := o.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.bucket, Key: &key, ExpectedBucketOwner: &o.account})
	if err != nil {
		return object{}, o.failed(ctx, "s3:GetObject", key, err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(out.Body)
	if err != nil {
		return object{}, o.failed(ctx, "s3:GetObject", key, err)
	}
	found := object{data: data, etag: aws.ToString(out.ETag), written: aws.ToTime(out.LastModified)}
	if now, known := middleware.GetServerTime(out.ResultMetadata); known && !found.written.IsZero() {
		found.age = now.Sub(found.written)
	}
	return found, nil
}

// put writes an object. errLost where the condition does not hold, also where an earlier try of the same call has written it already: the
// SDK tries again when an answer is lost.
func (o *objects) put(ctx context.Context, key string, data []byte, when condition) (etag string, err error) {
	sum := sha256.Sum256(data)
	in := &s3.PutObjectInput{Bucket: &o.bucket, Key: &key, ExpectedBucketOwner: &o.account, Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(sum[:]))}
	switch {
	case when.absent:
		in.IfNoneMatch = aws.String("*")
	case when.etag != "":
		in.IfMatch = &when.etag
	}
	out, err := o.s3.PutObject(ctx, in)
	if err != nil {
		err = o.failed(ctx, "s3:PutObject", key, err)
		if errors.Is(err, errAbsent) { // so S3 says that what If-Match speaks of is gone
			err = errors.Join(errLost, err)
		}
		return "", err
	}
	return aws.ToString(out.ETag), nil
}

// listed is what a listing says of one object.
type listed struct {
	key     string
	size    int64
	written time.Time
}

// list returns what begins with prefix and stands behind after, in the order of keys; 1,000 for each call.
func (o *objects) list(ctx context.Context, prefix, after string) (found []listed, err error) {
	in := &s3.ListObjectsV2Input{Bucket: &o.bucket, Prefix: &prefix, ExpectedBucketOwner: &o.account}
	if after != "" {
		in.StartAfter = &after
	}
	for {
		out, err := o.s3.ListObjectsV2(ctx, in)
		if err != nil {
			return nil, o.failed(ctx, "s3:ListBucket", prefix, err)
		}
		for _, c := range out.Contents {
			found = append(found, listed{aws.ToString(c.Key), aws.ToInt64(c.Size), aws.ToTime(c.LastModified)})
		}
		if !aws.ToBool(out.IsTruncated) {
			return found, nil
		}
		in.ContinuationToken = out.NextContinuationToken
	}
}

// remove deletes objects, 1,000 for each call. One that is not there is fine.
func (o *objects) remove(ctx context.Context, keys []string) error {
	for some := range slices.Chunk(keys, 1000) {
		var ids []types.ObjectIdentifier
		for _, key := range some {
			ids = append(ids, types.ObjectIdentifier{Key: &key})
		}
		out, err := o.s3.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: &o.bucket, ExpectedBucketOwner: &o.account,
			Delete: &types.Delete{Objects: ids, Quiet: aws.Bool(true)}})
		if err != nil {
			return o.failed(ctx, "s3:DeleteObject", some[0], err)
		}
		if len(out.Errors) > 0 {
			return fmt.Errorf("%w: s3:DeleteObject of %s: %s", deploy.ErrUnavailable, aws.ToString(out.Errors[0].Key), aws.ToString(out.Errors[0].Code))
		}
	}
	return nil
}

// Codes as S3 spells them (S3 API Reference, "Error responses").
var (
	codesLost = []string{"PreconditionFailed", "ConditionalRequestConflict"}
	codesWho  = []string{"ExpiredToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "RequestTimeTooSkewed", "InvalidToken"}
	codesFar  = []string{"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)

// failed says what went wrong, in words of ours: what the SDK says may hold addresses.
func (o *objects) failed(ctx context.Context, action, key string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s of %s: %w", action, key, context.Cause(ctx))
	}
	code, status := "no answer", 0
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		if status = answer.HTTPStatusCode(); status != 0 {
			code = fmt.Sprint("HTTP ", status)
		}
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
	}
	at := func(sentinel error) error {
		return fmt.Errorf("%w: %s of %s in %s: %s", sentinel, action, key, o.bucket, code)
	}
	switch {
	case slices.Contains(codesLost, code) || status == http.StatusPreconditionFailed:
		return at(errLost)
	case code == "NoSuchBucket":
		return deploy.Hint(at(deploy.ErrBadInput), "there is no such bucket: name the output Releases of the app's stack")
	case code == "NoSuchKey" || status == http.StatusNotFound:
		return at(errAbsent)
	case slices.Contains(codesWho, code):
		return deploy.Hint(at(deploy.ErrUnavailable), "the credentials are wrong or have ended, or the clock of this machine is wrong")
	case status == http.StatusForbidden:
		return deploy.Hint(at(deploy.ErrBadInput), fmt.Sprintf("allow %s to the role that Lotse runs with; the bucket must belong to the account %s", action, o.account))
	case slices.Contains(codesFar, code):
		return deploy.Hint(at(deploy.ErrBadInput), "the bucket is in another region: set AWS_REGION to the stack's")
	}
	return at(deploy.ErrUnavailable)
}

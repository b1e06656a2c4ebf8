package snapshot

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Bucket is a bucket of S3, or a part of one. What lies in it is encrypted before it gets there.
type Bucket struct {
	S3        *s3.Client // of the bucket's region
	Name      string
	Prefix    string // below which snapshots lie, without a slash at its ends; may be empty
	Owner     string // twelve digits of the account that the bucket must belong to; empty: not checked
	OutsideEU string // why a region outside the EU is right; empty: it is refused
}

// Located is the bucket with a client of the region that it is in, by its own word; with the one that it has, where nothing is said. Open
// then refuses one outside the EU, whatever region was meant.
func (b Bucket) Located(ctx context.Context) *Bucket {
	said := ""
	out, err := b.S3.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &b.Name})
	if err == nil {
		said = aws.ToString(out.BucketRegion)
	} else if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok && answer.Response != nil { // 301 and 403 say it too
		said = answer.Response.Header.Get("x-amz-bucket-region")
	}
	if said != "" && said != b.S3.Options().Region {
		b.S3 = s3.New(b.S3.Options(), func(o *s3.Options) { o.Region = said })
	}
	return &b
}

// Sizes of what is uploaded at a time, in bytes. S3 takes 10,000 parts of an object, none but the last below 5 MiB (S3 User Guide,
// "Multipart upload limits"): 128 GiB in the first half, and 600 GiB in the second.
const (
	firstParts = 5000
	smallPart  = 16 << 20
	largePart  = 128 << 20
)

// How long a lock in a bucket lasts without being renewed. Its holder stops before it ends.
const (
	lockLasts = time.Minute
	lockBeat  = lockLasts / 6
)

// objects is a place in a bucket.
type objects struct {
	Bucket
	clock func() time.Time
	log   *slog.Logger
}

func (b *Bucket) open(clock func() time.Time, log *slog.Logger) (*objects, error) {
	if b.S3 == nil || b.Name == "" {
		return nil, fmt.Errorf("%w: the bucket of snapshots has no name", deploy.ErrBadInput)
	}
	if region := b.S3.Options().Region; !deploy.InTheEU(region) && b.OutsideEU == "" {
		return nil, deploy.Hint(fmt.Errorf("%w: the bucket of snapshots is in %s, outside the EU", deploy.ErrBadInput, cmp.Or(region, "a region that is not named")), "use one in eu-central-1, or say why it may be there")
	}
	return &objects{*b, clock, log}, nil
}

func (o *objects) key(name string) string   { return path.Join(o.Prefix, name) }
func (o *objects) where(name string) string { return "s3://" + o.Name + "/" + o.key(name) }

func (o *objects) owner() *string {
	if o.Owner == "" {
		return nil
	}
	return &o.Owner
}

// write uploads part by part, with one that is filled while none waits: an object is there when it is whole. What is small goes at once.
func (o *objects) write(ctx context.Context, name string, fill func(io.Writer) error) error {
	u := &upload{objects: o, ctx: ctx, key: o.key(name)}
	err := fill(u)
	if err == nil {
		err = u.finish()
	}
	if err != nil {
		return errors.Join(err, u.abort())
	}
	return nil
}

// upload is one object that is being written.
type upload struct {
	*objects
	ctx    context.Context
	key    string
	id     *string // nil: nothing was sent yet
	buffer bytes.Buffer
	parts  []types.CompletedPart
}

func (u *upload) Write(p []byte) (int, error) {
	u.buffer.Write(p)
	size := smallPart
	if len(u.parts) >= firstParts {
		size = largePart
	}
	for u.buffer.Len() >= size {
		if err := u.send(u.buffer.Next(size)); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// send uploads a part, with the digest by which S3 sees that it came whole.
func (u *upload) send(data []byte) error {
	if u.id == nil {
		out, err := u.S3.CreateMultipartUpload(u.ctx, &s3.CreateMultipartUploadInput{Bucket: &u.Name, Key: &u.key, ExpectedBucketOwner: u.owner(), ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
		if err != nil {
			return u.failed(u.ctx, "s3:PutObject", u.key, err)
		}
		u.id = out.UploadId
	}
	n, sum := int32(len(u.parts)+1), checksum(data)
	out, err := u.S3.UploadPart(u.ctx, &s3.UploadPartInput{Bucket: &u.Name, Key: &u.key, UploadId: u.id, PartNumber: &n, ExpectedBucketOwner: u.owner(),
		Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))), ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: &sum})
	if err != nil {
		return u.failed(u.ctx, "s3:PutObject", u.key, err)
	}
	u.parts = append(u.parts, types.CompletedPart{ETag: out.ETag, PartNumber: &n, ChecksumSHA256: &sum})
	return nil
}

func checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (u *upload) finish() error {
	if u.id == nil {
		_, err := u.put(u.ctx, u.key, u.buffer.Bytes(), condition{})
		return err
	}
	if err := u.send(u.buffer.Bytes()); err != nil {
		return err
	}
	_, err := u.S3.CompleteMultipartUpload(u.ctx, &s3.CompleteMultipartUploadInput{Bucket: &u.Name, Key: &u.key, UploadId: u.id, ExpectedBucketOwner: u.owner(),
		MultipartUpload: &types.CompletedMultipartUpload{Parts: u.parts}})
	return u.failed(u.ctx, "s3:PutObject", u.key, err)
}

func (u *upload) abort() error {
	if u.id == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(u.ctx), patience)
	defer cancel()
	_, err := u.S3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &u.Name, Key: &u.key, UploadId: u.id, ExpectedBucketOwner: u.owner()})
	return u.failed(ctx, "s3:AbortMultipartUpload", u.key, err)
}

// condition is what must be so when an object is written. The zero value: nothing.
type condition struct {
	etag   string
	absent bool
}

func (o *objects) put(ctx context.Context, key string, data []byte, when condition) (etag string, err error) {
	sum := checksum(data)
	in := &s3.PutObjectInput{Bucket: &o.Name, Key: &key, ExpectedBucketOwner: o.owner(), Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: &sum}
	switch {
	case when.absent:
		in.IfNoneMatch = aws.String("*")
	case when.etag != "":
		in.IfMatch = &when.etag
	}
	out, err := o.S3.PutObject(ctx, in)
	if err != nil {
		return "", o.failed(ctx, "s3:PutObject", key, err)
	}
	return aws.ToString(out.ETag), nil
}

func (o *objects) open(ctx context.Context, name string) (io.ReadCloser, error) {
	out, err := o.get(ctx, name)
	if err != nil {
		return nil, err
	}
	return out.Body, nil
}

func (o *objects) get(ctx context.Context, name string) (*s3.GetObjectOutput, error) {
	key := o.key(name)
	out, err := o.S3.GetObject(ctx, &s3.GetObjectInput{Bucket: &o.Name, Key: &key, ExpectedBucketOwner: o.owner()})
	return out, o.failed(ctx, "s3:GetObject", key, err)
}

// list names objects, and uploads that were begun and not ended, which hold room and cost money.
func (o *objects) list(ctx context.Context, folder string) (map[string]int64, error) {
	found, prefix := map[string]int64{}, strings.TrimPrefix(o.key(folder)+"/", "/")
	pages := s3.NewListObjectsV2Paginator(o.S3, &s3.ListObjectsV2Input{Bucket: &o.Name, Prefix: &prefix, ExpectedBucketOwner: o.owner()})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, o.failed(ctx, "s3:ListBucket", prefix, err)
		}
		for _, c := range page.Contents {
			found[path.Join(folder, strings.TrimPrefix(aws.ToString(c.Key), prefix))] = aws.ToInt64(c.Size)
		}
	}
	begun, err := o.begun(ctx, prefix)
	for _, u := range begun {
		if name := path.Join(folder, strings.TrimPrefix(aws.ToString(u.Key), prefix)); found[name] == 0 {
			found[name] = -1
		}
	}
	return found, err
}

func (o *objects) begun(ctx context.Context, prefix string) ([]types.MultipartUpload, error) {
	var all []types.MultipartUpload
	pages := s3.NewListMultipartUploadsPaginator(o.S3, &s3.ListMultipartUploadsInput{Bucket: &o.Name, Prefix: &prefix, ExpectedBucketOwner: o.owner()})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err := o.failed(ctx, "s3:ListBucketMultipartUploads", prefix, err); errors.Is(err, fs.ErrNotExist) {
			return all, nil // so some that are like S3 say that there are none
		} else if err != nil {
			return nil, err
		}
		all = append(all, page.Uploads...)
	}
	return all, nil
}

func (o *objects) remove(ctx context.Context, folder, first string) error {
	prefix := o.key(folder) + "/"
	begun, err := o.begun(ctx, prefix)
	if err != nil {
		return err
	}
	for _, u := range begun {
		_, err := o.S3.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &o.Name, Key: u.Key, UploadId: u.UploadId, ExpectedBucketOwner: o.owner()})
		if err := o.failed(ctx, "s3:AbortMultipartUpload", aws.ToString(u.Key), err); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	files, err := o.list(ctx, folder)
	if err != nil {
		return err
	}
	names := []string{path.Join(folder, first)}
	for name := range files {
		if name != names[0] {
			names = append(names, name)
		}
	}
	for _, name := range names {
		key := o.key(name)
		_, err := o.S3.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &o.Name, Key: &key, ExpectedBucketOwner: o.owner()})
		if err := o.failed(ctx, "s3:DeleteObject", key, err); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// held is the lock of a stage: an object that its holder writes again and again. It lasts by the clocks of two machines: they may differ by
// less than half of lockLasts.
type held struct {
	Owner string    `json:"owner"` // random
	Until time.Time `json:"until"`
}

// lock takes it over from a holder that is silent for longer than it lasts. What is done under it ends when it is lost.
func (o *objects) lock(ctx context.Context, folder string, wait bool) (context.Context, func(), error) {
	mine := held{Owner: rand.Text()}
	name := path.Join(folder, lockName+".json")
	for {
		etag, err := o.claim(ctx, name, mine)
		if err == nil {
			return o.keep(ctx, name, mine, etag)
		}
		if errors.Is(err, errLocked) && wait {
			err = pause(ctx, time.Second)
		}
		if err != nil {
			return nil, nil, err
		}
	}
}

func (o *objects) claim(ctx context.Context, name string, mine held) (etag string, err error) {
	when := condition{absent: true}
	out, err := o.get(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", err
	default:
		defer out.Body.Close()
		var other held
		if json.NewDecoder(io.LimitReader(out.Body, 1<<16)).Decode(&other) == nil && o.clock().Before(other.Until.Add(lockLasts/2)) {
			return "", errLocked
		}
		when = condition{etag: aws.ToString(out.ETag)}
	}
	return o.beat(ctx, name, mine, when)
}

func (o *objects) beat(ctx context.Context, name string, mine held, when condition) (string, error) {
	mine.Until = o.clock().Add(lockLasts)
	text, err := json.Marshal(mine)
	if err != nil {
		return "", err
	}
	return o.put(ctx, o.key(name), text, when)
}

// keep renews the lock until unlock is called.
func (o *objects) keep(ctx context.Context, name string, mine held, etag string) (context.Context, func(), error) {
	under, cancel := context.WithCancelCause(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		last := time.Now()
		for pause(under, lockBeat) == nil {
			next, err := o.beat(under, name, mine, condition{etag: etag})
			if errors.Is(err, errLocked) {
				next, err = o.stillMine(under, name, mine, err)
			}
			switch {
			case err == nil:
				etag, last = next, time.Now()
			case errors.Is(err, errLocked) || time.Since(last) > lockLasts-2*lockBeat:
				cancel(fmt.Errorf("%w: somebody else changes the snapshots in %s", deploy.ErrFenced, o.where(path.Dir(name))))
			}
		}
	}()
	return under, func() {
		cancel(nil)
		<-ended
		late, done := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer done()
		mine.Until = time.Time{}
		text, _ := json.Marshal(mine) // plain values
		if _, err := o.put(late, o.key(name), text, condition{etag: etag}); err != nil {
			o.log.Warn("the lock of snapshots could not be given back; it ends by itself", "where", o.where(name))
		}
	}, nil
}

// stillMine looks whether the lock is what we wrote ourselves, when the answer to that was lost.
func (o *objects) stillMine(ctx context.Context, name string, mine held, otherwise error) (etag string, err error) {
	out, err := o.get(ctx, name)
	if err != nil {
		return "", err
	}
	defer out.Body.Close()
	var there held
	if json.NewDecoder(io.LimitReader(out.Body, 1<<16)).Decode(&there) != nil || there.Owner != mine.Owner {
		return "", otherwise
	}
	return aws.ToString(out.ETag), nil
}

var wrongPlace = regexp.MustCompile("^(PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraintException)$")

// failed says what went wrong in words of ours: what the SDK says may hold addresses. Nil stays nil; fs.ErrNotExist and errLocked are to
// decide by.
func (o *objects) failed(ctx context.Context, action, key string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	code, status := "no answer", 0
	if answer, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = answer.HTTPStatusCode()
		code = fmt.Sprint("HTTP ", status)
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
	}
	at := func(sentinel error) error {
		return fmt.Errorf("%w: %s of %s in %s: %s", sentinel, action, key, o.Name, code)
	}
	switch {
	case code == "NoSuchBucket":
		return deploy.Hint(at(deploy.ErrBadInput), "there is no such bucket")
	case status == http.StatusPreconditionFailed, status == http.StatusConflict:
		return at(errLocked)
	case status == http.StatusNotFound:
		return at(fs.ErrNotExist)
	case status == http.StatusForbidden:
		return deploy.Hint(at(deploy.ErrBadInput), "allow "+action+" to the role that Lotse runs with; the bucket must belong to the account that was named")
	case wrongPlace.MatchString(code):
		return deploy.Hint(at(deploy.ErrBadInput), "the bucket is in another region than was said")
	}
	return at(deploy.ErrUnavailable)
}

package share

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	rawhex "encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

const blobsDir = prefix + "blobs/"

// blob is bytes by their digest. Its size is -1 where it is not known.
type blob struct {
	digest deploy.Digest
	size   int64
}

func (b blob) key() string { return blobsDir + hex(b.digest) }

// maxObject is what one PutObject takes, in bytes (S3 User Guide, "Uploading objects": 5 GB).
const maxObject = 5 << 30

// needs are the bytes that a release consists of, each once.
func (p parcel) needs() (all []blob) {
	seen := map[deploy.Digest]bool{}
	add := func(d deploy.Digest, size int64) {
		if d != "" && !seen[d] {
			seen[d] = true
			all = append(all, blob{d, size})
		}
	}
	for _, f := range p.manifest.Files {
		add(f.Digest, f.Size)
	}
	for _, d := range p.Blobs {
		add(d, -1)
	}
	return all
}

// known lists what blobs the bucket has, once: this controller alone writes and prunes. The caller holds b.bucket.
func (b *Builder) known(ctx context.Context) error {
	if b.blobs != nil {
		return nil
	}
	there, err := b.share.list(ctx, blobsDir, "")
	if err != nil {
		return err
	}
	b.blobs = make(map[string]int64, len(there))
	for _, o := range there {
		b.blobs[o.key] = o.size
	}
	return nil
}

// upload puts what the bucket has not into it. The caller holds b.bucket.
func (b *Builder) upload(ctx context.Context, all []blob) error {
	if err := b.known(ctx); err != nil {
		return err
	}
	begun, sent := time.Now(), make([]int64, len(all))
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, n := range all {
		if size, there := b.blobs[n.key()]; there && (n.size < 0 || size == n.size) {
			sent[i] = -1
			continue
		}
		group.Go(func() (err error) {
			sent[i], err = b.uploadOne(within, n)
			return err
		})
	}
	err := group.Wait()
	if err != nil {
		b.blobs = nil // it is not known which arrived
		return err
	}
	count, bytes := 0, int64(0)
	for i, size := range sent {
		if size >= 0 {
			b.blobs[all[i].key()] = size
			count, bytes = count+1, bytes+size
		}
	}
	b.share.Log.Info("put into the shared releases", "blobs", count, "there", len(all)-count, "bytes", bytes, "took", time.Since(begun).Round(time.Millisecond))
	return nil
}

// uploadOne puts one blob. S3 refuses other bytes than those of the digest.
func (b *Builder) uploadOne(ctx context.Context, n blob) (size int64, err error) {
	f, size, err := b.whole(ctx, n)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	raw, err := rawhex.DecodeString(hex(n.digest))
	if err != nil || size > maxObject {
		return 0, fmt.Errorf("%w: %s with %d bytes cannot be put into a bucket at once", deploy.ErrBadInput, n.digest, size)
	}
	s, key := b.share, n.key()
	_, err = s.s3.PutObject(ctx, &s3.PutObjectInput{Bucket: &s.bucket, Key: &key, ExpectedBucketOwner: &s.account, Body: f, ContentLength: &size,
		ChecksumAlgorithm: types.ChecksumAlgorithmSha256, ChecksumSHA256: aws.String(base64.StdEncoding.EncodeToString(raw))})
	if err != nil {
		return 0, s.failed(ctx, "s3:PutObject", key, err)
	}
	return size, nil
}

// whole is a blob of the depot in a file, verified, since the SDK may have to read it twice. The file has no name.
func (b *Builder) whole(ctx context.Context, n blob) (*os.File, int64, error) {
	r, err := b.depot.Open(ctx, string(n.digest))
	if err != nil {
		return nil, 0, err
	}
	defer r.Close()
	f, err := os.CreateTemp(b.depot.Dir(), aside)
	if err != nil {
		return nil, 0, err
	}
	err = os.Remove(f.Name())
	var size int64
	if err == nil {
		size, err = io.Copy(f, r)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, size, nil
}

// fetchBlobs fetches what of a release is chosen.
func (b *Builder) fetchBlobs(ctx context.Context, m deploy.Manifest, chosen func(context.Context, blob) bool) error {
	var need []blob
	for _, n := range (parcel{manifest: m, Blobs: []deploy.Digest{m.SBOM}}).needs() {
		if chosen(ctx, n) {
			need = append(need, n)
		}
	}
	return b.fetch(ctx, need)
}

func (b *Builder) missing(_ context.Context, n blob) bool { return !b.depot.Has(string(n.digest)) }

func (b *Builder) wrong(ctx context.Context, n blob) bool {
	return b.depot.Verify(ctx, string(n.digest)) != nil
}

// fetch brings blobs into the depot: first into a folder, each compared with its digest, then all at once. The caller has a Hold of the
// depot.
func (b *Builder) fetch(ctx context.Context, all []blob) error {
	if len(all) == 0 {
		return nil
	}
	dir, err := os.MkdirTemp(b.depot.Dir(), aside)
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	begun, bytes := time.Now(), atomic.Int64{}
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, n := range all {
		group.Go(func() error {
			size, err := b.download(within, n, filepath.Join(dir, hex(n.digest)))
			bytes.Add(size)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if _, _, err := b.depot.PutTree(ctx, dir, []string{"."}); err != nil {
		if errors.Is(err, depot.ErrNoSpace) {
			err = fmt.Errorf("%w: %w", deploy.ErrNoSpace, err)
		}
		return err
	}
	b.share.Log.Info("fetched from the shared releases", "blobs", len(all), "bytes", bytes.Load(), "took", time.Since(begun).Round(time.Millisecond))
	return nil
}

// download writes a blob into a file. One whose bytes are not those of its digest is asked for once more: they may have been damaged on
// the way.
func (b *Builder) download(ctx context.Context, n blob, name string) (size int64, err error) {
	for range 2 {
		if size, err = b.downloadOnce(ctx, n, name); !errors.Is(err, deploy.ErrDamaged) {
			return size, err
		}
	}
	if removed := b.discard(ctx, []string{n.key()}); removed != nil { // so that the next build puts it there anew
		b.share.Log.Warn("damaged bytes could not be taken out of the bucket", "key", n.key(), "error", removed)
	}
	return size, err
}

func (b *Builder) downloadOnce(ctx context.Context, n blob, name string) (int64, error) {
	s, key := b.share, n.key()
	damaged := func(what string) error {
		return deploy.Hint(fmt.Errorf("%w: %s in %s %s", deploy.ErrDamaged, key, s.bucket, what), "deploy the commit again: its bytes are put there anew")
	}
	out, err := s.s3.GetObject(ctx, &s3.GetObjectInput{Bucket: &s.bucket, Key: &key, ExpectedBucketOwner: &s.account})
	if err != nil {
		if err = s.failed(ctx, "s3:GetObject", key, err); errors.Is(err, errAbsent) {
			err = damaged("is gone")
		}
		return 0, err
	}
	defer out.Body.Close()
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(io.MultiWriter(f, h), out.Body)
	switch {
	case ctx.Err() != nil:
		return size, context.Cause(ctx)
	case err != nil:
		return size, fmt.Errorf("%w: %s: the answer ended early: %w", deploy.ErrDamaged, key, err)
	case rawhex.EncodeToString(h.Sum(nil)) != hex(n.digest):
		return size, damaged("has other bytes than its digest says")
	}
	return size, f.Close()
}

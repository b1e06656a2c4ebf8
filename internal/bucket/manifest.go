package bucket

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

// format is of everything below .lotse/; a newer one is refused.
const format = 1

// manifest says what belongs to a release.
type manifest struct {
	Format  int             `json:"format"`
	ID      string          `json:"id"`
	Since   time.Time       `json:"since"`
	Whole   bool            `json:"whole"` // every file was put, and S3 has verified it
	Removed *time.Time      `json:"removed,omitempty"`
	About   json.RawMessage `json:"about,omitempty"`
	Files   []File          `json:"files"` // in the order of paths
}

type cached struct {
	etag string
	m    *manifest
}

func (m *manifest) key() string { return releaseDir + m.ID + ".json.gz" }

// sameFiles reports whether index is what the release has.
func (m *manifest) sameFiles(index []File) bool { return slices.Equal(m.Files, sorted(index)) }

func sorted(index []File) []File {
	return slices.SortedFunc(slices.Values(index), func(a, b File) int { return strings.Compare(a.Path, b.Path) })
}

// view is the bucket at one moment.
type view struct {
	objects  map[string]object
	releases map[string]*manifest // by id, also removed ones
}

// look lists the bucket and reads the manifests that were not read before.
func (b *Bucket) look(ctx context.Context) (view, error) {
	objects, err := b.list(ctx)
	if err != nil {
		return view{}, err
	}
	v := view{objects, map[string]*manifest{}}
	var keys []string
	for key := range objects {
		if strings.HasPrefix(key, releaseDir) {
			keys = append(keys, key)
		}
	}
	read := make([]*manifest, len(keys))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(b.c.Parallel)
	for i, key := range keys {
		group.Go(func() (err error) {
			read[i], err = b.manifest(ctx, key, objects[key].etag)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return view{}, err
	}
	for _, m := range read {
		if m != nil {
			v.releases[m.ID] = m
		}
	}
	b.forget(keys)
	return v, nil
}

// manifest reads a manifest, unless it was read at this ETag; nil for one that has just been deleted.
func (b *Bucket) manifest(ctx context.Context, key, etag string) (*manifest, error) {
	b.mu.Lock()
	known := b.read[key]
	b.mu.Unlock()
	if known.m != nil && known.etag == etag {
		return known.m, nil
	}
	data, etag, err := b.get(ctx, key)
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := unpack(data)
	switch {
	case err != nil || m.key() != key:
		return nil, &hinted{fmt.Errorf("%w: %s", ErrDamaged, key), "an older version of it is in the bucket where versions are kept; or delete it, and the release is put again"}
	case m.Format > format:
		return nil, &hinted{fmt.Errorf("%w: %s was written by a newer version of Lotse", ErrDamaged, key), "use that version"}
	}
	b.mu.Lock()
	b.read[key] = cached{etag, m}
	b.mu.Unlock()
	return m, nil
}

// forget drops what was read of manifests that are gone.
func (b *Bucket) forget(there []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.read, func(key string, _ cached) bool { return !slices.Contains(there, key) })
}

// write keeps a manifest; errLost when the condition does not hold.
func (b *Bucket) write(ctx context.Context, m manifest, when condition) error {
	m.Format, m.Files = format, sorted(m.Files)
	data, err := m.pack()
	if err != nil {
		return err
	}
	_, err = b.put(ctx, m.key(), data, when)
	return err
}

// pack makes of a manifest what is kept. Of 5,000 files it has a quarter of a megabyte, and unpacked a whole one.
func (m *manifest) pack() ([]byte, error) {
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	err := errors.Join(json.NewEncoder(w).Encode(m), w.Close())
	return packed.Bytes(), err
}

func unpack(data []byte) (*manifest, error) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	m := &manifest{}
	return m, json.NewDecoder(r).Decode(m)
}

// others yields the releases but one, in the order of their names.
func (v view) others(id string) []*manifest {
	var all []*manifest
	for _, name := range slices.Sorted(maps.Keys(v.releases)) {
		if name != id {
			all = append(all, v.releases[name])
		}
	}
	return all
}

// Release is one release in the bucket.
type Release struct {
	ID    string
	Since time.Time // when it was put first
	Whole bool      // everything of it is there; else Put was interrupted
	Files int
	Bytes int64
	About json.RawMessage // as it was given to Put
}

// Releases returns what was put and not removed, oldest first.
func (b *Bucket) Releases(ctx context.Context) ([]Release, error) {
	v, err := b.look(ctx)
	if err != nil {
		return nil, err
	}
	all := []Release{}
	for _, m := range v.releases {
		if m.Removed != nil {
			continue
		}
		all = append(all, m.release())
	}
	slices.SortFunc(all, func(a, b Release) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all, nil
}

func (m *manifest) release() Release {
	r := Release{ID: m.ID, Since: m.Since, Whole: m.Whole, Files: len(m.Files), About: m.About}
	for _, f := range m.Files {
		r.Bytes += f.Size
	}
	return r
}

// Of returns one release with its files, in the order of their paths. ErrUnknown for one that was not put, or removed.
func (b *Bucket) Of(ctx context.Context, id string) (Release, []File, error) {
	m := &manifest{ID: id}
	m, err := b.manifest(ctx, m.key(), "")
	if err != nil {
		return Release{}, nil, err
	}
	if m == nil || m.Removed != nil {
		return Release{}, nil, fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	return m.release(), m.Files, nil
}

// Read returns the bytes of a file that Put has put, whether or not they are served. ErrIncomplete where they are gone. The caller closes.
func (b *Bucket) Read(ctx context.Context, f File) (io.ReadCloser, error) {
	out, err := b.c.S3.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.c.Bucket, Key: aws.String(f.key()), ExpectedBucketOwner: b.owner()}, patient)
	if err = b.failed(ctx, "s3:GetObject", f.key(), err); errors.Is(err, errAbsent) {
		err = fmt.Errorf("%w: %s", ErrIncomplete, f.Path)
	}
	if err != nil {
		return nil, err
	}
	return out.Body, nil
}

// Missing returns the files of a release that are not there any more, in the order of their paths. ErrUnknown as Of; ErrIncomplete where Put
// was interrupted.
func (b *Bucket) Missing(ctx context.Context, id string) ([]string, error) {
	v, err := b.look(ctx)
	if err != nil {
		return nil, err
	}
	m := v.releases[id]
	if m == nil || m.Removed != nil {
		return nil, fmt.Errorf("%w: %s", ErrUnknown, id)
	}
	missing := v.missing(m)
	if len(missing) == 0 && !m.Whole {
		return nil, fmt.Errorf("%w: %s: its upload was interrupted", ErrIncomplete, id)
	}
	return missing, nil
}

func (v view) missing(m *manifest) (paths []string) {
	for _, f := range m.Files {
		if o, there := v.objects[f.key()]; !there || o.size != f.Size {
			paths = append(paths, f.Path)
		}
	}
	return paths
}

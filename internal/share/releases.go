package share

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

const releasesDir = prefix + "releases/"

// Works is the pipeline of this machine.
type Works interface {
	deploy.Builder

	// Pack returns a note by which another pipeline knows the release, without names and paths, and the blobs that it needs beside its files.
	Pack(ctx context.Context, id deploy.Digest) (note []byte, blobs []deploy.Digest, err error)

	// Unpack makes a release known that was packed elsewhere. The bytes of its files may come later.
	Unpack(ctx context.Context, id deploy.Digest, manifest, note []byte) error
}

// Builder is a pipeline of this machine that has the releases of all. It implements deploy.Builder: what Build and Fit return is in the
// bucket, and what is asked for is fetched as far as it is needed, verified, and put into the depot.
type Builder struct {
	Works
	share *Share
	depot *depot.Depot

	bucket sync.Mutex // one writes or prunes at a time
	blobs  map[string]int64
	read   map[deploy.Digest]parcel // of releases; they never change

	mu   sync.Mutex
	keep []deploy.Digest // of the last Prune, while that is not done in the bucket
	open bool
}

// parcel is a release as it lies in the bucket.
type parcel struct {
	Format   int             `json:"format"`
	ID       deploy.Digest   `json:"id"`
	Manifest json.RawMessage `json:"manifest"`
	Note     json.RawMessage `json:"note"`
	Blobs    []deploy.Digest `json:"blobs"` // beside the files of the manifest
	manifest deploy.Manifest
}

// Builder shares the releases of a pipeline, whose bytes are in store. It removes what a dead process was fetching.
func (s *Share) Builder(works Works, store *depot.Depot) (*Builder, error) {
	left, err := filepath.Glob(filepath.Join(store.Dir(), aside+"*"))
	for _, path := range left {
		err = errors.Join(err, os.RemoveAll(path))
	}
	if err != nil {
		return nil, err
	}
	s.builder = &Builder{Works: works, share: s, depot: store, read: map[deploy.Digest]parcel{}}
	return s.builder, nil
}

// aside begins the names of files and folders that are being fetched or sent, beside the depot's own.
const aside = "share-"

// hex is a digest as it stands in keys.
func hex(d deploy.Digest) string { return strings.TrimPrefix(string(d), "sha256:") }

func parcelKey(source, id deploy.Digest) string {
	return releasesDir + hex(source) + "/" + hex(id) + ".json"
}

// Build implements deploy.Builder.
func (b *Builder) Build(ctx context.Context, id string, app deploy.App, c deploy.Commit, report func(deploy.StepEvidence), output func(step, line string)) (deploy.Release, error) {
	defer b.depot.Hold()()
	r, err := b.Works.Build(ctx, id, app, c, report, output)
	if err != nil {
		return r, err
	}
	return r, b.put(ctx, r)
}

// Fit implements deploy.Builder.
func (b *Builder) Fit(ctx context.Context, id string, app deploy.App, c deploy.Commit, r deploy.Release, public []deploy.Setting, report func(deploy.StepEvidence), output func(step, line string)) (deploy.Release, error) {
	defer b.depot.Hold()()
	if len(public) > 0 && r.Manifest.Fits == nil {
		if err := b.fetchFits(ctx, r.ID); err != nil {
			return deploy.Release{}, err
		}
	}
	fitted, err := b.Works.Fit(ctx, id, app, c, r, public, report, output)
	if err != nil || fitted.ID == r.ID {
		return fitted, err
	}
	return fitted, b.put(ctx, fitted)
}

// Release implements deploy.Builder. One that only the bucket knows becomes known here; its bytes come when they are needed.
func (b *Builder) Release(ctx context.Context, id deploy.Digest) (deploy.Release, error) {
	r, err := b.Works.Release(ctx, id)
	if !errors.Is(err, deploy.ErrNotFound) && !errors.Is(err, deploy.ErrDamaged) {
		return r, err
	}
	switch fetched := b.know(ctx, id); {
	case errors.Is(fetched, errAbsent):
		return r, err
	case fetched != nil:
		return r, fmt.Errorf("release %s: %w", id.Short(), fetched)
	}
	return b.Works.Release(ctx, id)
}

// Verify implements deploy.Builder. What is missing or damaged here is fetched first.
func (b *Builder) Verify(ctx context.Context, id deploy.Digest) error {
	defer b.depot.Hold()()
	r, err := b.Release(ctx, id)
	if err != nil {
		return err
	}
	if err := b.fetchBlobs(ctx, r.Manifest, b.missing); err != nil {
		return fmt.Errorf("release %s: %w", id.Short(), err)
	}
	err = b.Works.Verify(ctx, id)
	if !errors.Is(err, deploy.ErrDamaged) {
		return err
	}
	b.share.Log.Warn("a release is damaged here, and fetched again", "release", id.Short(), "error", err)
	if err := b.fetchBlobs(ctx, r.Manifest, b.wrong); err != nil {
		return fmt.Errorf("release %s: %w", id.Short(), err)
	}
	return b.Works.Verify(ctx, id)
}

// Files implements deploy.Builder: files that are not in the depot are fetched as they are opened.
func (b *Builder) Files(ctx context.Context, r deploy.Release) (fs.FS, error) {
	files, err := b.Works.Files(ctx, r)
	if err != nil {
		return nil, err
	}
	at := make(map[string]deploy.File, len(r.Manifest.Files))
	for _, f := range r.Manifest.Files {
		at[f.Path] = f
	}
	return &fetching{files, ctx, b, at}, nil
}

// fetching is the files of a release, some of which may still be in the bucket.
type fetching struct {
	fs.FS
	ctx context.Context // of Files; an fs.FS takes none
	b   *Builder
	at  map[string]deploy.File
}

// Open implements fs.FS.
func (f *fetching) Open(name string) (fs.File, error) {
	if err := f.fetch(name); err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return f.FS.Open(name)
}

// ReadFile implements fs.ReadFileFS.
func (f *fetching) ReadFile(name string) ([]byte, error) {
	if err := f.fetch(name); err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return fs.ReadFile(f.FS, name)
}

// ReadDir implements fs.ReadDirFS.
func (f *fetching) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(f.FS, name) }

// Stat implements fs.StatFS.
func (f *fetching) Stat(name string) (fs.FileInfo, error) { return fs.Stat(f.FS, name) }

// fetch fetches a file; links are followed as far as they are short.
func (f *fetching) fetch(name string) error {
	file := f.at[name]
	for range 40 { // as the kernel does (path_resolution(7))
		if file.Link == "" {
			break
		}
		file = f.at[path.Join(path.Dir(file.Path), file.Link)]
	}
	if file.Digest == "" || f.b.depot.Has(string(file.Digest)) {
		return nil
	}
	defer f.b.depot.Hold()()
	return f.b.fetch(f.ctx, []blob{{file.Digest, file.Size}})
}

// know makes a release known here; errAbsent where the bucket has none.
func (b *Builder) know(ctx context.Context, id deploy.Digest) error {
	p, err := b.parcel(ctx, id, id)
	if errors.Is(err, errAbsent) { // one that was fitted: it stands beside its source
		p, err = b.search(ctx, id)
	}
	if err != nil {
		return err
	}
	defer b.depot.Hold()()
	if p.manifest.Fits != nil {
		if _, err := b.Release(ctx, p.manifest.Fits.Of); err != nil {
			return err
		}
	}
	return b.Unpack(ctx, id, p.Manifest, p.Note)
}

// parcel reads a release from the bucket.
func (b *Builder) parcel(ctx context.Context, source, id deploy.Digest) (parcel, error) {
	b.mu.Lock()
	p, known := b.read[id]
	b.mu.Unlock()
	if known {
		return p, nil
	}
	key := parcelKey(source, id)
	at, err := b.share.get(ctx, key)
	if err != nil {
		return p, err
	}
	if json.Unmarshal(at.data, &p) != nil || p.Format != format || p.ID != id || depot.DigestOf(p.Manifest) != string(id) || json.Unmarshal(p.Manifest, &p.manifest) != nil {
		return parcel{}, deploy.Hint(fmt.Errorf("%w: %s in %s is not that release", deploy.ErrDamaged, key, b.share.Bucket), "deploy the commit again; it is written anew")
	}
	b.mu.Lock()
	b.read[id] = p
	b.mu.Unlock()
	return p, nil
}

// search finds a release by its id alone.
func (b *Builder) search(ctx context.Context, id deploy.Digest) (parcel, error) {
	all, err := b.share.list(ctx, releasesDir, "")
	if err != nil {
		return parcel{}, err
	}
	for _, o := range all {
		if source, of := ids(o.key); of == id {
			return b.parcel(ctx, source, id)
		}
	}
	return parcel{}, fmt.Errorf("%w: release %s", errAbsent, id.Short())
}

// ids are what the key of a release says.
func ids(key string) (source, id deploy.Digest) {
	dir, name := path.Split(strings.TrimPrefix(key, releasesDir))
	return deploy.Digest("sha256:" + strings.TrimSuffix(dir, "/")), deploy.Digest("sha256:" + strings.TrimSuffix(name, ".json"))
}

// fetchFits makes what was made of a release for stages known here, and fetches what is needed to make another.
func (b *Builder) fetchFits(ctx context.Context, source deploy.Digest) error {
	there, err := b.share.list(ctx, releasesDir+hex(source)+"/", "")
	if err != nil {
		return err
	}
	var need []blob
	for _, o := range there {
		_, id := ids(o.key)
		p, err := b.parcel(ctx, source, id)
		if err != nil {
			return err
		}
		if id != source {
			if _, err := b.Release(ctx, id); err != nil {
				return err
			}
		}
		need = append(need, p.needs()...)
	}
	return b.fetch(ctx, slices.DeleteFunc(need, func(n blob) bool { return b.depot.Has(string(n.digest)) }))
}

// put puts a release of this machine into the bucket: first its bytes, then what names them.
func (b *Builder) put(ctx context.Context, r deploy.Release) error {
	err := b.share.within(ctx, func(ctx context.Context) error { return b.putWithin(ctx, r) })
	if err != nil {
		return fmt.Errorf("putting release %s into %s: %w", r.ID.Short(), b.share.Bucket, err)
	}
	return nil
}

func (b *Builder) putWithin(ctx context.Context, r deploy.Release) error {
	b.bucket.Lock()
	defer b.bucket.Unlock()
	note, blobs, err := b.Pack(ctx, r.ID)
	if err != nil {
		return err
	}
	manifest, err := b.depot.Read(ctx, string(r.ID))
	if err != nil {
		return err
	}
	p := parcel{format, r.ID, manifest, note, blobs, r.Manifest}
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := b.upload(ctx, p.needs()); err != nil {
		return err
	}
	if _, err := b.share.put(ctx, parcelKey(r.Source(), r.ID), data, condition{}); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read[r.ID] = p
	return nil
}

// within runs do until it is done, ctx ends, or the lock is lost.
func (s *Share) within(ctx context.Context, do func(context.Context) error) error {
	if err := s.relied(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(context.Cause(s.ctx)) })()
	return do(ctx)
}

package bucket

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Added says what Put has done.
type Added struct {
	Files int   // uploaded
	Bytes int64 // uploaded
	There int   // files of the release that the bucket had
}

// Put adds what the bucket misses of a release; nothing that is served changes. files holds the paths of index; about is kept beside
// (Of), and may be empty. Idempotent; a call after one that was interrupted goes on where that one ended. ErrFenced for a fence smaller than the last one that switched;
// ErrInvalid for an index that cannot be served, or is not the one that this release had before; ErrClash where a file that never
// changes has other bytes in another release; ErrDamaged for a file that is not as the index says. None of these leaves anything half
// done but ErrDamaged, which leaves files that nothing names.
func (b *Bucket) Put(ctx context.Context, fence int64, id string, about json.RawMessage, files fs.FS, index []File) (Added, error) {
	if err := problem(id, index); err != nil {
		return Added{}, err
	}
	record, _, err := b.record(ctx)
	if err != nil {
		return Added{}, err
	}
	if err := record.allows(fence); err != nil {
		return Added{}, err
	}
	v, m, err := b.registered(ctx, id, about, index)
	if err != nil {
		return Added{}, err
	}
	done, err := b.add(ctx, v, m, files)
	if err != nil {
		return done, err
	}
	if done.Files > 0 {
		b.c.Log.Info("files were put", "release", id, "files", done.Files, "bytes", done.Bytes, "there", done.There)
	}
	if m.Whole {
		return done, nil
	}
	m.Whole = true
	return done, b.write(ctx, m, condition{})
}

// registered looks at the bucket and registers a release in it. Who puts the same at the same time may have been quicker: then what he has
// written counts, which may be whole already.
func (b *Bucket) registered(ctx context.Context, id string, about json.RawMessage, index []File) (v view, m manifest, err error) {
	for {
		if v, err = b.look(ctx); err != nil {
			return v, m, err
		}
		if m, err = b.register(ctx, v, id, about, index); !errors.Is(err, errLost) {
			return v, m, err
		}
	}
}

// register writes what the release has before the first of its files is there, so that Remove of another one spares them.
func (b *Bucket) register(ctx context.Context, v view, id string, about json.RawMessage, index []File) (manifest, error) {
	m := manifest{ID: id, Since: b.c.Now().UTC(), About: about, Files: index}
	if err := v.clash(m); err != nil {
		return m, err
	}
	was := v.releases[id]
	if was != nil && !was.sameFiles(index) {
		return m, fmt.Errorf("%w: %s was put with other files, and a release never changes", ErrInvalid, id)
	}
	if was != nil && was.Removed == nil {
		return *was, nil
	}
	o, there := v.objects[m.key()]
	return m, b.write(ctx, m, only(o, there))
}

// clash finds a name that has to keep its bytes in one release and has others in another. Both are in the bucket, so that one of them
// would be served with the wrong file.
func (v view) clash(m manifest) error {
	mine := map[string]File{}
	for _, f := range m.Files {
		mine[f.Path] = f
	}
	for _, other := range v.others(m.ID) {
		for _, f := range other.Files {
			my, both := mine[f.Path]
			if both && my.Digest != f.Digest && (my.Immutable || f.Immutable) {
				return &hinted{fmt.Errorf("%w: %s has other bytes in release %s", ErrClash, f.Path, other.ID),
					"browsers keep such a file for a year: let the bundler put a hash of its content into the name, or take it off the list of immutable files"}
			}
		}
	}
	return nil
}

// verified tells the files that a whole release has: their bytes were verified when they were put.
func (v view) verified() map[string]string {
	known := map[string]string{}
	for _, m := range v.releases {
		for _, f := range m.Files {
			if m.Whole {
				known[f.key()] = f.Digest
			}
		}
	}
	return known
}

// add uploads what is not there.
func (b *Bucket) add(ctx context.Context, v view, m manifest, files fs.FS) (Added, error) {
	known := v.verified()
	var uploaded, there, size atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(b.c.Parallel)
	once := map[string]bool{} // entry files with the same bytes lie aside once
	for _, f := range m.Files {
		if once[f.key()] {
			there.Add(1)
			continue
		}
		once[f.key()] = true
		group.Go(func() error {
			is, err := b.there(ctx, v, known, f)
			if err != nil {
				return err
			}
			if is {
				there.Add(1)
				return nil
			}
			if err := b.send(ctx, files, f); err != nil {
				return err
			}
			uploaded.Add(1)
			size.Add(f.Size)
			return nil
		})
	}
	err := group.Wait()
	return Added{int(uploaded.Load()), size.Load(), int(there.Load())}, err
}

// there reports whether the bucket has the file. A name and a size are not enough: its bytes were verified for a release that is
// whole, or S3 is asked for their checksum. What lies aside is named by its bytes, and only Lotse writes there.
func (b *Bucket) there(ctx context.Context, v view, known map[string]string, f File) (bool, error) {
	o, there := v.objects[f.key()]
	if !there || o.size != f.Size {
		return false, nil
	}
	if !f.Immutable || known[f.key()] == f.Digest {
		return true, nil
	}
	return b.holds(ctx, f.key(), f, true)
}

// small is what is read into memory once, in bytes; a larger file is read twice.
const small = 8 << 20

// send uploads one file, after a look whether it is the one of the index: that error is better said before S3 says it.
func (b *Bucket) send(ctx context.Context, files fs.FS, f File) error {
	file, err := files.Open(f.Path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer file.Close()
	sum := sha256.New()
	body, seekable := file.(io.ReadSeeker)
	var read int64
	if seekable && f.Size > small {
		if read, err = io.Copy(sum, body); err == nil {
			_, err = body.Seek(0, io.SeekStart)
		}
	} else {
		var data []byte
		data, err = io.ReadAll(io.LimitReader(file, f.Size+1))
		sum.Write(data)
		read, body = int64(len(data)), bytes.NewReader(data)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, f.Path, err)
	}
	if read != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.hex() {
		return fmt.Errorf("%w: %s is not the file that the release was made with", ErrDamaged, f.Path)
	}
	return b.upload(ctx, f, body)
}

// Package depot keeps bytes by their digest: put, verify, fill, prune.
//
// A blob lies either in a file of its own (blobs/ab/…) or, when it is small and came with a tree, in a pack (packs/…): one
// file with thousands of blobs and an index at its end, so that a folder like node_modules costs one fsync and not 15,000.
// Everything is written aside, synced and renamed; what was returned by a Put survives a crash of the machine, and a crash
// in between leaves only files aside, which the next Open removes. Every reading compares with the digest.
//
// What is worth keeping is said by notes (SetNote): a note names blobs and trees, and Prune drops the notes that were not
// used for the longest time until the rest fits a budget. A blob that no note names is dropped by the next Prune, except
// while a Hold lasts. Only one process may prune a depot, and it must be the one that puts; any number may read.
package depot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Sentinels to decide by.
var (
	ErrNotFound = errors.New("not in the depot")
	ErrDamaged  = errors.New("the depot's bytes are not what their digest says")
	ErrNoSpace  = errors.New("no space left on the disk of the depot")
	ErrEscapes  = errors.New("the link points out of its folder")
	ErrSpecial  = errors.New("neither a file nor a folder nor a link")
	ErrChanged  = errors.New("the file changed while it was stored")
)

// small is the size in bytes up to which the files of a tree go into packs.
const small = 1 << 20

// Depot is a folder of blobs, packs and notes. It is safe for concurrent use.
type Depot struct {
	dir   string
	aside *os.File // the folder of files that are being written, locked as long as this process lives

	mu     sync.RWMutex // Prune holds it while it removes; readers of packs and writers of notes hold it shared
	packs  map[string]*pack
	packed map[sum]place
	broken int // packs whose index cannot be read: what is missing may have been there

	recentMu sync.Mutex
	holds    int
	recent   map[sum]struct{}    // blobs that were put or found while a hold lasts
	notes    map[string]struct{} // files of the notes that were used meanwhile
}

type sum [sha256.Size]byte

func (s sum) String() string { return "sha256:" + hex.EncodeToString(s[:]) }

func parse(digest string) (sum, error) {
	var s sum
	digits, ok := strings.CutPrefix(digest, "sha256:")
	if !ok || len(digits) != 2*len(s) || strings.ToLower(digits) != digits {
		return s, fmt.Errorf("%q is not a digest: %w", digest, ErrNotFound)
	}
	if _, err := hex.Decode(s[:], []byte(digits)); err != nil {
		return s, fmt.Errorf("%q is not a digest: %w", digest, ErrNotFound)
	}
	return s, nil
}

// DigestOf returns the digest of data.
func DigestOf(data []byte) string { return sum(sha256.Sum256(data)).String() }

// Open opens the depot in dir and makes it where there is none. It removes what dead processes were writing.
func Open(dir string) (*Depot, error) {
	d := &Depot{dir: dir, packs: map[string]*pack{}, packed: map[sum]place{}, recent: map[sum]struct{}{}, notes: map[string]struct{}{}}
	if err := d.makeFolders(); err != nil {
		return nil, fmt.Errorf("open the depot: %w", spaced(err))
	}
	if err := d.openAside(); err != nil {
		return nil, fmt.Errorf("open the depot: %w", spaced(err))
	}
	if err := d.refresh(); err != nil {
		return nil, fmt.Errorf("open the depot: %w", err)
	}
	return d, nil
}

// Close gives back the files that the depot holds open. Nothing is lost without it.
func (d *Depot) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.packs {
		p.file.Close()
	}
	os.RemoveAll(d.aside.Name())
	return d.aside.Close()
}

// Dir is the folder of the depot.
func (d *Depot) Dir() string { return d.dir }

func (d *Depot) makeFolders() error {
	for _, name := range []string{"aside", "notes", "packs", "blobs"} {
		if err := os.MkdirAll(filepath.Join(d.dir, name), 0o700); err != nil {
			return err
		}
	}
	return syncFolder(d.dir)
}

// openAside gives this process a folder of its own and removes those whose owner is dead, which their locks tell.
func (d *Depot) openAside() error {
	all := filepath.Join(d.dir, "aside")
	old, err := os.ReadDir(all)
	if err != nil {
		return err
	}
	for _, e := range old {
		if f, err := lockFolder(filepath.Join(all, e.Name())); err == nil {
			os.RemoveAll(f.Name())
			f.Close()
		}
	}
	// A folder that another process has made and not yet locked may vanish under it; it then takes another.
	for {
		name, err := os.MkdirTemp(all, "")
		if err != nil {
			return err
		}
		if d.aside, err = lockFolder(name); err == nil {
			if _, err = os.Stat(name); err == nil {
				return nil
			}
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
	}
}

func lockFolder(name string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (d *Depot) loose(s sum) string {
	digits := hex.EncodeToString(s[:])
	return filepath.Join(d.dir, "blobs", digits[:2], digits[2:])
}

// Put stores what r holds. When it returns, the bytes are safe on the disk. Putting the same bytes again, also at the same
// time, is fine; where the stored ones are damaged they are replaced. ErrNoSpace leaves nothing behind.
func (d *Depot) Put(ctx context.Context, r io.Reader) (digest string, size int64, err error) {
	s, size, err := d.put(ctx, r)
	if err != nil {
		return "", 0, fmt.Errorf("put into the depot: %w", spaced(err))
	}
	return s.String(), size, nil
}

// PutFile is Put for a file.
func (d *Depot) PutFile(ctx context.Context, path string) (digest string, size int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", 0, fmt.Errorf("put into the depot: %w", err)
	}
	defer f.Close()
	return d.Put(ctx, f)
}

func (d *Depot) put(ctx context.Context, r io.Reader) (s sum, size int64, err error) {
	f, err := os.CreateTemp(d.aside.Name(), "")
	if err != nil {
		return s, 0, err
	}
	defer os.Remove(f.Name()) // after a rename there is nothing to remove
	defer f.Close()
	h := sha256.New()
	if size, err = io.Copy(io.MultiWriter(f, h), reading(ctx, r)); err != nil {
		return s, 0, err
	}
	h.Sum(s[:0])
	if d.intact(ctx, s) {
		return s, size, nil
	}
	if err := f.Sync(); err != nil {
		return s, 0, err
	}
	name := d.loose(s)
	err = os.Mkdir(filepath.Dir(name), 0o700)
	if err == nil {
		err = syncFolder(filepath.Dir(filepath.Dir(name)))
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return s, 0, err
	}
	d.used(s) // before it is there, or a Prune could find it unused
	if err := os.Rename(f.Name(), name); err != nil {
		return s, 0, err
	}
	return s, size, syncFolder(filepath.Dir(name))
}

// intact reports whether the blob is there and whole, and notes its use so that Prune leaves it to the current hold. The
// order matters: a blob that Prune is about to remove is seen by the second look.
func (d *Depot) intact(ctx context.Context, s sum) bool {
	if !d.has(s) {
		return false
	}
	d.used(s)
	return d.verify(ctx, s) == nil
}

// Has reports whether the depot has a blob. It does not read it.
func (d *Depot) Has(digest string) bool {
	s, err := parse(digest)
	if err != nil {
		return false
	}
	return d.has(s) || d.refresh() == nil && d.has(s)
}

func (d *Depot) has(s sum) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if _, ok := d.packed[s]; ok {
		return true
	}
	_, err := os.Stat(d.loose(s))
	return err == nil
}

// Open returns a reader of the blob that fails with ErrDamaged, at the latest instead of io.EOF, where the bytes are wrong.
// A caller that must not use a wrong beginning reads to the end first, as Read does.
func (d *Depot) Open(ctx context.Context, digest string) (io.ReadCloser, error) {
	s, err := parse(digest)
	if err != nil {
		return nil, err
	}
	return d.open(ctx, s)
}

func (d *Depot) open(ctx context.Context, s sum) (io.ReadCloser, error) {
	f, err := os.Open(d.loose(s))
	if err == nil {
		return &verifying{r: reading(ctx, f), file: f, hash: sha256.New(), want: s}, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open %v: %w", s, err)
	}
	data, err := d.unpack(s, nil)
	if errors.Is(err, ErrNotFound) && d.refresh() == nil {
		data, err = d.unpack(s, nil)
	}
	if err != nil {
		return nil, err
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// Read returns the whole blob, verified.
func (d *Depot) Read(ctx context.Context, digest string) ([]byte, error) {
	r, err := d.Open(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Verify reads a blob. ErrNotFound when it is not there, ErrDamaged when its bytes are wrong.
func (d *Depot) Verify(ctx context.Context, digest string) error {
	s, err := parse(digest)
	if err != nil {
		return err
	}
	return d.verify(ctx, s)
}

func (d *Depot) verify(ctx context.Context, s sum) error {
	r, err := d.open(ctx, s)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// Hold keeps Prune from removing blobs that are put or found, and notes that are used, from now until release is called.
// Take one around a put and the SetNote that names it.
func (d *Depot) Hold() (release func()) {
	d.recentMu.Lock()
	defer d.recentMu.Unlock()
	d.holds++
	return sync.OnceFunc(func() {
		d.recentMu.Lock()
		defer d.recentMu.Unlock()
		if d.holds--; d.holds == 0 {
			clear(d.recent)
			clear(d.notes)
		}
	})
}

func (d *Depot) used(s sum) {
	d.recentMu.Lock()
	defer d.recentMu.Unlock()
	if d.holds > 0 {
		d.recent[s] = struct{}{}
	}
}

func (d *Depot) usedNote(file string) {
	d.recentMu.Lock()
	defer d.recentMu.Unlock()
	if d.holds > 0 {
		d.notes[file] = struct{}{}
	}
}

// verifying compares what it has read with a digest when the end is reached.
type verifying struct {
	r    io.Reader
	file *os.File
	hash hash.Hash
	want sum
}

func (v *verifying) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.hash.Write(p[:n])
	if errors.Is(err, unix.EIO) {
		return n, fmt.Errorf("%v: %w: %w", v.want, ErrDamaged, err)
	}
	if err == io.EOF && sum(v.hash.Sum(nil)) != v.want {
		return 0, fmt.Errorf("%v: %w", v.want, ErrDamaged)
	}
	return n, err
}

func (v *verifying) Close() error { return v.file.Close() }

// reading ends r with the error of ctx when that is done.
func reading(ctx context.Context, r io.Reader) io.Reader { return ctxReader{ctx, r} }

type ctxReader struct {
	ctx context.Context
	r   io.Reader
}

func (c ctxReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Space returns the bytes that are free for this user, and all bytes, of the file system that holds dir.
func Space(dir string) (free, total int64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, 0, fmt.Errorf("ask the disk of %s: %w", dir, err)
	}
	return int64(st.Bavail) * st.Bsize, int64(st.Blocks) * st.Bsize, nil
}

// spaced makes a full disk, or a full quota, an ErrNoSpace.
func spaced(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

func syncFolder(names ...string) error {
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

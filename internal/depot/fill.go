package depot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Fill makes the folder dir, which must not exist, with what the tree says: aside, synced and renamed, so that dir is
// whole, also after a crash of the machine, or not there. Every byte is compared with its digest on the way. Files are
// 0755 or 0644 and folders 0755, whatever the umask, and belong to uid and gid; -1 leaves them to the caller.
func (d *Depot) Fill(ctx context.Context, t Tree, dir string, uid, gid int) error {
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("fill %s: %w", dir, fs.ErrExist)
	}
	aside, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".filling-")
	if err != nil {
		return fmt.Errorf("fill %s: %w", dir, spaced(err))
	}
	defer os.RemoveAll(aside)
	err = errors.Join(os.Chmod(aside, 0o755), os.Chown(aside, uid, gid))
	if err == nil {
		err = d.fillInto(ctx, t, aside, filler{uid: uid, gid: gid, sync: len(t) <= fewFiles})
	}
	if err == nil && len(t) > fewFiles {
		err = syncFileSystem(aside)
	}
	if err == nil {
		err = os.Rename(aside, dir)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(dir))
	}
	if err != nil {
		return fmt.Errorf("fill %s: %w", dir, spaced(err))
	}
	return nil
}

// fewFiles is how many files are synced one by one. Syncing the file system costs the same for any number, but waits for
// whatever else is being written to the disk.
const fewFiles = 256

func syncFileSystem(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// FillInto adds the tree to a folder that exists, without syncing: for folders that do not outlive a crash. What lies in the
// way is fs.ErrExist. Nothing outside dir is written to, whoever else may plant links in it. After an error a part of the
// tree is there.
func (d *Depot) FillInto(ctx context.Context, t Tree, dir string, uid, gid int) error {
	return d.fillInto(ctx, t, dir, filler{uid: uid, gid: gid})
}

func (d *Depot) fillInto(ctx context.Context, t Tree, dir string, how filler) error {
	if err := t.Check(); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	folders, names, err := makeFolders(root, t, how.uid, how.gid)
	if err != nil {
		return spaced(err)
	}
	work := make(chan []Entry, len(folders))
	for _, entries := range folders {
		work <- entries
	}
	close(work)
	group, ctx := errgroup.WithContext(ctx)
	for range workers() {
		f := how
		f.d, f.buf = d, make([]byte, small)
		group.Go(func() error {
			for entries := range work {
				if err := f.folder(ctx, root, entries); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil || !how.sync {
		return spaced(err)
	}
	for _, name := range append(names, ".") {
		if err := syncFolder(filepath.Join(dir, name)); err != nil {
			return spaced(err)
		}
	}
	return nil
}

// makeFolders makes every folder of the tree, parents first, and returns the files and links of each, and their names.
func makeFolders(root *os.Root, t Tree, uid, gid int) (contents [][]Entry, names []string, err error) {
	in := map[string][]Entry{}
	need := map[string]bool{}
	for _, e := range t {
		dir := e.Path
		if !e.Folder {
			dir = path.Dir(e.Path)
			in[dir] = append(in[dir], e)
		}
		for ; dir != "." && !need[dir]; dir = path.Dir(dir) {
			need[dir] = true
		}
	}
	for dir := range need {
		names = append(names, dir)
	}
	slices.Sort(names)
	for _, dir := range names {
		if err := makeFolder(root, dir, uid, gid); err != nil {
			return nil, nil, err
		}
	}
	for _, entries := range in {
		contents = append(contents, entries)
	}
	return contents, names, nil
}

func makeFolder(root *os.Root, dir string, uid, gid int) error {
	err := root.Mkdir(dir, 0o755)
	if errors.Is(err, fs.ErrExist) {
		if info, err := root.Lstat(dir); err == nil && info.IsDir() {
			return nil
		}
		return fmt.Errorf("%s is not a folder: %w", dir, fs.ErrExist)
	}
	if err != nil {
		return err
	}
	if err := root.Chmod(dir, 0o755); err != nil {
		return err
	}
	if uid < 0 && gid < 0 {
		return nil
	}
	return root.Lchown(dir, uid, gid)
}

// filler writes the files of one folder after the other.
type filler struct {
	d        *Depot
	uid, gid int
	sync     bool
	buf      []byte
}

func (f *filler) folder(ctx context.Context, root *os.Root, entries []Entry) error {
	dir, err := root.OpenRoot(path.Dir(entries[0].Path))
	if err != nil {
		return err
	}
	defer dir.Close()
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.Link != "" {
			err = f.link(dir, e)
		} else {
			err = f.file(ctx, dir, e)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
	}
	return nil
}

func (f *filler) link(dir *os.Root, e Entry) error {
	name := path.Base(e.Path)
	if err := dir.Symlink(e.Link, name); err != nil {
		return err
	}
	if f.uid < 0 && f.gid < 0 {
		return nil
	}
	return dir.Lchown(name, f.uid, f.gid)
}

func (f *filler) file(ctx context.Context, dir *os.Root, e Entry) error {
	mode := fs.FileMode(0o644)
	if e.Executable {
		mode = 0o755
	}
	out, err := dir.OpenFile(path.Base(e.Path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer out.Close()
	if err := f.copy(ctx, out, e); err != nil {
		return err
	}
	if err := out.Chmod(mode); err != nil {
		return err
	}
	if f.uid >= 0 || f.gid >= 0 {
		if err := out.Chown(f.uid, f.gid); err != nil {
			return err
		}
	}
	if f.sync {
		if err := out.Sync(); err != nil {
			return err
		}
	}
	return out.Close()
}

func (f *filler) copy(ctx context.Context, out *os.File, e Entry) error {
	s, err := parse(e.Digest)
	if err != nil {
		return err
	}
	data, err := f.d.readSmall(s, f.buf)
	if err == nil {
		if int64(len(data)) != e.Size {
			return fmt.Errorf("%v has %d bytes and not %d: %w", s, len(data), e.Size, ErrDamaged)
		}
		_, err = out.Write(data)
		return err
	}
	in, err := f.d.open(ctx, s)
	if err != nil {
		return err
	}
	defer in.Close()
	n, err := io.Copy(out, in)
	if err == nil && n != e.Size {
		err = fmt.Errorf("%v has %d bytes and not %d: %w", s, n, e.Size, ErrDamaged)
	}
	return err
}

// errLarge is a blob that has to be streamed.
var errLarge = errors.New("too large for one buffer")

// readSmall returns a blob of at most the size of buf, verified, in buf.
func (d *Depot) readSmall(s sum, buf []byte) ([]byte, error) {
	file, err := os.Open(d.loose(s))
	if errors.Is(err, fs.ErrNotExist) {
		return d.unpack(s, buf)
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	n, err := io.ReadFull(file, buf)
	if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, errLarge
	}
	if sha256.Sum256(buf[:n]) != s {
		return nil, fmt.Errorf("%v: %w", s, ErrDamaged)
	}
	return buf[:n], nil
}

// VerifyTree reads every blob of the tree. Errors as of Verify, with the path.
func (d *Depot) VerifyTree(ctx context.Context, t Tree) error {
	work := make(chan Entry, len(t))
	for _, e := range t {
		if e.Digest != "" {
			work <- e
		}
	}
	close(work)
	group, ctx := errgroup.WithContext(ctx)
	for range workers() {
		f := filler{d: d, buf: make([]byte, small)}
		group.Go(func() error {
			for e := range work {
				if err := f.verify(ctx, e); err != nil {
					return fmt.Errorf("%s: %w", e.Path, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (f *filler) verify(ctx context.Context, e Entry) error {
	s, err := parse(e.Digest)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	data, err := f.d.readSmall(s, f.buf)
	if err == nil && int64(len(data)) != e.Size {
		return fmt.Errorf("%v has %d bytes and not %d: %w", s, len(data), e.Size, ErrDamaged)
	}
	if err == nil {
		return nil
	}
	return f.d.verify(ctx, s)
}

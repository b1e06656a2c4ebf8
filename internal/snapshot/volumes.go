package snapshot

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// volume takes a folder: files, folders and links as they are. Nothing outside the folder is read, whatever links say.
func (k *taking) volume(ctx context.Context, name, folder string) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer root.Close()
	tree := &tree{ctx: ctx, root: root, sum: sha256.New()}
	file := path.Join(volumesDir, name+volumeSuffix)
	if err := k.part(ctx, file, tree.pack); err != nil {
		return err
	}
	if len(tree.changed) > 0 {
		k.c.Log.Warn("files of a volume changed while the snapshot was taken, or are of a kind that is not kept", "volume", name, "files", len(tree.changed), "first", tree.changed[0])
	}
	k.open.Files += tree.files
	k.details.Volumes = append(k.details.Volumes, volumeDetails{Name: name, Part: file, Files: tree.files, Bytes: tree.bytes, Sum: hex.EncodeToString(tree.sum.Sum(nil)), Changed: tree.changed})
	return nil
}

// tree is a folder, while it is packed or unpacked.
type tree struct {
	ctx     context.Context
	root    *os.Root
	sum     hash.Hash // of all entries, in their order
	files   int64
	bytes   int64
	changed []string
}

func (t *tree) pack(to io.Writer) error {
	w := tar.NewWriter(to)
	err := fs.WalkDir(t.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case t.ctx.Err() != nil:
			return context.Cause(t.ctx)
		case errors.Is(err, fs.ErrNotExist):
			t.changed = append(t.changed, name)
			return nil
		case err != nil || name == ".":
			return err
		}
		return t.entry(w, name)
	})
	return errors.Join(err, w.Close())
}

// entry packs one file, folder or link.
func (t *tree) entry(w *tar.Writer, name string) error {
	info, err := t.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		t.changed = append(t.changed, name)
		return nil
	}
	if err != nil {
		return err
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return t.file(w, name)
	case mode&fs.ModeSymlink != 0:
		to, err := t.root.Readlink(name)
		if err != nil {
			return err
		}
		return t.head(w, name, info, to)
	case mode.IsDir():
		return t.head(w, name, info, "")
	}
	t.changed = append(t.changed, name) // a socket, a pipe, a device
	return nil
}

func (t *tree) head(w *tar.Writer, name string, info fs.FileInfo, link string) error {
	h, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return err
	}
	h.Name, h.Uname, h.Gname, h.Format = name, "", "", tar.FormatPAX
	t.note(h)
	return w.WriteHeader(h)
}

// note adds an entry to the sum: its name, kind, rights and link; the content follows.
func (t *tree) note(h *tar.Header) {
	size := h.Size
	if h.Typeflag != tar.TypeReg {
		size = 0
	}
	fmt.Fprintf(t.sum, "%q %c %o %q %d\n", strings.TrimSuffix(h.Name, "/"), h.Typeflag, h.Mode&0o7777, h.Linkname, size)
}

// file packs a file at the size that it had when it was opened. One that changes meanwhile is told; one that became shorter is filled
// with zeros.
func (t *tree) file(w *tar.Writer, name string) error {
	f, err := t.root.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ELOOP) {
		t.changed = append(t.changed, name)
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return err
	}
	if !before.Mode().IsRegular() {
		t.changed = append(t.changed, name)
		return nil
	}
	if err := t.head(w, name, before, ""); err != nil {
		return err
	}
	n, err := io.Copy(io.MultiWriter(w, t.sum), io.LimitReader(&aliveReader{t.ctx, f}, before.Size()))
	if err != nil {
		return err
	}
	if _, err := io.CopyN(io.MultiWriter(w, t.sum), zeros{}, before.Size()-n); err != nil {
		return err
	}
	after, err := f.Stat()
	if err != nil {
		return err
	}
	if n < before.Size() || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime()) {
		t.changed = append(t.changed, name)
	}
	t.files++
	t.bytes += before.Size()
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

type aliveReader struct {
	ctx  context.Context
	from io.Reader
}

func (a *aliveReader) Read(p []byte) (int, error) {
	if a.ctx.Err() != nil {
		return 0, context.Cause(a.ctx)
	}
	return a.from.Read(p)
}

// unpack reads a packed tree and compares it with what was taken. With a root it is written there; without one it is read only.
func (s *Store) unpack(ctx context.Context, l loaded, v volumeDetails, root *os.Root) error {
	r, done, err := s.openPart(ctx, l, v.Part)
	if err != nil {
		return err
	}
	defer done()
	t := &tree{ctx: ctx, root: root, sum: sha256.New()}
	if err := t.unpack(tar.NewReader(r)); err != nil {
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("%w: %s is not what was packed", deploy.ErrDamaged, v.Part)
		}
		return spaced(err, "volume "+v.Name)
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // to the end, where its digest is compared
		return err
	}
	if sum := hex.EncodeToString(t.sum.Sum(nil)); sum != v.Sum || t.files != v.Files {
		return fmt.Errorf("%w: volume %s has %d files, %d were taken, or not the same ones", deploy.ErrDamaged, v.Name, t.files, v.Files)
	}
	return nil
}

func (t *tree) unpack(r *tar.Reader) error {
	var folders []*tar.Header
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		t.note(h)
		if h.Typeflag == tar.TypeDir {
			folders = append(folders, h)
		}
		if err := t.restore(r, h); err != nil {
			return err
		}
	}
	for i := len(folders) - 1; i >= 0 && t.root != nil; i-- { // last, or nothing could be put into one that is closed to us
		h := folders[i]
		name := strings.TrimSuffix(h.Name, "/")
		if err := errors.Join(t.root.Chmod(name, mode(h)), t.root.Chtimes(name, h.ModTime, h.ModTime)); err != nil {
			return err
		}
	}
	return nil
}

// mode has the bits that chmod knows.
func mode(h *tar.Header) fs.FileMode {
	return h.FileInfo().Mode() & (fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky)
}

func (t *tree) restore(r io.Reader, h *tar.Header) error {
	name := strings.TrimSuffix(h.Name, "/")
	if !fs.ValidPath(name) || !filepath.IsLocal(name) {
		return tar.ErrHeader
	}
	if h.Typeflag == tar.TypeReg {
		t.files++
	}
	if t.root == nil {
		_, err := io.Copy(t.sum, &aliveReader{t.ctx, r})
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if err := t.root.Mkdir(name, 0o700); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := t.root.Symlink(h.Linkname, name); err != nil {
			return err
		}
	case tar.TypeReg:
		if err := t.put(r, name, h); err != nil {
			return err
		}
	default:
		return tar.ErrHeader
	}
	if os.Geteuid() == 0 {
		return t.root.Lchown(name, h.Uid, h.Gid)
	}
	return nil
}

func (t *tree) put(r io.Reader, name string, h *tar.Header) error {
	f, err := t.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.MultiWriter(f, t.sum), &aliveReader{t.ctx, r})
	if os.Geteuid() == 0 {
		err = errors.Join(err, f.Chown(h.Uid, h.Gid)) // before the mode: it takes setuid away
	}
	return errors.Join(err, f.Chmod(mode(h)), f.Sync(), f.Close(), t.root.Chtimes(name, h.ModTime, h.ModTime))
}

// asideName is the folder in a volume that is filled first.
const asideName = ".lotse-restoring"

// emptyFolder refuses a folder with anything in it; what a restore that was killed left aside does not count, and goes.
func emptyFolder(name, folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return spaced(err, folder)
	}
	if err := os.RemoveAll(filepath.Join(folder, asideName)); err != nil {
		return err
	}
	entries, err := os.ReadDir(folder)
	if err == nil && len(entries) > 0 {
		return deploy.Hint(fmt.Errorf("%w: the folder for the volume %s is not empty", deploy.ErrRefused, name), "give a new folder; Lotse never restores into one that is in use")
	}
	return err
}

// bring fills the folder of a volume: aside first, so that a disk that is full or a part that is damaged leaves an empty one.
func (s *Store) bring(ctx context.Context, l loaded, v volumeDetails, folder string) (err error) {
	aside := filepath.Join(folder, asideName)
	if err := os.Mkdir(aside, 0o700); err != nil {
		return spaced(err, folder)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(aside)) }()
	root, err := os.OpenRoot(aside)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := s.unpack(ctx, l, v, root); err != nil {
		return err
	}
	if err := s.at("volume"); err != nil {
		return err
	}
	entries, err := os.ReadDir(aside)
	for _, e := range entries {
		if err == nil {
			err = os.Rename(filepath.Join(aside, e.Name()), filepath.Join(folder, e.Name()))
		}
	}
	return errors.Join(err, syncFolders(folder, folder))
}

package pipeline

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func cores() int { return runtime.NumCPU() }

// slot is where one run at a time has its checkout. Slots are numbered, and a run takes the first that is free, so that a
// checkout nearly always lies at the same path: compilers write the path into what they make, and the Go build cache
// finds nothing again that was compiled elsewhere.
type slot struct {
	dir  string // holds src (the checkout) and tmp
	lock *os.File
}

func (s *slot) src() string { return filepath.Join(s.dir, "src") }
func (s *slot) tmp() string { return filepath.Join(s.dir, "tmp") }

// takeSlot locks the first free slot. A lock is gone with its process, so that a dead run holds none.
func (p *Pipeline) takeSlot() (*slot, error) {
	for i := 0; ; i++ {
		s, err := p.lockSlot(strconv.Itoa(i))
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := p.emptySlot(s); err != nil {
			s.lock.Close()
			return nil, err
		}
		if err := p.openSlot(s); err != nil {
			p.giveBack(s)
			return nil, err
		}
		return s, nil
	}
}

func (p *Pipeline) lockSlot(number string) (*slot, error) {
	lock, err := os.OpenFile(filepath.Join(p.work(), number+".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, err
	}
	return &slot{filepath.Join(p.work(), number), lock}, nil
}

func (p *Pipeline) openSlot(s *slot) error {
	uid, gid := p.owner()
	for dir, mode := range map[string]fs.FileMode{s.dir: 0o711, s.src(): 0o755, s.tmp(): 0o700} {
		if err := os.MkdirAll(dir, mode); err != nil {
			return err
		}
		if err := os.Chmod(dir, mode); err != nil {
			return err
		}
	}
	return errors.Join(os.Chown(s.src(), uid, gid), os.Chown(s.tmp(), uid, gid))
}

// emptySlot moves the slot's folder away and removes it while others go on: a node_modules takes its time.
func (p *Pipeline) emptySlot(s *slot) error {
	trash := filepath.Join(p.work(), "trash-"+rand.Text())
	err := os.Rename(s.dir, trash)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	p.later.Go(func() { p.remove(trash) })
	return nil
}

func (p *Pipeline) remove(dir string) {
	if err := os.RemoveAll(dir); err != nil {
		p.config.Log.Warn("a checkout could not be removed; it is tried again at the next start", "error", err)
	}
}

func (p *Pipeline) giveBack(s *slot) {
	if err := p.emptySlot(s); err != nil {
		p.config.Log.Warn("a checkout could not be removed; it is tried again at the next start", "error", err)
	}
	s.lock.Close()
}

// sweepSlots removes the checkouts of dead runs.
func (p *Pipeline) sweepSlots() error {
	list, err := os.ReadDir(p.work())
	if err != nil {
		return err
	}
	for _, e := range list {
		if strings.HasPrefix(e.Name(), "trash-") {
			p.later.Go(func() { p.remove(filepath.Join(p.work(), e.Name())) })
			continue
		}
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		if s, err := p.lockSlot(e.Name()); err == nil {
			p.giveBack(s)
		}
	}
	return nil
}

// lfsPointer begins a file that stands for one in Git LFS (git-lfs docs/spec.md).
const lfsPointer = "version https://git-lfs.github.com/spec/v1\n"

// checkOut writes the exact bytes of the commit to dir: straight from git's objects, so that neither filters, attributes nor
// line endings of anybody's configuration have a say, and nothing of the user's index or work tree is touched.
func checkOut(ctx context.Context, c deploy.Commit, all []source, dir string, uid, gid int) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	w := writer{root: root, uid: uid, gid: gid, made: map[string]bool{".": true}}
	var files, links []blob
	for _, f := range all {
		b := blob{f.object, func(r io.Reader, size int64) error { return w.write(f, r, size) }}
		if f.mode == "120000" {
			links = append(links, b)
		} else {
			files = append(files, b)
		}
	}
	// Links come last, so that no file is written through one.
	return gitOf(c.Repo).blobs(ctx, append(files, links...))
}

type writer struct {
	root     *os.Root
	uid, gid int
	made     map[string]bool
}

func (w *writer) write(f source, r io.Reader, size int64) error {
	if err := w.folder(path.Dir(f.path)); err != nil {
		return err
	}
	if f.mode == "120000" {
		target, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if err := w.root.Symlink(string(target), f.path); err != nil {
			return err
		}
		return w.chown(f.path)
	}
	mode := fs.FileMode(0o644)
	if f.mode == "100755" {
		mode = 0o755
	}
	if size < 1<<10 {
		data, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if bytes.HasPrefix(data, []byte(lfsPointer)) {
			return deploy.Hint(fmt.Errorf("%w: %s lies in Git LFS, and the commit holds only a pointer to it", deploy.ErrBadInput, f.path),
				"take the file into the repository itself (`git lfs migrate export`), or fetch it in a step")
		}
		r = bytes.NewReader(data)
	}
	out, err := w.root.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, r); err != nil {
		return err
	}
	if err := out.Chmod(mode); err != nil {
		return err
	}
	if w.uid >= 0 {
		if err := out.Chown(w.uid, w.gid); err != nil {
			return err
		}
	}
	return out.Close()
}

func (w *writer) folder(dir string) error {
	if w.made[dir] {
		return nil
	}
	if err := w.folder(path.Dir(dir)); err != nil {
		return err
	}
	w.made[dir] = true
	if err := w.root.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if err := w.root.Chmod(dir, 0o755); err != nil {
		return err
	}
	return w.chown(dir)
}

func (w *writer) chown(name string) error {
	if w.uid < 0 {
		return nil
	}
	return w.root.Lchown(name, w.uid, w.gid)
}

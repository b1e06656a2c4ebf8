package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// place is where snapshots lie. Names are slash paths below it. Errors are deploy's; what is not there is fs.ErrNotExist.
type place interface {
	// write makes what fill writes the content of name. After an error, or a crash, what a whole one can be taken for is not there; an older one is.
	write(ctx context.Context, name string, fill func(io.Writer) error) error
	open(ctx context.Context, name string) (io.ReadCloser, error)
	// list names all below a folder, with their sizes; what is being written too where it can be seen.
	list(ctx context.Context, folder string) (map[string]int64, error)
	// remove removes a folder with everything in it, also what was begun and not ended; of its files first the one named.
	remove(ctx context.Context, folder, first string) error
	// lock waits until nobody else changes the folder; wait false: errLocked at once. The context ends when the lock is lost.
	lock(ctx context.Context, folder string, wait bool) (held context.Context, unlock func(), err error)
	// where is how people find a folder.
	where(folder string) string
}

var errLocked = errors.New("locked")

// folder is a place on this machine.
type folder struct{ root string }

const lockName = "lock"

func (f folder) path(name string) string  { return filepath.Join(f.root, filepath.FromSlash(name)) }
func (f folder) where(name string) string { return f.path(name) }

// write writes aside, syncs and renames. Folders are for their owner alone.
func (f folder) write(ctx context.Context, name string, fill func(io.Writer) error) error {
	file := f.path(name)
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return spaced(err, name)
	}
	aside, err := os.OpenFile(file+asideSuffix, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return spaced(err, name)
	}
	err = fill(&alive{ctx, aside})
	if err == nil {
		err = aside.Sync()
	}
	err = errors.Join(err, aside.Close())
	if err == nil {
		err = os.Rename(aside.Name(), file)
	}
	if err != nil {
		return spaced(errors.Join(err, os.Remove(aside.Name())), name) // where the disk is full, others need the room
	}
	return spaced(syncFolders(filepath.Dir(file), f.root), name)
}

const asideSuffix = ".new"

// alive ends writing with its context.
type alive struct {
	ctx context.Context
	to  io.Writer
}

func (a *alive) Write(p []byte) (int, error) {
	if a.ctx.Err() != nil {
		return 0, context.Cause(a.ctx)
	}
	return a.to.Write(p)
}

// spaced names a full disk.
func spaced(err error, name string) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG) {
		return deploy.Hint(fmt.Errorf("%w: the disk is full where %s is written", deploy.ErrNoSpace, name), "make room, or let the snapshots lie elsewhere; what was begun was taken away")
	}
	return err
}

// syncFolders makes names last: that of a file, and those of the folders above it up to the root.
func syncFolders(dir, root string) error {
	for {
		d, err := os.Open(dir)
		if err != nil {
			return err
		}
		if err := errors.Join(d.Sync(), d.Close()); err != nil || dir == root || len(dir) <= len(root) {
			return err
		}
		dir = filepath.Dir(dir)
	}
}

func (f folder) open(_ context.Context, name string) (io.ReadCloser, error) {
	return os.OpenFile(f.path(name), os.O_RDONLY|unix.O_NOFOLLOW, 0)
}

func (f folder) list(_ context.Context, dir string) (map[string]int64, error) {
	found := map[string]int64{}
	if dir == "" {
		dir = "."
	}
	err := fs.WalkDir(os.DirFS(f.path(dir)), ".", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went while we looked
		}
		if err != nil || d.IsDir() || name == lockName {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			found[path.Join(dir, name)] = info.Size()
		}
		return err
	})
	return found, err
}

func (f folder) remove(_ context.Context, dir, first string) error {
	err := os.Remove(f.path(path.Join(dir, first)))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(f.path(dir))
}

// lock is a file lock: it ends with the process, however that ends.
func (f folder) lock(ctx context.Context, dir string, wait bool) (context.Context, func(), error) {
	if err := os.MkdirAll(f.path(dir), 0o700); err != nil {
		return nil, nil, spaced(err, dir)
	}
	file, err := os.OpenFile(filepath.Join(f.path(dir), lockName), os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, nil, spaced(err, dir)
	}
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return ctx, func() { _ = file.Close() }, nil // nothing was written
		case !errors.Is(err, unix.EWOULDBLOCK):
		case !wait:
			err = errLocked
		default:
			err = pause(ctx, 50*time.Millisecond)
		}
		if err != nil {
			_ = file.Close()
			return nil, nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// foldersIn are the names right below a folder in what list returned.
func foldersIn(listed map[string]int64, dir string) []string {
	var all []string
	for name := range listed {
		rest := name
		if dir != "" {
			rest, _ = strings.CutPrefix(name, dir+"/")
		}
		if first, _, below := strings.Cut(rest, "/"); below && !slices.Contains(all, first) {
			all = append(all, first)
		}
	}
	slices.Sort(all)
	return all
}

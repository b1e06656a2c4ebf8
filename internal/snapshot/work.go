package snapshot

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
)

// work is a folder for one call: what its programs need, and a scratch cluster where one is needed. It is locked for as long as the process lives, by which others know what a dead one left.
type work struct {
	dir  string
	lock *os.File
}

// newWork makes a folder, after what dead processes left was taken away.
func (s *Store) newWork(ctx context.Context) (*work, error) {
	if s.c.Scratch == "" {
		return nil, fmt.Errorf("%w: there is no folder for scratch clusters", deploy.ErrMissing)
	}
	if err := s.sweep(ctx); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(s.c.Scratch, 0o755); err != nil { // PostgreSQL's user goes through it
		return nil, spaced(err, s.c.Scratch)
	}
	for {
		w := &work{dir: filepath.Join(s.c.Scratch, strings.ToLower(rand.Text()[:6]))}
		if err := os.Mkdir(w.dir, 0o711); err != nil {
			return nil, spaced(err, s.c.Scratch)
		}
		var err error
		if w.lock, err = lockFolder(w.dir); err == nil {
			if _, err = os.Stat(w.dir); err == nil {
				return w, os.Chmod(w.dir, 0o711) // whatever the umask took
			}
		}
		// A sweep of another process may have come between: then another folder.
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, err
		}
	}
}

func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // nothing was written
		return nil, err
	}
	return f, nil
}

func (w *work) cluster(major int) postgres.Cluster {
	return postgres.Cluster{Dir: filepath.Join(w.dir, "c"), Major: major}
}

// start runs a scratch cluster on a free port of 127.0.0.1.
func (w *work) start(ctx context.Context, major int) (postgres.Cluster, *postgres.Server, error) {
	for range 10 { // somebody may take the port meanwhile
		c := w.cluster(major)
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return c, nil, err
		}
		c.Port = l.Addr().(*net.TCPAddr).Port
		if err := l.Close(); err != nil {
			return c, nil, err
		}
		server, err := c.Start(ctx, nil)
		if !errors.Is(err, postgres.ErrPortTaken) {
			return c, server, err
		}
	}
	return postgres.Cluster{}, nil, fmt.Errorf("%w: no port of 127.0.0.1 stays free", deploy.ErrUnavailable)
}

// end removes the folder, and ends the cluster in it, also after a cancel.
func (w *work) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 6*patience)
	defer cancel()
	err := w.cluster(0).Remove(ctx)
	if errors.Is(err, postgres.ErrNotMade) {
		err = nil
	}
	if err != nil {
		return errors.Join(fmt.Errorf("throw the scratch cluster away: %w", err), w.lock.Close())
	}
	return errors.Join(os.RemoveAll(w.dir), w.lock.Close())
}

// clear is end for who has an outcome to return: what is left is taken away by the next call.
func (s *Store) clear(ctx context.Context, w *work) {
	if err := w.end(ctx); err != nil {
		s.c.Log.Warn("a scratch folder could not be taken away", "folder", w.dir, "error", err)
	}
}

// sweep takes away what dead processes left.
func (s *Store) sweep(ctx context.Context) error {
	entries, err := os.ReadDir(s.c.Scratch)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		lock, err := lockFolder(filepath.Join(s.c.Scratch, e.Name()))
		if err != nil {
			continue // of somebody alive, or gone meanwhile
		}
		left := &work{filepath.Join(s.c.Scratch, e.Name()), lock}
		if err := left.end(ctx); err != nil {
			return err
		}
		s.c.Log.Warn("took away what a killed process left of a scratch cluster", "folder", left.dir)
	}
	return nil
}

// hidden is a file without a name: what is in it is gone with the process, however that ends.
func (w *work) hidden() (*os.File, error) {
	f, err := os.CreateTemp(w.dir, "dump")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

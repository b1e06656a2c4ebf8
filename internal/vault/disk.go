package vault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// replace writes a file aside, makes sure that it is on the disk, calls before where there is one, and puts it in the place of the
// file: whoever reads finds the old one or the new one, whole. The caller holds the lock, so that there is one file aside at a time;
// one that a crash has left is written over.
func replace(file string, data []byte, before func() error) error {
	aside := file + ".new"
	err := writeSynced(aside, data)
	if err == nil && before != nil {
		err = before()
	}
	if err == nil {
		err = os.Rename(aside, file)
	}
	if err != nil {
		_ = os.Remove(aside) // what is left is written over the next time
		return noSpace(err)
	}
	return syncDir(filepath.Dir(file))
}

func writeSynced(file string, data []byte) error {
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

func noSpace(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return deploy.Hint(fmt.Errorf("%w: %w", deploy.ErrNoSpace, err), "make room; what was kept is unchanged")
	}
	return err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// retryLock is how soon a lock that somebody has is asked for again; it is held for some milliseconds.
const retryLock = 5 * time.Millisecond

// lock makes the caller the only one who writes, until unlock or the end of the process.
func lock(ctx context.Context, file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(err, f.Close())
		}
		timer := time.NewTimer(retryLock)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, errors.Join(fmt.Errorf("%w: somebody else writes to the vault: %w", deploy.ErrBusy, ctx.Err()), f.Close())
		}
	}
}

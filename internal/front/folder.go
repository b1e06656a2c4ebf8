package front

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// A running front has a folder of its own, 0700:
//
//	lock         locked by it for as long as it lives
//	front.sock   the control socket
//	table/       the proxy's table
//	homes/       HOME of each service, and of each task while it runs
//
// Whoever looks for the front of a release finds the folder by the release's: its name is a digest of that path. It lies in the first
// of several places that can be had, since what user may write where differs from platform to platform; who looks, looks in all.
type folder string

func (f folder) at(elem ...string) string {
	return filepath.Join(append([]string{string(f)}, elem...)...)
}

func (f folder) socket() string { return f.at("front.sock") }

// longestPath is what of sun_path (108 bytes with the zero at its end, unix(7)) the socket's own name leaves.
const longestPath = 107 - len("/front.sock")

// runPlace is where a platform's hooks make a folder for fronts; it is used where it is there.
const runPlace = "/var/lib/lotse/run"

// folders are the places for a release's folder, best first.
func folders(dir string, env environment) ([]folder, error) {
	if own := env.get("LOTSE_RUN"); own != "" {
		return []folder{folder(own)}, nil
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if at, err := filepath.EvalSymlinks(dir); err == nil {
		dir = at
	}
	sum := sha256.Sum256([]byte(dir))
	var all []folder
	for _, place := range []string{runPlace, env.get("TMPDIR"), "/tmp"} {
		f := folder(filepath.Join(place, "lotse-front-"+hex.EncodeToString(sum[:6])))
		if place != "" && len(f) <= longestPath && !slices.Contains(all, f) {
			all = append(all, f)
		}
	}
	return all, nil
}

// settle makes the first of the folders that can be had, ours alone and empty but for the lock, and locks it. leave lets go of it.
func settle(dir string, env environment) (f folder, leave func(), err error) {
	all, err := folders(dir, env)
	if err != nil {
		return "", nil, err
	}
	var missed []error
	for _, f := range all {
		leave, err := f.take()
		if err == nil || errors.Is(err, deploy.ErrBusy) {
			return f, leave, err
		}
		missed = append(missed, err)
	}
	return "", nil, deploy.Hint(fmt.Errorf("%w: there is no folder for the front's socket: %w", deploy.ErrBadInput, errors.Join(missed...)), "name one with LOTSE_RUN, with a path of at most "+fmt.Sprint(longestPath)+" bytes")
}

func (f folder) take() (leave func(), err error) {
	if len(f) > longestPath {
		return nil, fmt.Errorf("%s has more than %d bytes", f, longestPath)
	}
	if err := os.Mkdir(string(f), 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	// The name can be foretold, and others may write to /tmp: what is not ours alone is somebody's trap.
	if err := f.ours(); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(f.at("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("%w: another front runs for this release", deploy.ErrBusy)
	}
	for _, name := range []string{"front.sock", "table", "homes"} {
		err = errors.Join(err, os.RemoveAll(f.at(name)))
	}
	if err = errors.Join(err, os.Mkdir(f.at("homes"), 0o700)); err != nil {
		lock.Close()
		return nil, err
	}
	return func() {
		_ = os.RemoveAll(string(f)) // what stays is emptied by the next
		lock.Close()
	}, nil
}

func (f folder) ours() error {
	info, err := os.Lstat(string(f))
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !info.IsDir() || !ok || int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%s is of somebody else", f)
	}
	return os.Chmod(string(f), 0o700)
}

// home makes a folder that one process may fill.
func (f folder) home(name string) (string, error) {
	home := f.at("homes", name)
	return home, os.MkdirAll(filepath.Join(home, "tmp"), 0o700)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// place is the state folder: everything that Lotse keeps on this machine lies below it.
type place string

func (p place) at(elem ...string) string {
	return filepath.Join(append([]string{string(p)}, elem...)...)
}

func (p place) socket() string    { return p.at("lotse.sock") }
func (p place) ledger() string    { return p.at("ledger.db") }
func (p place) authority() string { return p.at("authority") }
func (p place) control() string   { return p.at("proxy", "control.sock") }
func (p place) handover() string  { return p.at("proxy", "fds.sock") }
func (p place) keeper() string    { return p.at("proxy", "keeper") }

// controllerKeeper is the folder of the keeper of a controller that was detached.
func (p place) controllerKeeper() string { return p.at("controller") }

// longestSocket is what of sun_path (108 bytes, unix(7)) the sockets below a state folder leave for its own name.
const longestSocket = 108 - len("/proxy/control.sock") - 1

// make creates the folder, so that the service users can go through it and nobody can list it.
func (p place) make() error {
	if len(p) > longestSocket {
		return deploy.Hint(fmt.Errorf("%w: the state folder's path has %d bytes; unix sockets leave it %d", deploy.ErrBadInput, len(p), longestSocket),
			"name a shorter one with --state")
	}
	if err := os.MkdirAll(string(p), 0o711); err != nil {
		return err
	}
	if os.Getuid() != 0 {
		return nil
	}
	return p.passable()
}

// passable reports whether another user can reach the folder. Where Lotse runs as root, it runs nothing of the app as root.
func (p place) passable() error {
	for dir := string(p); dir != "/"; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if info.Mode()&0o001 == 0 {
			return deploy.Hint(fmt.Errorf("%w: the state folder lies below %s, which only its owner may enter, and instances run as users of their own",
				deploy.ErrBadInput, dir), "name another with --state, such as /var/lib/lotse, or `chmod o+x "+dir+"`")
		}
	}
	return nil
}

// lock makes this process the one controller of the folder, until it ends.
func (p place) lock() (release func(), err error) {
	f, err := os.OpenFile(p.at("controller.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		return nil, deploy.Hint(fmt.Errorf("%w: a controller runs here already (process %s)", deploy.ErrBusy, readLine(f)),
			"talk to it with `lotse status`, or name another folder with --state")
	}
	if err := errors.Join(f.Truncate(0), write(f, strconv.Itoa(os.Getpid())+"\n")); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { f.Close() }, nil
}

// controller returns the process id of the controller of this folder, 0 when there is none.
func (p place) controller() (int, error) {
	f, err := os.Open(p.at("controller.lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		return 0, nil
	}
	return strconv.Atoi(readLine(f))
}

func readLine(f *os.File) string {
	b := make([]byte, 32)
	n, _ := f.ReadAt(b, 0) // a short read is a short line
	line, _, _ := strings.Cut(string(b[:n]), "\n")
	return line
}

func write(f *os.File, s string) error {
	_, err := f.WriteAt([]byte(s), 0)
	return err
}

// instances lists the folders of all instances below the state folder.
func (p place) instances() ([]string, error) {
	return filepath.Glob(p.at("local", "*", "*", "instances", "*"))
}

// databases lists the folders of all stages that have a database on this machine.
func (p place) databases() ([]string, error) {
	clusters, err := filepath.Glob(p.at("local", "*", "*", "postgres"))
	for i, c := range clusters {
		clusters[i] = filepath.Dir(c)
	}
	return clusters, err
}

// self is the program that runs now, by a path that outlives a rebuild beside it.
func self() (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(exe)
}

func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

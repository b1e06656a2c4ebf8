// Package photo keeps photos in a directory that several instances, and two releases,
// may share: a photo is written aside, synced, and put under its name in one step, names
// are random and never used twice, and nothing is ever changed in place.
package photo

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	suffix = ".jpg"
	aside  = ".incoming-"
)

// A Shelf is the directory.
type Shelf struct{ dir string }

// Open makes the directory where it is missing.
func Open(dir string) (*Shelf, error) {
	return &Shelf{dir}, os.MkdirAll(dir, 0o750)
}

// Put keeps the JPEG image that r holds, without its metadata, and returns a new id for
// it. After an error nothing is left behind.
func (s *Shelf) Put(r io.Reader) (id string, size int64, err error) {
	f, err := os.CreateTemp(s.dir, aside+"*")
	if err != nil {
		return "", 0, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if size, err = write(f, r); err != nil {
		return "", 0, err
	}
	id = newID()
	if err = os.Rename(f.Name(), s.path(id)); err != nil {
		return "", 0, err
	}
	return id, size, syncDir(s.dir)
}

func write(f *os.File, r io.Reader) (size int64, err error) {
	err = copyBare(f, r)
	if err == nil {
		size, err = f.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		err = f.Chmod(0o640)
	}
	if err == nil {
		err = f.Sync()
	}
	return size, errors.Join(err, f.Close())
}

// Get opens a photo. The error is fs.ErrNotExist where there is none.
func (s *Shelf) Get(id string) (*os.File, error) {
	if !Valid(id) {
		return nil, fs.ErrNotExist
	}
	return os.Open(s.path(id))
}

// Remove takes photos away. One that is gone already is fine.
func (s *Shelf) Remove(ids ...string) error {
	var errs []error
	for _, id := range ids {
		if !Valid(id) {
			continue
		}
		if err := os.Remove(s.path(id)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Sweep removes what a crash or an erased account left: files last written before the
// given time that are half written, or that known does not know.
func (s *Shelf) Sweep(before time.Time, known func(id string) (bool, error)) (n int, err error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !info.ModTime().Before(before) {
			continue
		}
		id, isPhoto := strings.CutSuffix(e.Name(), suffix)
		keep := !isPhoto && !strings.HasPrefix(e.Name(), aside) // not ours
		if isPhoto {
			if keep, err = known(id); err != nil {
				return n, err
			}
		}
		if keep {
			continue
		}
		if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return n, err
		}
		n++
	}
	return n, nil
}

// Valid reports whether id has the form of one.
func Valid(id string) bool {
	raw, err := hex.DecodeString(id)
	return err == nil && len(raw) == 16
}

func newID() string {
	raw := make([]byte, 16)
	rand.Read(raw)
	return hex.EncodeToString(raw)
}

func (s *Shelf) path(id string) string { return filepath.Join(s.dir, id+suffix) }

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

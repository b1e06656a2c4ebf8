package depot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Keeps is what a note keeps from being pruned.
type Keeps struct {
	Blobs []string `json:"blobs,omitempty"`
	Trees []string `json:"trees,omitempty"` // the tree and all that it lists
}

// note is a note on the disk. Sum is of its other fields, as they are written.
type note struct {
	Kind  string `json:"kind"`
	Key   string `json:"key"`
	Data  []byte `json:"data"`
	Keeps Keeps  `json:"keeps"`
	Sum   string `json:"sum"`
}

func (n note) digest() string {
	n.Sum = ""
	data, _ := json.Marshal(n) // strings and bytes always marshal
	return DigestOf(data)
}

func (d *Depot) notePath(kind, key string) string {
	s := sha256.Sum256([]byte(key))
	return filepath.Join(d.dir, "notes", kind, hex.EncodeToString(s[:]))
}

// SetNote writes a small named record in place of the one before, atomically. kind is a word, key any text.
func (d *Depot) SetNote(kind, key string, data []byte, keeps Keeps) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	n := note{Kind: kind, Key: key, Data: data, Keeps: keeps}
	n.Sum = n.digest()
	d.usedNote(d.notePath(kind, key))
	if err := d.writeNote(n); err != nil {
		return fmt.Errorf("write the note %s %s: %w", kind, key, spaced(err))
	}
	return nil
}

func (d *Depot) writeNote(n note) error {
	data, err := json.Marshal(n)
	if err != nil {
		return err
	}
	name := d.notePath(n.Kind, n.Key)
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(d.aside.Name(), "note")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(name))
}

// Note returns the data of a note and counts as a use of it. ErrNotFound when there is none, ErrDamaged when it is not what
// was written.
func (d *Depot) Note(kind, key string) ([]byte, error) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	data, err := d.Peek(kind, key)
	if err != nil {
		return nil, err
	}
	name, now := d.notePath(kind, key), time.Now()
	_ = os.Chtimes(name, now, now) // a use that cannot be noted makes the note look older, no more
	d.usedNote(name)
	return data, nil
}

// Peek is Note without counting as a use.
func (d *Depot) Peek(kind, key string) ([]byte, error) {
	n, err := readNote(d.notePath(kind, key))
	if err != nil {
		return nil, fmt.Errorf("the note %s %s: %w", kind, key, err)
	}
	return n.Data, nil
}

func readNote(name string) (note, error) {
	var n note
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return n, ErrNotFound
	}
	if err != nil {
		return n, err
	}
	if err := json.Unmarshal(data, &n); err != nil || n.digest() != n.Sum {
		return n, ErrDamaged
	}
	return n, nil
}

// DropNote removes a note. One that is not there is fine.
func (d *Depot) DropNote(kind, key string) error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if err := os.Remove(d.notePath(kind, key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Keys returns the keys of all notes of a kind, without counting as a use. Damaged notes are left out.
func (d *Depot) Keys(kind string) ([]string, error) {
	list, err := os.ReadDir(filepath.Join(d.dir, "notes", kind))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var keys []string
	for _, e := range list {
		if n, err := readNote(filepath.Join(d.dir, "notes", kind, e.Name())); err == nil {
			keys = append(keys, n.Key)
		}
	}
	return keys, nil
}

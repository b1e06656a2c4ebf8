package depot

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Tree lists what a folder holds, sorted by path. Its JSON is canonical: it is stored as a blob, whose digest names it.
type Tree []Entry

// Entry is one file, link or empty folder of a tree. Folders that hold something are not listed. Of the mode only
// executable or not is kept, of times and owners nothing.
type Entry struct {
	Path       string `json:"path"` // slash-separated, relative, clean
	Digest     string `json:"digest,omitempty"`
	Size       int64  `json:"size,omitempty"` // bytes
	Executable bool   `json:"executable,omitempty"`
	Link       string `json:"link,omitempty"`   // where a symbolic link points, as it was written
	Folder     bool   `json:"folder,omitempty"` // an empty folder
}

// SaveTree stores a tree that was made from others and returns its digest. It sorts t, and refuses one that Fill would
// refuse.
func (d *Depot) SaveTree(ctx context.Context, t Tree) (digest string, err error) {
	slices.SortFunc(t, byPath)
	if err := t.Check(); err != nil {
		return "", err
	}
	data, err := json.Marshal(t)
	if err != nil {
		return "", err
	}
	digest, _, err = d.Put(ctx, bytes.NewReader(data))
	return digest, err
}

// Tree loads a tree.
func (d *Depot) Tree(ctx context.Context, digest string) (Tree, error) {
	data, err := d.Read(ctx, digest)
	if err != nil {
		return nil, err
	}
	var t Tree
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, fmt.Errorf("%s is not a tree: %w", digest, ErrDamaged)
	}
	return t, nil
}

func byPath(a, b Entry) int { return strings.Compare(a.Path, b.Path) }

// Check refuses a tree that could not be filled into a folder as it stands: a path that is not clean, not relative or
// there twice, a file that is also a folder, a link that is absolute or leads out of the tree (ErrEscapes).
func (t Tree) Check() error {
	kinds := make(map[string]Entry, len(t))
	for i, e := range t {
		if e.Path == "" || e.Path == "." || path.Clean(e.Path) != e.Path || outside(e.Path) || strings.Contains(e.Path, "\x00") {
			return fmt.Errorf("%q is not a path of a tree: %w", e.Path, ErrEscapes)
		}
		if i > 0 && t[i-1].Path >= e.Path {
			return fmt.Errorf("%s is in the tree twice, or not in order", e.Path)
		}
		kinds[e.Path] = e
	}
	for _, e := range t {
		for dir := path.Dir(e.Path); dir != "."; dir = path.Dir(dir) {
			if _, ok := kinds[dir]; ok {
				return fmt.Errorf("%s is in the tree as something else than a folder, and so is %s below it", dir, e.Path)
			}
		}
		if e.Link != "" && escapes(kinds, e.Path, e.Link) {
			return fmt.Errorf("%s points to %s: %w", e.Path, e.Link, ErrEscapes)
		}
	}
	return nil
}

func outside(clean string) bool {
	return clean == ".." || strings.HasPrefix(clean, "../") || strings.HasPrefix(clean, "/")
}

// escapes follows a link through the tree as the kernel would: a component that is itself a link is followed before the
// next ".." counts. A target that is not there is followed by its name.
func escapes(kinds map[string]Entry, from, target string) bool {
	at, rest := path.Dir(from), target
	for range 255 {
		if strings.HasPrefix(rest, "/") {
			return true
		}
		step, more, _ := strings.Cut(rest, "/")
		rest = strings.TrimLeft(more, "/")
		if at = path.Join(at, step); outside(at) {
			return true
		}
		if e := kinds[at]; e.Link != "" {
			at, rest = path.Dir(at), e.Link+"/"+rest
		}
		if strings.Trim(rest, "/") == "" {
			return false
		}
	}
	return false // a loop: it leads nowhere, and so not out
}

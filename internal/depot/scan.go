package depot

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"syscall"
)

// Scanned is what lay below some paths at one moment, by name and state. Its bytes are still where they were.
type Scanned struct {
	root  string
	found []found
	spans []span
	Files int
	Bytes int64 // of the files, as their sizes say
}

type found struct {
	Entry
	state stamp
}

// span is the run of found from first to last (not included) that lie in one folder.
type span struct {
	dir         string
	first, last int
}

// stamp tells one state of a file from another: the kernel moves the change time with every write.
type stamp struct {
	inode   uint64
	size    int64
	changed syscall.Timespec
}

func stampOf(info fs.FileInfo) stamp {
	st := info.Sys().(*syscall.Stat_t)
	return stamp{st.Ino, st.Size, st.Ctim}
}

// Scan lists what lies at paths (slash-separated, relative to root) and below, following no link. Together with PutScanned
// it stores a folder as it was now, while others may go on. A path that is not there is fs.ErrNotExist; a link out of root
// or an absolute one is ErrEscapes; a device, socket or pipe is ErrSpecial.
func Scan(root string, paths []string) (*Scanned, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	s := &Scanned{root: root}
	for _, p := range paths {
		p = path.Clean(p)
		if outside(p) {
			return nil, fmt.Errorf("%s: %w", p, ErrEscapes)
		}
		if err := s.scan(r, p); err != nil {
			return nil, err
		}
	}
	return s, s.tree().Check()
}

// tree is a sorted copy of what was found.
func (s *Scanned) tree() Tree {
	t := make(Tree, len(s.found))
	for i, f := range s.found {
		t[i] = f.Entry
	}
	slices.SortFunc(t, byPath)
	return t
}

// scan adds what lies at p, which no link leads to: os.Root follows links inside the root, so the way there is looked at.
func (s *Scanned) scan(r *os.Root, p string) error {
	for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
		if info, err := r.Lstat(dir); err == nil && !info.IsDir() {
			return fmt.Errorf("%s is not a folder: %w", dir, ErrEscapes)
		}
	}
	info, err := r.Lstat(p)
	if err != nil {
		return err
	}
	if info.IsDir() {
		sub, err := r.OpenRoot(p)
		if err != nil {
			return err
		}
		defer sub.Close()
		return s.folder(sub, p)
	}
	parent, err := r.OpenRoot(path.Dir(p))
	if err != nil {
		return err
	}
	defer parent.Close()
	first := len(s.found)
	if err := s.add(parent, p, info); err != nil {
		return err
	}
	s.spans = append(s.spans, span{path.Dir(p), first, len(s.found)})
	return nil
}

// folder adds the files and links of a folder, then its folders.
func (s *Scanned) folder(r *os.Root, p string) error {
	list, err := fs.ReadDir(r.FS(), ".")
	if err != nil {
		return err
	}
	if len(list) == 0 && p != "." {
		s.found = append(s.found, found{Entry: Entry{Path: p, Folder: true}})
	}
	first := len(s.found)
	for _, e := range list {
		if e.IsDir() {
			continue
		}
		info, err := r.Lstat(e.Name())
		if err != nil {
			return err
		}
		if err := s.add(r, path.Join(p, e.Name()), info); err != nil {
			return err
		}
	}
	s.spans = append(s.spans, span{p, first, len(s.found)})
	for _, e := range list {
		if !e.IsDir() {
			continue
		}
		sub, err := r.OpenRoot(e.Name())
		if err != nil {
			return err
		}
		err = s.folder(sub, path.Join(p, e.Name()))
		sub.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// add adds one file or link that lies in the folder dir.
func (s *Scanned) add(dir *os.Root, p string, info fs.FileInfo) error {
	f := found{Entry: Entry{Path: p}}
	switch info.Mode().Type() {
	case 0:
		f.Size, f.Executable, f.state = info.Size(), info.Mode()&0o100 != 0, stampOf(info)
		s.Files++
		s.Bytes += f.Size
	case fs.ModeSymlink:
		target, err := dir.Readlink(path.Base(p))
		if err != nil {
			return err
		}
		f.Link = target
	default:
		return fmt.Errorf("%s is %s: %w", p, kind(info.Mode()), ErrSpecial)
	}
	s.found = append(s.found, f)
	return nil
}

func kind(m fs.FileMode) string {
	switch {
	case m&fs.ModeNamedPipe != 0:
		return "a pipe"
	case m&fs.ModeSocket != 0:
		return "a socket"
	case m&fs.ModeDevice != 0:
		return "a device"
	}
	return "something special"
}

package depot

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// FS shows a tree as a file system to read from. Links are left out: nothing that is served or indexed follows them. A
// read of a damaged file fails.
func (d *Depot) FS(ctx context.Context, t Tree) fs.FS {
	v := &view{d: d, ctx: ctx, files: map[string]Entry{}, folders: map[string][]fs.DirEntry{".": nil}}
	for _, e := range t {
		if e.Link != "" {
			continue
		}
		if !e.Folder {
			v.files[e.Path] = e
		}
		v.enter(e)
	}
	for _, list := range v.folders {
		slices.SortFunc(list, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	}
	return v
}

type view struct {
	d       *Depot
	ctx     context.Context
	files   map[string]Entry
	folders map[string][]fs.DirEntry
}

func (v *view) enter(e Entry) {
	if e.Folder {
		v.folder(e.Path)
		return
	}
	dir := path.Dir(e.Path)
	v.folder(dir)
	v.folders[dir] = append(v.folders[dir], fs.FileInfoToDirEntry(info{e}))
}

// folder lists a folder in the one above, and that too, where they are not yet known.
func (v *view) folder(p string) {
	if _, known := v.folders[p]; known {
		return
	}
	v.folders[p] = nil
	dir := path.Dir(p)
	v.folder(dir)
	v.folders[dir] = append(v.folders[dir], fs.FileInfoToDirEntry(info{Entry{Path: p, Folder: true}}))
}

func (v *view) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	if list, ok := v.folders[name]; ok {
		return &openFolder{info: info{Entry{Path: name, Folder: true}}, rest: list}, nil
	}
	e, ok := v.files[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if e.Size > small {
		r, err := v.d.Open(v.ctx, e.Digest)
		return &openFile{r, info{e}}, err
	}
	data, err := v.d.Read(v.ctx, e.Digest)
	return &openFile{io.NopCloser(bytes.NewReader(data)), info{e}}, err
}

// info describes an entry. A tree keeps no times: they are zero.
type info struct{ e Entry }

func (i info) Name() string       { return path.Base(i.e.Path) }
func (i info) Size() int64        { return i.e.Size }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return i.e.Folder }
func (i info) Sys() any           { return nil }

func (i info) Mode() fs.FileMode {
	switch {
	case i.e.Folder:
		return fs.ModeDir | 0o755
	case i.e.Executable:
		return 0o755
	}
	return 0o644
}

type openFile struct {
	io.ReadCloser
	info info
}

func (f *openFile) Stat() (fs.FileInfo, error) { return f.info, nil }

type openFolder struct {
	info info
	rest []fs.DirEntry
}

func (f *openFolder) Stat() (fs.FileInfo, error) { return f.info, nil }
func (f *openFolder) Close() error               { return nil }
func (f *openFolder) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: f.info.e.Path, Err: fs.ErrInvalid}
}

// ReadDir implements fs.ReadDirFile.
func (f *openFolder) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 {
		n = len(f.rest)
	} else if len(f.rest) == 0 {
		return nil, io.EOF
	}
	list := f.rest[:min(n, len(f.rest))]
	f.rest = f.rest[len(list):]
	return slices.Clone(list), nil
}

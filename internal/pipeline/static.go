package pipeline

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"golang.org/x/sync/errgroup"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// Kinds of notes in the depot.
const (
	noteStatic  = "static"  // files of a static service → what the pipeline adds to them
	noteSmaller = "smaller" // app and service → compressed siblings of the files of its last build
)

// compressible are the types that shrink. Images, fonts in woff and archives are compressed already.
var compressible = map[string]bool{
	".html": true, ".htm": true, ".js": true, ".mjs": true, ".cjs": true, ".css": true, ".json": true, ".map": true, ".svg": true, ".xml": true,
	".txt": true, ".md": true, ".csv": true, ".wasm": true, ".webmanifest": true, ".ico": true, ".ttf": true, ".otf": true, ".eot": true, ".rss": true,
	".atom": true, ".geojson": true,
}

// smaller are the compressed siblings of a file; empty where they would save less than 5 %.
type smaller struct {
	Br   depot.Entry `json:"br"` // without path
	Gzip depot.Entry `json:"gzip"`
}

// static returns what a release adds to the folder of a static service: compressed siblings and the index.
func (r *run) static(ctx context.Context, s deploy.Service, files map[string]depot.Entry) (depot.Tree, error) {
	folder := path.Clean(s.Static)
	var own depot.Tree
	for p, e := range files {
		if below(p, folder) && p != folder && e.Digest != "" {
			own = append(own, e)
		}
	}
	slices.SortFunc(own, func(a, b depot.Entry) int { return strings.Compare(a.Path, b.Path) })
	if len(own) == 0 {
		return nil, fmt.Errorf("%w: %s of service %s is no folder with files", deploy.ErrBuild, s.Static, s.Name)
	}
	if s.Fallback != "" && files[path.Join(folder, s.Fallback)].Digest == "" {
		return nil, fmt.Errorf("%w: service %s falls back to %s, which is not in %s", deploy.ErrBuild, s.Name, s.Fallback, s.Static)
	}
	data, err := json.Marshal([]any{1, s.Name, folder, s.Immutable, own})
	if err != nil {
		return nil, err
	}
	key := depot.DigestOf(data)
	if digest, err := r.p.depot.Note(noteStatic, key); err == nil {
		if t, err := r.p.depot.Tree(ctx, string(digest)); err == nil {
			return t, nil
		}
	}
	extra, err := r.siblings(ctx, s, own, files)
	if err != nil {
		return nil, err
	}
	index, err := r.index(ctx, s, folder, append(slices.Clone(own), extra...))
	if err != nil {
		return nil, err
	}
	extra = append(extra, index)
	digest, err := r.p.depot.SaveTree(ctx, extra)
	if err != nil {
		return nil, err
	}
	return extra, r.p.depot.SetNote(noteStatic, key, []byte(digest), depot.Keeps{Trees: []string{digest}})
}

// siblings compresses what was not compressed for the last release.
func (r *run) siblings(ctx context.Context, s deploy.Service, own depot.Tree, files map[string]depot.Entry) (depot.Tree, error) {
	known := map[string]smaller{}
	key := r.app.Name + "/" + s.Name
	keys := []string{key}
	if r.fits != nil { // most files are as in the release that it is made of
		key += "/fitted"
		keys = append(keys, key)
	}
	for _, k := range keys {
		if data, err := r.p.depot.Note(noteSmaller, k); err == nil {
			_ = json.Unmarshal(data, &known) // adds to it; what cannot be read is made again
		}
	}
	small := make([]smaller, len(own))
	dir, err := r.p.scratch()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	group, ctx2 := errgroup.WithContext(ctx)
	group.SetLimit(cores())
	for i, e := range own {
		if !compressible[strings.ToLower(path.Ext(e.Path))] || r.p.have(known[e.Digest], &small[i]) {
			continue
		}
		group.Go(func() error { return r.p.shrink(ctx2, e, filepath.Join(dir, fmt.Sprint(i))) })
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	fresh, _, err := r.p.depot.PutTree(ctx, dir, []string{"."})
	if err != nil {
		return nil, err
	}
	for _, e := range fresh {
		var i int
		var kind string
		if _, err := fmt.Sscanf(strings.ReplaceAll(e.Path, ".", " "), "%d %s", &i, &kind); err != nil {
			return nil, err
		}
		e.Path = ""
		if kind == "br" {
			small[i].Br = e
		} else {
			small[i].Gzip = e
		}
	}
	var extra depot.Tree
	keep, keeps := map[string]smaller{}, depot.Keeps{}
	for i, e := range own {
		if compressible[strings.ToLower(path.Ext(e.Path))] {
			keep[e.Digest] = small[i]
		}
		for ending, made := range map[string]depot.Entry{".br": small[i].Br, ".gz": small[i].Gzip} {
			if made.Digest == "" {
				continue
			}
			keeps.Blobs = append(keeps.Blobs, made.Digest)
			made.Path = e.Path + ending
			if _, taken := files[made.Path]; !taken { // the app brings its own
				extra = append(extra, made)
			}
		}
	}
	slices.Sort(keeps.Blobs)
	slices.SortFunc(extra, func(a, b depot.Entry) int { return strings.Compare(a.Path, b.Path) })
	data, err := json.Marshal(keep)
	if err != nil {
		return nil, err
	}
	return extra, r.p.depot.SetNote(noteSmaller, key, data, keeps)
}

// have takes over known siblings that the depot still has. A known file may have none.
func (p *Pipeline) have(known smaller, into *smaller) bool {
	if known == (smaller{}) {
		return false
	}
	for _, e := range []depot.Entry{known.Br, known.Gzip} {
		if e.Digest != "" && !p.depot.Has(e.Digest) {
			return false
		}
	}
	*into = known
	return true
}

// shrink writes the siblings of a file that are at least 5 % smaller to name with .br and .gz. Both encoders are
// deterministic, and no name or time gets into the headers.
func (p *Pipeline) shrink(ctx context.Context, e depot.Entry, name string) error {
	data, err := p.depot.Read(ctx, e.Digest)
	if err != nil {
		return err
	}
	write := func(name string, made []byte) error {
		if len(made)*100 > len(data)*95 {
			return nil
		}
		return os.WriteFile(name, made, 0o644)
	}
	var out bytes.Buffer
	br := brotli.NewWriterLevel(&out, brotliQuality(len(data)))
	if _, err := br.Write(data); err != nil {
		return err
	}
	if err := br.Close(); err != nil {
		return err
	}
	if err := write(name+".br", out.Bytes()); err != nil {
		return err
	}
	out.Reset()
	gz, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return err
	}
	gz.ModTime = time.Unix(0, 0) // RFC 1952 §2.3.1: 0 is none; the zero Time would be one
	if _, err := gz.Write(data); err != nil {
		return err
	}
	if err := gz.Close(); err != nil {
		return err
	}
	return write(name+".gz", out.Bytes())
}

// brotliQuality keeps every file well under a second: quality 11 takes about 2 s a MB, 9 a tenth of it for 3 to 5 % more bytes.
func brotliQuality(size int) int {
	switch {
	case size <= 128<<10:
		return 11
	case size <= 512<<10:
		return 10
	}
	return 9
}

// index makes the file by which the proxy serves the folder. It does not stand in the folder itself.
func (r *run) index(ctx context.Context, s deploy.Service, folder string, all depot.Tree) (depot.Entry, error) {
	var inFolder depot.Tree
	for _, e := range all {
		e.Path = strings.TrimPrefix(e.Path, folder+"/")
		inFolder = append(inFolder, e)
	}
	index, err := proxy.BuildIndex(r.p.depot.FS(ctx, inFolder), s.Immutable)
	if err != nil {
		return depot.Entry{}, err
	}
	data, err := json.Marshal(index)
	if err != nil {
		return depot.Entry{}, err
	}
	digest, size, err := r.p.depot.Put(ctx, bytes.NewReader(data))
	return depot.Entry{Path: staticFolder + s.Name + ".json", Digest: digest, Size: size}, err
}

package pipeline

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/leaks"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/secret"
)

// leakFinder looks for keys in commits, and remembers which files have none. What it remembers is in memory alone: it depends on secret
// values, and nothing that is made of these is to lie on a disk. It is safe for concurrent use.
type leakFinder struct {
	rules *leaks.Scanner
	salt  []byte

	mu    sync.Mutex
	known map[string]remembered // by repository and folder
}

// remembered is what the last look at a repository has said of its files, by path and object. It holds for these secrets alone.
type remembered struct {
	secrets string // a digest of them, under a key that ends with the process
	files   map[source][]deploy.Leak
}

// mostScanned is the size in bytes up to which files are looked through; what is larger is data. mostBetween bounds what came and went.
const (
	mostScanned = 32 << 20
	mostBetween = 50_000
)

func newLeakFinder() (*leakFinder, error) {
	rules, err := leaks.New()
	return &leakFinder{rules: rules, salt: []byte(rand.Text()), known: map[string]remembered{}}, err
}

// Leaks implements deploy.Builder.
func (p *Pipeline) Leaks(ctx context.Context, c deploy.Commit, before string, known []deploy.Setting) (deploy.Leaks, error) {
	all, err := sources(ctx, c)
	if err != nil {
		return deploy.Leaks{}, err
	}
	gone, err := goneBetween(ctx, c, before, all)
	if err != nil {
		return deploy.Leaks{}, err
	}
	f, digest := p.leaks, p.leaks.digest(known)
	old := f.recall(c, digest)
	now := remembered{digest, map[source][]deploy.Leak{}}
	sought := newSought(known)
	var wanted []blob
	for _, s := range slices.Concat(all, gone) {
		s.mode = "" // says nothing of what is in a file
		if found, ok := old[s]; ok {
			now.files[s] = found
			continue
		}
		wanted = append(wanted, blob{s.object, func(r io.Reader, size int64) error {
			data, err := readScanned(r, size)
			now.files[s] = f.look(s.path, data, sought)
			return err
		}})
	}
	if err := gitOf(c.Repo).blobs(ctx, wanted); err != nil {
		return deploy.Leaks{}, err
	}
	f.remember(c, now)
	l := deploy.Leaks{Files: len(all) + len(gone), Read: len(wanted)}
	for i, s := range slices.Concat(all, gone) {
		s.mode = ""
		for _, one := range now.files[s] {
			if i >= len(all) {
				one.Commit = cameIn(ctx, c, before, s.object)
			}
			l.Found = append(l.Found, one)
		}
	}
	return l, nil
}

func readScanned(r io.Reader, size int64) ([]byte, error) {
	if size > mostScanned {
		_, err := io.Copy(io.Discard, r)
		return nil, err
	}
	return io.ReadAll(r)
}

// goneBetween lists the files of the commits after before that are not files of c: what came and went. None where before is not in
// the history of c's repository, or too much lies between.
func goneBetween(ctx context.Context, c deploy.Commit, before string, all []source) (gone []source, err error) {
	if !isObject(before) {
		return nil, nil
	}
	said, err := gitOf(c.Repo).output(ctx, "rev-list", "--objects", "--filter=object:type=blob", "--filter-provided-objects", c.ID, "^"+before, "--", c.Dir)
	if _, refused := errors.AsType[*gitError](err); refused {
		return nil, nil
	}
	if err != nil || strings.Count(said, "\n") > mostBetween {
		return nil, err
	}
	there := map[string]bool{}
	for _, s := range all {
		there[s.object] = true
	}
	for line := range strings.Lines(said) {
		object, name, named := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if c.Dir != "." {
			name = strings.TrimPrefix(name, c.Dir+"/")
		}
		if named && name != "" && !there[object] {
			gone = append(gone, source{name, "", object})
		}
	}
	return gone, nil
}

// cameIn is the commit that brought an object; "" where git cannot tell.
func cameIn(ctx context.Context, c deploy.Commit, before, object string) string {
	said, err := gitOf(c.Repo).output(ctx, "log", "--reverse", "--format=%H", "--find-object="+object, "--end-of-options", before+".."+c.ID, "--")
	if err != nil {
		return before
	}
	first, _, _ := strings.Cut(said, "\n")
	return first
}

// look looks through one file.
func (f *leakFinder) look(name string, data []byte, sought sought) (found []deploy.Leak) {
	for _, one := range f.rules.Scan(name, data) {
		found = append(found, deploy.Leak{File: name, Line: one.Line, Column: one.Column, Rule: one.Rule})
	}
	return append(found, sought.in(name, data)...)
}

// sought are values that are known to be secret.
type sought struct {
	all   *process.Mask
	known []deploy.Setting
}

func newSought(known []deploy.Setting) sought {
	var values []secret.Text
	for _, k := range known {
		values = append(values, k.Value)
	}
	return sought{process.NewSeeker(values), known}
}

// in finds each of them once: all at first, and where one of them is, which.
func (s sought) in(name string, data []byte) (found []deploy.Leak) {
	if s.all.Find(data) < 0 {
		return nil
	}
	told := map[string]bool{} // stages may have the same
	for _, k := range s.known {
		if at := process.NewSeeker([]secret.Text{k.Value}).Find(data); at >= 0 && !told[k.Value.Reveal()] {
			told[k.Value.Reveal()] = true
			line, column := leaks.At(data, at)
			found = append(found, deploy.Leak{File: name, Line: line, Column: column, Rule: deploy.KnownValue, Name: k.Name})
		}
	}
	return found
}

func (f *leakFinder) digest(known []deploy.Setting) string {
	sum := hmac.New(sha256.New, f.salt)
	for _, k := range known {
		_, _ = io.WriteString(sum, k.Name+"\x00"+k.Value.Reveal()+"\x00") // a hash does not fail
	}
	return string(sum.Sum(nil))
}

func placeOf(c deploy.Commit) string { return c.Repo + "\x00" + c.Dir }

func (f *leakFinder) recall(c deploy.Commit, secrets string) map[source][]deploy.Leak {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.known[placeOf(c)]; r.secrets == secrets {
		return maps.Clone(r.files)
	}
	return nil
}

// remember keeps what was said of this commit, and of no other: what nobody asks for any more is forgotten.
func (f *leakFinder) remember(c deploy.Commit, r remembered) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[placeOf(c)] = r
}

// LeaksInFolder looks for keys in the files of a work tree that are committed or could be: what git was told to ignore is left out. No
// value of a stage is known here.
func LeaksInFolder(ctx context.Context, dir string) (l deploy.Leaks, err error) {
	f, err := newLeakFinder()
	if err != nil {
		return l, err
	}
	said, err := gitIn(dir).output(ctx, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "--", ".")
	if err != nil {
		return l, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return l, err
	}
	defer root.Close()
	for name := range strings.SplitSeq(strings.TrimSuffix(said, "\x00"), "\x00") {
		data, ok := readInFolder(root, name)
		if !ok {
			continue // removed, and not yet from the index; or no file
		}
		l.Files++
		l.Found = append(l.Found, f.look(filepath.ToSlash(name), data, newSought(nil))...)
	}
	l.Read = l.Files
	return l, ctx.Err()
}

func readInFolder(root *os.Root, name string) ([]byte, bool) {
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > mostScanned {
		return nil, false
	}
	data, err := root.ReadFile(name)
	return data, err == nil
}

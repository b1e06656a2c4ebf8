package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"path"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

// unfit says why values cannot be filled into a release.
type unfit struct{ why string }

func (e *unfit) Error() string { return e.why }

// filling is one filling of a release with values.
type filling struct {
	p     *Pipeline
	base  map[string]deploy.File
	files map[string]*filled
	value map[string]string
	hash  map[string]string // old → new
	fill  *filler
}

// filled is a file that changes.
type filled struct {
	baked
	old, new []byte
	name     string // new path
	busy     bool   // its digests are being put in order
	done     bool
}

// fillIn returns the files of a release, as the pipeline made them, with values in the place of placeholders. The error is an
// *unfit where that cannot be done soundly.
func (p *Pipeline) fillIn(ctx context.Context, m deploy.Manifest, proof *proof, value map[string]string) (map[string]depot.Entry, error) {
	f := &filling{p: p, base: map[string]deploy.File{}, files: map[string]*filled{}, value: value, hash: map[string]string{}, fill: newFiller(value)}
	for _, file := range m.Files {
		f.base[file.Path] = file
	}
	for _, b := range proof.Files {
		old, err := f.read(ctx, b.Path)
		if err != nil {
			return nil, err
		}
		f.files[b.Path] = &filled{baked: b, old: old}
	}
	f.rename()
	for _, p := range keysOf(f.files) {
		if err := f.write(ctx, f.files[p]); err != nil {
			return nil, err
		}
	}
	if err := f.useSums(); err != nil {
		return nil, err
	}
	return f.tree(ctx)
}

func (f *filling) read(ctx context.Context, p string) ([]byte, error) {
	file, ok := f.base[p]
	if !ok {
		return nil, fmt.Errorf("%w: the release has no %s", deploy.ErrDamaged, p)
	}
	if file.Link != "" {
		return nil, nil
	}
	return f.p.depot.Read(ctx, string(file.Digest))
}

// rename chooses new hashes for the names of files. A hash stands for everything that its files depend on: what they and those
// that they refer to hold, and the values that stand in them; so that no name ever stands for two contents, also where files
// refer to each other in a circle.
func (f *filling) rename() {
	taken := map[string]bool{}
	owners := map[string][]*filled{}
	for _, p := range keysOf(f.files) {
		for _, h := range f.files[p].Hashes {
			taken[h] = true
			if strings.Contains(p, h) {
				owners[h] = append(owners[h], f.files[p])
			}
		}
	}
	for _, h := range keysOf(owners) {
		seed := f.reach(h, owners)
		for i := 0; f.hash[h] == "" || taken[f.hash[h]] || ownHash("x-"+h+".js") != "" && ownHash("x-"+f.hash[h]+".js") == ""; i++ {
			f.hash[h] = spelt(sha256.Sum256(fmt.Appendf(nil, "%s %d", seed, i)), h)
		}
		taken[f.hash[h]] = true
	}
}

// reach is the digest of all that the files with a hash in their names depend on.
func (f *filling) reach(hash string, owners map[string][]*filled) string {
	seen, used := map[string]bool{}, map[string]string{}
	var visit func(h string)
	visit = func(h string) {
		for _, file := range owners[h] {
			if seen[file.Path] {
				continue
			}
			seen[file.Path] = true
			for _, name := range file.Names {
				used[name] = f.value[name]
			}
			for _, other := range file.Hashes {
				visit(other)
			}
		}
	}
	visit(hash)
	var parts []string
	for _, p := range keysOf(seen) {
		parts = append(parts, p+" "+string(f.base[p].Digest))
	}
	data, _ := json.Marshal([]any{hash, parts, used}) // plain values always marshal
	return depot.DigestOf(data)
}

// spelt writes a digest with the letters and the length of a hash.
func spelt(sum [32]byte, like string) string {
	const small, capital, digits = "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
	letters := capital + small + digits
	for _, some := range []string{digits, digits + "abcdef", capital + "234567", digits + capital, digits + small} {
		if strings.Trim(like, some) == "" {
			letters = some
			break
		}
	}
	n, base, digit := new(big.Int).SetBytes(sum[:]), big.NewInt(int64(len(letters))), new(big.Int)
	out := make([]byte, len(like))
	for i := range out {
		if n.Sign() == 0 { // longer than the digest
			sum = sha256.Sum256(sum[:])
			n.SetBytes(sum[:])
		}
		n.DivMod(n, base, digit)
		out[i] = letters[digit.Int64()]
	}
	return string(out)
}

// write puts values and new hashes into a file, and moves the figures of its source map along.
func (f *filling) write(ctx context.Context, file *filled) error {
	hashes := newFinder(keysOf(f.hash))
	renamed := func(_ int, h string) string { return f.hash[h] }
	file.name = string(apply([]byte(file.Path), hashes.edits([]byte(file.Path), renamed)))
	if file.new != nil {
		return nil // a source map, written with what it belongs to
	}
	edits, err := f.fill.edits(file.Path, file.old)
	if err != nil {
		return &unfit{fmt.Sprintf("a value for %s cannot stand in %s, %s", listed(f.special(file.Names)), starred(file.Path, ""), err)}
	}
	edits = append(edits, hashes.edits(file.old, renamed)...)
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Compare(a.at, b.at) })
	for i := range edits {
		if i > 0 && edits[i].at < edits[i-1].at+len(edits[i-1].old) {
			return &unfit{"a placeholder in " + starred(file.Path, "") + " cannot be told from the name of a file"}
		}
	}
	file.new = apply(file.old, edits)
	if isMap(file.Path, file.old) {
		return nil
	}
	return f.shiftMap(ctx, file, edits)
}

// special are the variables whose values are not plain, or all.
func (f *filling) special(names []string) []string {
	some := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return plain.MatchString(f.value[name]) })
	if len(some) == 0 {
		return names
	}
	return some
}

// useSums replaces the digests of files by those of what is in them now. What names the digest of another comes after it.
func (f *filling) useSums() error {
	paths := map[string]string{}
	for p, file := range f.files {
		for _, s := range sums(file.old) {
			paths[s] = p
		}
	}
	find := newFinder(keysOf(paths))
	var visit func(file *filled) error
	visit = func(file *filled) error {
		if file.done {
			return nil
		}
		if file.busy {
			return &unfit{"files name each other's digests in a circle, among them " + starred(file.Path, "")}
		}
		file.busy = true
		var failed error
		file.new = apply(file.new, find.edits(file.new, func(_ int, s string) string {
			other := f.files[paths[s]]
			failed = errors.Join(failed, visit(other))
			was, is := sums(other.old), sums(other.new)
			return is[slices.Index(was[:], s)]
		}))
		file.busy, file.done = false, true
		return failed
	}
	for _, p := range keysOf(f.files) {
		if err := visit(f.files[p]); err != nil {
			return err
		}
	}
	return nil
}

// tree stores what is new and lists all files, but for what the pipeline adds to static services.
func (f *filling) tree(ctx context.Context) (map[string]depot.Entry, error) {
	all := map[string]depot.Entry{}
	for p, b := range f.base {
		plain := strings.TrimSuffix(strings.TrimSuffix(p, ".br"), ".gz")
		if strings.HasPrefix(p, staticFolder) || plain != p && f.files[plain] != nil {
			continue // made again
		}
		file := f.files[p]
		if file == nil {
			all[p] = depot.Entry{Path: p, Digest: string(b.Digest), Size: b.Size, Executable: b.Executable, Link: b.Link}
		}
	}
	for _, p := range keysOf(f.files) {
		file := f.files[p]
		e := depot.Entry{Path: file.name, Executable: f.base[p].Executable}
		if link := f.base[p].Link; link != "" {
			e.Link = string(apply([]byte(link), newFinder(keysOf(f.hash)).edits([]byte(link), func(_ int, h string) string { return f.hash[h] })))
		} else {
			var err error
			if e.Digest, e.Size, err = f.p.depot.Put(ctx, bytes.NewReader(file.new)); err != nil {
				return nil, err
			}
		}
		if _, ok := all[e.Path]; ok {
			return nil, &unfit{"two files would be called " + path.Base(e.Path)}
		}
		all[e.Path] = e
	}
	return all, nil
}

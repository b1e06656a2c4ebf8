package pipeline

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"

	"github.com/lotse-eu/lotse/internal/depot"
)

// comparison holds what was built with placeholders, for what is built with others.
type comparison struct {
	p        *Pipeline
	names    []string
	base     map[string]file
	changing map[string]*baked // by path: see settle
	hashes   map[string]bool   // in names of files that change with what they hold
	place    *regexp.Regexp    // of a checkout, which some bundlers write into what they make
}

// file is a file or a link of a tree, read.
type file struct {
	depot.Entry
	data  []byte
	holds []string // names of the variables whose placeholders it holds
}

func newComparison(p *Pipeline, base depot.Tree, names []string) *comparison {
	c := &comparison{p: p, names: names, base: map[string]file{}, hashes: map[string]bool{}}
	c.place = regexp.MustCompile(regexp.QuoteMeta(p.work()) + `/\d+/src`)
	for _, e := range base {
		c.base[e.Path] = file{Entry: e}
	}
	return c
}

// read reads what is compared with.
func (c *comparison) read(ctx context.Context) error {
	words := map[string]string{}
	for _, name := range c.names {
		words[placeholder(name, asAddress)] = name
	}
	f := newFinder(keysOf(words))
	for p, b := range c.base {
		if b.Link != "" {
			continue
		}
		var err error
		if b.data, err = c.p.depot.Read(ctx, b.Digest); err != nil {
			return err
		}
		for _, w := range f.in(b.data) {
			b.holds = append(b.holds, words[w])
		}
		c.base[p] = b
	}
	return nil
}

func keysOf[V any](m map[string]V) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// with compares with a build in which some variables are in another guise. It returns nil where nothing differs but the
// placeholders, and hashes in names of files with what refers to them.
func (c *comparison) with(ctx context.Context, tree depot.Tree, as guise, names []string) (*difference, error) {
	other := map[string]file{}
	for _, e := range tree {
		f := file{Entry: e}
		if same, ok := c.base[e.Path]; ok && same.Digest == e.Digest {
			f.data = same.data
		} else if e.Link == "" {
			var err error
			if f.data, err = c.p.depot.Read(ctx, e.Digest); err != nil {
				return nil, err
			}
		}
		other[e.Path] = f
	}
	k := newComparing(c, other, as, names)
	if d := k.pair(); d != nil {
		return d, nil
	}
	if d := k.contents(); d != nil {
		return d, nil
	}
	for hash := range k.hashes {
		c.hashes[hash] = true
	}
	return nil, nil
}

// comparing is one comparison of two builds.
type comparing struct {
	*comparison
	a, b   map[string]file
	pairs  [][2]string       // of paths
	hashes map[string]string // of a → of b
	marks  [2]map[string]string
	find   [2]*finder
	as     guise
}

func newComparing(c *comparison, other map[string]file, as guise, names []string) *comparing {
	k := &comparing{comparison: c, a: withoutSiblings(c.base), b: withoutSiblings(other), hashes: map[string]string{}, as: as}
	k.marks = [2]map[string]string{{}, {}}
	for i, name := range c.names {
		mark := fmt.Sprintf("LotseValue%04d", i)
		if !slices.Contains(names, name) {
			k.marks[0][placeholder(name, asAddress)], k.marks[1][placeholder(name, asAddress)] = mark, mark
			continue
		}
		// Where b is empty, a is emptied. A placeholder of a that stands in b comes from an earlier build, and is no value of b.
		k.marks[1][placeholder(name, asAddress)] = "LotseLeftOver"
		if as == asNothing {
			mark = ""
		} else {
			k.marks[1][placeholder(name, as)] = mark
		}
		k.marks[0][placeholder(name, asAddress)] = mark
	}
	k.ready()
	return k
}

func (k *comparing) ready() {
	k.find = [2]*finder{newFinder(keysOf(k.marks[0])), newFinder(keysOf(k.marks[1]))}
}

// masked is what a file holds with marks for what may differ.
func (k *comparing) masked(side int, data []byte) []byte {
	data = apply(data, k.find[side].edits(data, func(_ int, w string) string { return k.marks[side][w] }))
	return k.place.ReplaceAll(data, []byte("LotseCheckout"))
}

// withoutSiblings leaves out files that are others compressed.
func withoutSiblings(all map[string]file) map[string]file {
	some := map[string]file{}
	for p, f := range all {
		if !isSibling(all, p) {
			some[p] = f
		}
	}
	return some
}

func isSibling(all map[string]file, p string) bool {
	var r io.Reader
	var err error
	plain, ok := all[strings.TrimSuffix(strings.TrimSuffix(p, ".br"), ".gz")]
	switch path.Ext(p) {
	case ".br":
		r = brotli.NewReader(bytes.NewReader(all[p].data))
	case ".gz":
		r, err = gzip.NewReader(bytes.NewReader(all[p].data))
	default:
		return false
	}
	if !ok || err != nil {
		return false
	}
	data, err := io.ReadAll(io.LimitReader(r, int64(len(plain.data))+1))
	return err == nil && bytes.Equal(data, plain.data)
}

// pair finds for every file the one that is the same in the other build, under its name or one with another hash.
func (k *comparing) pair() *difference {
	var left, right []string
	for _, p := range keysOf(k.a) {
		if _, ok := k.b[p]; ok {
			k.pairs = append(k.pairs, [2]string{p, p})
		} else {
			left = append(left, p)
		}
	}
	for _, p := range keysOf(k.b) {
		if _, ok := k.a[p]; !ok {
			right = append(right, p)
		}
	}
	if len(left) != len(right) {
		return &difference{path: starred(append(left, right...)[0], "")}
	}
	likely := map[string][]string{}
	var words [2][]string
	for _, p := range left {
		for _, q := range right {
			if x, y := hashesOf(p, q); x != "" {
				likely[p] = append(likely[p], q)
				words[0], words[1] = append(words[0], x), append(words[1], y)
			}
		}
	}
	blank := k.blanks(words)
	for _, p := range left {
		q := partner(p, likely[p], blank)
		if q == "" {
			return &difference{path: starred(p, "")}
		}
		x, y := hashesOf(p, q)
		if known, ok := k.hashes[x]; ok && known != y {
			return &difference{path: starred(p, x)}
		}
		k.hashes[x] = y
		k.pairs = append(k.pairs, [2]string{p, q})
	}
	return k.useHashes()
}

// blanks returns what says what a file holds, whatever hashes are in it.
func (k *comparing) blanks(words [2][]string) func(side int, name string) string {
	sides := [2]map[string]file{k.a, k.b}
	find := [2]*finder{newFinder(words[0]), newFinder(words[1])}
	known := [2]map[string]string{{}, {}}
	return func(side int, name string) string {
		if known[side][name] == "" {
			data := k.masked(side, sides[side][name].data)
			data = apply(data, find[side].edits(data, func(int, string) string { return "LotseHash" }))
			known[side][name] = inOrder(name, data)
		}
		return known[side][name]
	}
}

// partner chooses among files whose names differ from p's in a hash alone: the one that holds the same.
func partner(p string, likely []string, blank func(side int, name string) string) string {
	if len(likely) == 1 {
		return likely[0]
	}
	found := slices.DeleteFunc(slices.Clone(likely), func(q string) bool { return blank(0, p) != blank(1, q) })
	if len(found) != 1 {
		return ""
	}
	return found[0]
}

// useHashes makes hashes marks. Two files never become one.
func (k *comparing) useHashes() *difference {
	back := map[string]string{}
	for i, x := range keysOf(k.hashes) {
		y := k.hashes[x]
		if back[y] != "" {
			return &difference{path: "*" + y + "*"}
		}
		back[y] = x
		mark := fmt.Sprintf("LotseHash%05d", i)
		k.marks[0][x], k.marks[1][y] = mark, mark
	}
	k.ready()
	return nil
}

// contents compares what the files hold.
func (k *comparing) contents() *difference {
	k.useSums()
	for _, pair := range k.pairs {
		a, b := k.a[pair[0]], k.b[pair[1]]
		fine := a.Executable == b.Executable && a.Folder == b.Folder && (a.Link == "") == (b.Link == "")
		if a.Link != "" {
			a.data, b.data = []byte(a.Link), []byte(b.Link)
		}
		if !fine || !k.same(pair[0], a.data, b.data) {
			x, _ := hashesOf(pair[0], pair[1])
			return &difference{path: starred(pair[0], x)}
		}
	}
	return nil
}

func (k *comparing) same(name string, a, b []byte) bool {
	x, y := k.masked(0, a), k.masked(1, b)
	if bytes.Equal(x, y) || isMap(name, a) && isMap(name, b) {
		return true
	}
	if !isScript(name) {
		return false
	}
	if k.as == asNothing {
		return withoutEmpties(x) == withoutEmpties(y)
	}
	return inOrder(name, x) == inOrder(name, y)
}

// withoutEmpties is a script for a comparison with one in which a value is empty, or what it is where it cannot be read.
func withoutEmpties(data []byte) string {
	s, err := readScript(data)
	if err != nil {
		return string(data)
	}
	return s.withoutEmpties()
}

// inOrder is a script with its names in order, or what it is where it cannot be read.
func inOrder(name string, data []byte) string {
	if isScript(name) {
		if s, err := readScript(data); err == nil {
			return s.ordered()
		}
	}
	return string(data)
}

func isScript(name string) bool {
	switch path.Ext(name) {
	case ".js", ".mjs", ".cjs":
		return true
	}
	return false
}

// isMap reports whether a file says where the code of another comes from (ECMA-426). Its figures change with every length, and
// nothing that runs depends on it.
func isMap(name string, data []byte) bool {
	return path.Ext(name) == ".map" && bytes.Contains(data, []byte(`"mappings"`))
}

// useSums makes marks of the digests by which pages name the bytes of a file that they accept (W3C Subresource Integrity).
func (k *comparing) useSums() {
	for i, pair := range k.pairs {
		a, b := k.a[pair[0]], k.b[pair[1]]
		if a.Digest == b.Digest {
			continue
		}
		for j, x := range sums(a.data) {
			mark := fmt.Sprintf("LotseSum%05d.%d", i, j)
			k.marks[0][x], k.marks[1][sums(b.data)[j]] = mark, mark
		}
	}
	k.ready()
}

// sums are the digests of data as Subresource Integrity writes them.
func sums(data []byte) [3]string {
	a, b, c := sha256.Sum256(data), sha512.Sum384(data), sha512.Sum512(data)
	enc := base64.StdEncoding.EncodeToString
	return [3]string{"sha256-" + enc(a[:]), "sha384-" + enc(b[:]), "sha512-" + enc(c[:])}
}

// hashesOf returns the hashes in two paths that differ in nothing else, or nothing.
func hashesOf(p, q string) (x, y string) {
	n := 0
	for n < min(len(p), len(q)) && p[n] == q[n] {
		n++
	}
	m := 0
	for m < min(len(p), len(q))-n && p[len(p)-1-m] == q[len(q)-1-m] {
		m++
	}
	if len(p) != len(q) || strings.Contains(p[n:len(p)-m], "/") || strings.Contains(q[n:len(q)-m], "/") {
		return "", ""
	}
	x, y = hashIn(p, n, len(p)-m), hashIn(q, n, len(q)-m)
	if x == "" || y == "" || strings.Replace(p, x, y, 1) != q {
		return "", ""
	}
	return x, y
}

// starred is a path without its hash, as people know it.
func starred(p, hash string) string {
	if hash == "" {
		hash = ownHash(p)
	}
	if hash == "" {
		return p
	}
	return strings.Replace(p, hash, "*", 1)
}

package pipeline

import (
	"bytes"
	"slices"
	"strings"
)

// finder finds many words in a text in one pass.
type finder struct {
	starts  [256 * 256]bool
	byStart map[string][]string // first four bytes → words, longest first
}

// newFinder takes words of at least four bytes.
func newFinder(words []string) *finder {
	f := &finder{byStart: map[string][]string{}}
	for _, w := range words {
		f.byStart[w[:4]] = append(f.byStart[w[:4]], w)
		f.starts[int(w[0])<<8|int(w[1])] = true
	}
	for _, list := range f.byStart {
		slices.SortFunc(list, func(a, b string) int { return len(b) - len(a) })
	}
	return f
}

// next returns the place and the word of the first hit at or behind from, or -1.
func (f *finder) next(data []byte, from int) (int, string) {
	for i := from; i+4 <= len(data); i++ {
		if !f.starts[int(data[i])<<8|int(data[i+1])] {
			continue
		}
		for _, w := range f.byStart[string(data[i:i+4])] {
			if len(w) <= len(data)-i && string(data[i:i+len(w)]) == w {
				return i, w
			}
		}
	}
	return -1, ""
}

// in returns the words that data holds, sorted.
func (f *finder) in(data []byte) []string {
	found := map[string]bool{}
	for i, w := f.next(data, 0); i >= 0; i, w = f.next(data, i+1) {
		found[w] = true
	}
	var all []string
	for w := range found {
		all = append(all, w)
	}
	slices.Sort(all)
	return all
}

// edit is one replacement in a text.
type edit struct {
	at  int // in the text before
	old string
	new string
}

// edits are the replacements of all words. to may look at where the word stands.
func (f *finder) edits(data []byte, to func(at int, word string) string) []edit {
	var all []edit
	for i, w := f.next(data, 0); i >= 0; i, w = f.next(data, i+len(w)) {
		all = append(all, edit{i, w, to(i, w)})
	}
	return all
}

func apply(data []byte, edits []edit) []byte {
	if len(edits) == 0 {
		return data
	}
	var out bytes.Buffer
	at := 0
	for _, e := range edits {
		out.Write(data[at:e.at])
		out.WriteString(e.new)
		at = e.at + len(e.old)
	}
	out.Write(data[at:])
	return out.Bytes()
}

// hashIn returns the part of a file's path that is a hash of what it holds, as bundlers write it, where there is one between the
// places from and to, or anywhere for 0 and the whole length.
func hashIn(path string, from, to int) string {
	start := strings.LastIndexByte(path[:from], '/') + 1
	for from > start && alphanumeric(path[from-1]) {
		from--
	}
	for to < len(path) && alphanumeric(path[to]) {
		to++
	}
	hash := path[from:to]
	// Rollup's eight letters may hold - and _, so that what differs may be a part of them.
	if len(hash) < 8 && to-8 > start && (path[to-9] == '-' || path[to-9] == '.') && (to == len(path) || path[to] == '.') {
		hash = path[to-8 : to]
	}
	if len(hash) < 6 || strings.ContainsAny(hash, "/.") {
		return ""
	}
	return hash
}

func alphanumeric(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

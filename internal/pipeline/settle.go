package pipeline

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/proxy"
)

// settle finds the files that change when values are filled in: those that hold a placeholder, the names of files that are hashes,
// or the digests of others that change. It returns why some variables cannot be filled in, if so.
func (c *comparison) settle(immutable func(string) bool) map[string]string {
	why := map[string]string{}
	c.changing = map[string]*baked{}
	var all []string
	for p := range withoutSiblings(c.base) {
		all = append(all, p)
	}
	slices.Sort(all)
	for again := true; again; {
		again = false
		hashes, sums := newFinder(keysOf(c.hashes)), c.sums()
		for _, p := range all {
			f := c.base[p]
			b := &baked{Path: p, Names: f.holds, Hashes: hashes.in(slices.Concat([]byte(p), []byte{0}, []byte(f.Link), []byte{0}, f.data))}
			known := c.changing[p]
			if len(b.Names)+len(b.Hashes) == 0 && (known != nil || len(sums.in(f.data)) == 0) {
				continue
			}
			if known == nil || len(known.Hashes) < len(b.Hashes) {
				c.changing[p], again = b, true
			}
			if immutable(p) && len(hashes.in([]byte(p))) == 0 && why[p] == "" {
				if hash := ownHash(p); hash != "" {
					c.hashes[hash], again = true, true
				} else {
					c.accuse(why, f.holds, "%s stands in "+p+", which browsers keep for ever, and whose name does not change with it")
				}
			}
		}
	}
	return why
}

// accuse gives a reason to some variables, or to all.
func (c *comparison) accuse(why map[string]string, names []string, say string) {
	if len(names) == 0 {
		names = c.names
	}
	for _, name := range names {
		why[name] = strings.Replace(say, "%s", name, 1)
	}
}

// sums finds the digests of the files that change, where any page names digests.
func (c *comparison) sums() *finder {
	named := false
	for _, f := range c.base {
		named = named || bytes.Contains(f.data, []byte("sha256-")) || bytes.Contains(f.data, []byte("sha384-")) || bytes.Contains(f.data, []byte("sha512-"))
	}
	var words []string
	for p := range c.changing {
		if named {
			own := sums(c.base[p].data)
			words = append(words, own[:]...)
		}
	}
	return newFinder(words)
}

// places tries whether values can be put where the placeholders stand, with values that are as plain as can be.
func (c *comparison) places() map[string]string {
	why := map[string]string{}
	value := map[string]string{}
	for _, name := range c.names {
		value[name] = "v"
	}
	f := newFiller(value)
	for _, p := range keysOf(c.changing) {
		if _, err := f.edits(p, c.base[p].data); err != nil {
			c.accuse(why, c.base[p].holds, "%s stands in "+starred(p, "")+", "+err.Error())
		}
	}
	return why
}

// baked lists the files that change.
func (c *comparison) baked() []baked {
	var all []baked
	for _, p := range keysOf(c.changing) {
		all = append(all, *c.changing[p])
	}
	return all
}

// immutable reports whether browsers keep the file for ever.
func (r *run) immutable(p string) bool {
	for _, s := range r.app.Services {
		if folder := path.Clean(s.Static); s.Static != "" && below(p, folder) && proxy.IsImmutable(strings.TrimPrefix(p, folder+"/"), s.Immutable) {
			return true
		}
	}
	return strings.Contains("/"+p, "/.next/static/") // its server says so
}

// ownHash finds the hash in the name of a file, or nothing.
func ownHash(p string) string {
	stem := strings.TrimSuffix(p, path.Ext(p))
	if n := len(stem); n > 9 && (stem[n-9] == '-' || stem[n-9] == '.') && looksHashed(stem[n-8:]) {
		return stem[n-8:]
	}
	for _, part := range strings.FieldsFunc(path.Base(p), func(c rune) bool { return c == '.' || c == '-' || c == '_' }) {
		if len(part) >= 8 && looksHashed(part) {
			return part
		}
	}
	return ""
}

func looksHashed(s string) bool {
	letters := strings.ContainsFunc(s, func(c rune) bool { return c >= 'A' })
	return letters && strings.ContainsAny(s, "0123456789") && !strings.ContainsAny(s, "./")
}

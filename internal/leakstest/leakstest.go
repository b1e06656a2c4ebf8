// Package leakstest makes marked secrets and searches for them, in every form that a program may give them. It shares nothing with the code
// that hides them: what that forgets is found here.
package leakstest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Sentinel is a secret that stands nowhere else: every one is random.
type Sentinel struct {
	Name  string
	Value string
}

// Make makes one secret of each shape.
func Make() []Sentinel {
	r := func() string { return rand.Text() } // 26 letters and digits, 130 bits
	return []Sentinel{
		{"SECRET_PLAIN", r()},
		{"SECRET_SHORT", r()[:8]},
		{"SECRET_QUOTES", `"` + r() + `'\` + r() + `<&>`},
		{"SECRET_LINES", r() + "\n" + r() + "\n" + r()},
		{"SECRET_SIGNS", r() + "+/=" + r() + "=="},
		{"SECRET_UNICODE", r() + "üñ€🙂" + r()},
		{"SECRET_LONG", strings.Repeat(r(), 120)},
		{"SECRET_ADDRESS", "https://user:" + r() + "@db.example.com:5432/" + r() + "?q=" + r()},
	}
}

// Values are those of all, as the code that hides them takes them.
func Values(all []Sentinel) (values []secret.Text) {
	for _, s := range all {
		values = append(values, secret.New(s.Value))
	}
	return values
}

// Finder searches for sentinels. It counts what it has looked at.
type Finder struct {
	Files, Answers int
	Bytes          int64
	Found          []string // where, which, and in what form; nothing of the value

	forms []form
}

type form struct {
	name  string
	bytes []byte
}

// NewFinder makes a Finder of the sentinels in all forms: as they are, by lines, in base64 (standard and for URLs, at all three alignments),
// hexadecimal, escaped for URLs and for JSON.
func NewFinder(all []Sentinel) *Finder {
	f := &Finder{}
	for _, s := range all {
		for _, one := range Forms(s.Value) {
			f.forms = append(f.forms, form{s.Name + " " + one.Name, []byte(one.Value)})
		}
	}
	return f
}

// Forms are what programs make of a value.
func Forms(value string) []Sentinel {
	asJSON, _ := json.Marshal(value) // a string can be
	forms := []Sentinel{{"as it is", value}, {"in JSON", strings.Trim(string(asJSON), `"`)},
		{"hexadecimal", hex.EncodeToString([]byte(value))}, {"in a query", url.QueryEscape(value)}, {"in a path", url.PathEscape(value)}}
	for line := range strings.SplitSeq(value, "\n") {
		forms = append(forms, Sentinel{"a line of it", line})
	}
	if u, err := url.Parse(value); err == nil && u.User != nil {
		if password, ok := u.User.Password(); ok {
			forms = append(forms, Sentinel{"the password in it", password})
		}
	}
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for shift := range 3 {
			// Of what is encoded with something before and after it, the characters that belong to the value alone.
			whole := encoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + value + "\x00\x00\x00"))
			from, to := (shift*8+5)/6, (shift+len(value))*8/6
			forms = append(forms, Sentinel{fmt.Sprintf("in base64, shifted by %d", shift), whole[from:to]})
		}
	}
	return forms
}

// In searches a text that came from where.
func (f *Finder) In(where string, text []byte) {
	f.Bytes += int64(len(text))
	for _, one := range f.forms {
		if bytes.Contains(text, one.bytes) {
			f.Found = append(f.Found, where+": "+one.name)
		}
	}
}

// Answer searches what somebody was answered.
func (f *Finder) Answer(where, text string) {
	f.Answers++
	f.In(where, []byte(text))
}

// Folder searches all files below dir, and their names, but those that skip names.
func (f *Finder) Folder(dir string, skip func(path string) bool) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		inside, _ := filepath.Rel(dir, path)
		if err != nil {
			return nil //nolint:nilerr // it went meanwhile, or is nobody's to read
		}
		if skip(inside) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		f.In("the name of "+inside, []byte(d.Name()))
		if d.Type().IsRegular() {
			if text, err := os.ReadFile(path); err == nil { //nolint:gosec // the tree is the test's own
				f.Files++
				f.In(inside, text)
			}
		}
		return nil
	})
}

// Tell prints the sentinels in every form: one a line, and split over two writes.
func Tell(to io.Writer, values []string) {
	for _, value := range values {
		for _, one := range Forms(value) {
			fmt.Fprintf(to, "%s: %s.\n", one.Name, one.Value)
		}
		for shift := range 3 {
			fmt.Fprintln(to, "basic", base64.StdEncoding.EncodeToString([]byte("user:"[:2+shift]+value+" and more")))
		}
		half := len(value) / 2
		_, _ = io.WriteString(to, "split "+value[:half])
		_, _ = io.WriteString(to, value[half:]+"\n")
	}
}

package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	nethtml "golang.org/x/net/html"
)

// A value is put where its placeholder stands with the escaping of that place: as text of a script, of JSON, of a page. Where a
// place cannot be read with certainty, only plain values are put, which mean the same everywhere; others are refused, and the
// step is run for them.

// plain values mean themselves in scripts, JSON, HTML, CSS, XML and addresses, however these are put into each other.
var plain = regexp.MustCompile(`^[A-Za-z0-9._~:/?#%@+,-]*$`)

// filler puts values in the place of placeholders.
type filler struct {
	find  *finder
	names map[string]string // placeholder → name
	value map[string]string // name → value
}

func newFiller(value map[string]string) *filler {
	f := &filler{names: map[string]string{}, value: value}
	for name := range value {
		f.names[placeholder(name, asAddress)] = name
	}
	f.find = newFinder(keysOf(f.names))
	return f
}

// of is the value for a placeholder.
func (f *filler) of(word string) string { return f.value[f.names[word]] }

// allPlain reports whether the values for all placeholders in data are plain.
func (f *filler) allPlain(data []byte) bool {
	return !slices.ContainsFunc(f.find.in(data), func(w string) bool { return !plain.MatchString(f.of(w)) })
}

// edits puts values into a file. An error says why they cannot be.
func (f *filler) edits(name string, data []byte) ([]edit, error) {
	if i, _ := f.find.next(data, 0); i < 0 {
		return nil, nil
	}
	switch strings.ToLower(path.Ext(name)) {
	case ".js", ".mjs", ".cjs":
		return f.script(data)
	case ".json", ".webmanifest", ".map":
		return f.json(data)
	case ".html", ".htm":
		return f.page(data)
	}
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil, errors.New("which is no text")
	}
	return f.verbatim(data)
}

func (f *filler) verbatim(data []byte) ([]edit, error) {
	if !f.allPlain(data) {
		return nil, errors.New("where a value with such characters may mean something else")
	}
	return f.find.edits(data, func(_ int, w string) string { return f.of(w) }), nil
}

// script puts values into string and template literals.
func (f *filler) script(data []byte) ([]edit, error) {
	s, err := readScript(data)
	if err != nil {
		return f.verbatim(data)
	}
	l := s.literals()
	inside := 0
	for _, text := range slices.Concat(l.plain, l.tagged) {
		inside += len(f.find.edits([]byte(text), func(int, string) string { return "" }))
	}
	all := f.find.edits(data, func(_ int, w string) string { return escaped(f.of(w)) })
	if inside != len(all) {
		return nil, errors.New("outside of a text")
	}
	if f.allPlain(data) {
		return all, nil
	}
	for _, text := range l.tagged {
		if !f.allPlain([]byte(text)) {
			return nil, errors.New("in a template that a function reads")
		}
	}
	return all, f.simple(l.plain)
}

// simple refuses values that are not plain in texts that may be code again: a page, a script, JSON.
func (f *filler) simple(texts []string) error {
	for _, text := range texts {
		if f.allPlain([]byte(text)) {
			continue
		}
		rest := string(apply([]byte(text), f.find.edits([]byte(text), func(int, string) string { return "" })))
		if strings.ContainsAny(rest, "\"'`\\<>{}&") {
			return errors.New("in a text that may be code")
		}
	}
	return nil
}

// escaped is a value as it stands between quotes of any kind in a script, also one in a page (ECMA-262 §12.9.4).
func escaped(value string) string {
	var out strings.Builder
	for _, r := range value {
		switch {
		case strings.ContainsRune("\\'\"`$", r):
			out.WriteByte('\\')
			out.WriteRune(r)
		case r == '\n':
			out.WriteString(`\n`)
		case r == '\r':
			out.WriteString(`\r`)
		case r == '<' || r < ' ':
			fmt.Fprintf(&out, `\x%02x`, r)
		case r == '\u2028' || r == '\u2029':
			fmt.Fprintf(&out, `\u%04x`, r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// json puts values into strings of JSON.
func (f *filler) json(data []byte) ([]edit, error) {
	if !json.Valid(data) {
		return f.verbatim(data)
	}
	var texts []string // a valid text has quotes only around strings, and in them behind a backslash
	for at := 0; at < len(data); at++ {
		if data[at] != '"' {
			continue
		}
		end := at + 1
		for ; data[end] != '"'; end++ {
			if data[end] == '\\' {
				end++
			}
		}
		texts = append(texts, string(data[at+1:end]))
		at = end
	}
	return f.find.edits(data, func(_ int, w string) string { return escapedJSON(f.of(w)) }), f.simple(texts)
}

// escapedJSON also keeps a page from ending where JSON is a part of it.
func escapedJSON(value string) string {
	quoted, _ := json.Marshal(value) // a string always marshals
	return string(quoted[1 : len(quoted)-1])
}

// page puts values into a page: its text, quoted attributes, and scripts.
func (f *filler) page(data []byte) ([]edit, error) {
	var all []edit
	var inside nethtml.Token // the last start tag, whose text may be no text
	at := 0
	z := nethtml.NewTokenizer(bytes.NewReader(data))
	for {
		kind := z.Next()
		raw := bytes.Clone(z.Raw())
		if kind == nethtml.ErrorToken && len(raw) == 0 {
			return all, nil
		}
		edits, err := f.part(kind, inside, raw)
		if err != nil {
			return nil, err
		}
		for _, e := range edits {
			e.at += at
			all = append(all, e)
		}
		at += len(raw)
		switch kind { //nolint:exhaustive // what is between tags changes nothing
		case nethtml.StartTagToken:
			inside = z.Token()
		case nethtml.EndTagToken:
			inside = nethtml.Token{}
		}
	}
}

func (f *filler) part(kind nethtml.TokenType, inside nethtml.Token, raw []byte) ([]edit, error) {
	switch {
	case f.allPlain(raw) && !(kind == nethtml.TextToken && inside.Data == "script"):
		return f.verbatim(raw)
	case kind == nethtml.TextToken && inside.Data == "script":
		return f.inlineScript(inside, raw)
	case kind == nethtml.TextToken && !rawText[inside.Data]:
		return f.find.edits(raw, func(_ int, w string) string { return html.EscapeString(f.of(w)) }), nil
	case kind == nethtml.StartTagToken, kind == nethtml.SelfClosingTagToken:
		return f.attributes(raw)
	}
	return f.verbatim(raw)
}

// rawText are elements whose text is none of the page's (HTML §13.2.5.1, of elements that are read so).
var rawText = map[string]bool{"style": true, "xmp": true, "iframe": true, "noembed": true, "noframes": true, "noscript": true, "plaintext": true}

func (f *filler) inlineScript(tag nethtml.Token, raw []byte) ([]edit, error) {
	kind := ""
	for _, a := range tag.Attr {
		if a.Key == "type" {
			kind = strings.ToLower(strings.TrimSpace(a.Val))
		}
	}
	switch {
	case kind == "" || kind == "module" || strings.HasSuffix(kind, "javascript"):
		return f.script(raw)
	case strings.HasSuffix(kind, "json") || kind == "importmap" || kind == "speculationrules":
		return f.json(raw)
	}
	return f.verbatim(raw)
}

var attribute = regexp.MustCompile(`(?s)[\s"'/]([^\s"'<>/=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')`)

// attributes puts values between the quotes of attributes that hold no code.
func (f *filler) attributes(raw []byte) ([]edit, error) {
	quoted := 0
	for _, m := range attribute.FindAllSubmatch(raw, -1) {
		name := strings.ToLower(string(m[1]))
		for _, text := range m[2:] {
			if i, _ := f.find.next(text, 0); i < 0 {
				continue
			}
			code := strings.HasPrefix(name, "on") || name == "style" || name == "srcdoc" || bytes.Contains(bytes.ToLower(text), []byte("javascript:"))
			if code && !f.allPlain(text) {
				_, err := f.verbatim(text)
				return nil, err
			}
			quoted += len(f.find.edits(text, func(int, string) string { return "" }))
		}
	}
	all := f.find.edits(raw, func(_ int, w string) string { return html.EscapeString(f.of(w)) })
	if quoted != len(all) {
		return nil, errors.New("in an attribute without quotes")
	}
	return all, nil
}

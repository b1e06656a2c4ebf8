package pipeline

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
)

// A bundler that meets `VITE_X === "production"` decides it while it builds, and so it decides wrongly with any placeholder. So
// what the sources may compare a value with is kept with a proof: a stage whose value is among it gets a build of its own.

// asks is what the sources ask of texts.
type asks struct {
	Texts []byte              `json:"texts"` // sorted hashes of all that stands between quotes, or before a colon; 8 bytes each
	Parts map[string][]string `json:"parts"` // startsWith, endsWith, includes → literals that are asked for
}

// sourceCode are endings of files that may hold conditions that a build decides.
var sourceCode = map[string]bool{
	"": true, ".js": true, ".mjs": true, ".cjs": true, ".jsx": true, ".ts": true, ".mts": true, ".cts": true, ".tsx": true, ".vue": true, ".svelte": true,
	".astro": true, ".html": true, ".htm": true, ".json": true, ".json5": true, ".yaml": true, ".yml": true, ".toml": true, ".md": true, ".mdx": true,
	".css": true, ".scss": true, ".less": true, ".go": true, ".py": true, ".rb": true, ".php": true, ".sh": true, ".ejs": true, ".hbs": true, ".pug": true,
	".njk": true, ".liquid": true, ".graphql": true, ".elm": true, ".coffee": true, ".rs": true, ".tmpl": true, ".env": true,
}

func mayAsk(name string) bool {
	return sourceCode[strings.ToLower(path.Ext(name))] && !strings.HasSuffix(name, ".d.ts")
}

// asks reads the sources of all steps that see public values, with what other steps made for them, and stores what they ask.
func (r *run) asks(ctx context.Context) (string, error) {
	in := asking{texts: map[uint64]bool{}, parts: map[[2]string]bool{}}
	var steps []*step
	for _, s := range r.bakes() {
		steps = append(append(steps, s), s.all...)
	}
	var wanted []blob
	seen := map[string]bool{}
	for _, s := range steps {
		if !s.touched() {
			continue
		}
		for _, f := range r.all {
			if f.mode == "120000" || seen[f.path] || !mayAsk(f.path) || len(s.reads) > 0 && !slices.ContainsFunc(s.reads, func(p string) bool { return below(f.path, p) }) {
				continue
			}
			seen[f.path] = true
			wanted = append(wanted, blob{f.object, func(body io.Reader, _ int64) error {
				data, err := io.ReadAll(body)
				in.read(data, true)
				return err
			}})
		}
		for _, n := range s.all {
			if err := r.askMade(ctx, &in, n, seen); err != nil {
				return "", err
			}
		}
	}
	if err := gitOf(r.commit.Repo).blobs(ctx, wanted); err != nil {
		return "", err
	}
	data, err := json.Marshal(in.asks())
	if err != nil {
		return "", err
	}
	digest, _, err := r.p.depot.Put(ctx, bytes.NewReader(data))
	return digest, err
}

func (r *run) askMade(ctx context.Context, in *asking, s *step, seen map[string]bool) error {
	t, err := r.treeOf(ctx, s)
	if err != nil {
		return err
	}
	for _, e := range t {
		if e.Digest == "" || seen[e.Digest] || !mayAsk(e.Path) {
			continue
		}
		seen[e.Digest] = true
		data, err := r.p.depot.Read(ctx, e.Digest)
		if err != nil {
			return &lostError{s, err}
		}
		in.read(data, !strings.Contains("/"+e.Path, "/node_modules/"))
	}
	return nil
}

// asking collects.
type asking struct {
	texts map[uint64]bool
	parts map[[2]string]bool
}

func (a *asking) asks() asks {
	all := asks{Parts: map[string][]string{}}
	var sorted []uint64
	for h := range a.texts {
		sorted = append(sorted, h)
	}
	slices.Sort(sorted)
	for _, h := range sorted {
		all.Texts = binary.BigEndian.AppendUint64(all.Texts, h)
	}
	for p := range a.parts {
		all.Parts[p[0]] = append(all.Parts[p[0]], p[1])
	}
	for _, list := range all.Parts {
		slices.Sort(list)
	}
	return all
}

// longestAsked bounds what is taken for a literal. A longer value gets a build of its own.
const longestAsked = 1 << 10

var (
	partAsked = regexp.MustCompile("\\.(startsWith|endsWith|includes|indexOf|lastIndexOf|search|match|split|replace)\\(\\s*(?:\"([^\"\\\\\\n]{1,200})\"|'([^'\\\\\\n]{1,200})'|`([^`\\\\\\n$]{1,200})`)")
	keyAsked  = regexp.MustCompile(`[\pL_$][\pL\pN_$]*\s*:`)
)

// read takes everything between any two quotes that follow each other for a literal: more than there is, and none is missed,
// without reading the language. Questions about parts are taken from the app's own sources alone: packages ask them of everything.
func (a *asking) read(data []byte, own bool) {
	for _, quote := range []byte("\"'`") {
		a.between(data, quote, false)
		a.between(data, quote, true)
	}
	for _, m := range keyAsked.FindAll(data, -1) {
		a.add(bytes.TrimRight(m, ": \t\r\n"))
	}
	if !own {
		return
	}
	for _, m := range partAsked.FindAllSubmatch(data, -1) {
		op := string(m[1])
		if op != "startsWith" && op != "endsWith" {
			op = "includes"
		}
		a.parts[[2]string{op, string(slices.Concat(m[2], m[3], m[4]))}] = true
	}
}

func (a *asking) between(data []byte, quote byte, escapes bool) {
	last := -1
	for i, c := range data {
		if c == '\n' && quote != '`' {
			last = -1
		}
		if c != quote || escapes && backslashes(data, i)%2 == 1 {
			continue
		}
		if last >= 0 && i-last-1 <= longestAsked {
			a.add(data[last+1 : i])
		}
		last = i
	}
}

func backslashes(data []byte, at int) (n int) {
	for at > 0 && data[at-1] == '\\' {
		at--
		n++
	}
	return n
}

func (a *asking) add(text []byte) {
	a.texts[hashed(string(text))] = true
	if bytes.IndexByte(text, '\\') < 0 {
		return
	}
	var plain string
	quoted := `"` + strings.NewReplacer(`\'`, `'`, "\\`", "`").Replace(string(text)) + `"`
	if json.Unmarshal([]byte(quoted), &plain) == nil {
		a.texts[hashed(plain)] = true
	}
}

func hashed(text string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, text) // never fails
	return h.Sum64()
}

func (a asks) has(text string) bool {
	want := hashed(text)
	lo, hi := 0, len(a.Texts)/8
	for lo < hi {
		mid := (lo + hi) / 2
		if got := binary.BigEndian.Uint64(a.Texts[mid*8:]); got == want {
			return true
		} else if got < want {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return false
}

// loose values are written without quotes, too, and compared in more ways than can be found.
var loose = regexp.MustCompile(`^(?:true|false|null|undefined|NaN|[-+]?(?:Infinity|0[xob][0-9A-Fa-f]+|[0-9][0-9_]*\.?[0-9]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+))$`)

// decides says why a value may decide what is built, where no placeholder does; "" where it does not.
func (a asks) decides(name, value string) string {
	switch {
	case loose.MatchString(value):
		return name + " is a number, or true or false here, which programs compare with in many ways"
	case len(value) > longestAsked:
		return fmt.Sprintf("%s is longer than %d bytes here", name, longestAsked)
	case value != "" && a.has(value):
		return "the value of " + name + " stands in the sources, which may compare with it"
	}
	for _, op := range []string{"startsWith", "endsWith", "includes"} {
		for _, part := range a.Parts[op] {
			// Where the answers for the placeholders were not one and the same, the builds would have differed.
			if !asked(op, placeholder(name, asAddress), part) && !asked(op, placeholder(name, asNumber), part) && asked(op, value, part) {
				return fmt.Sprintf("the sources ask whether a text %s %q, and %s does here", opWords[op], part, name)
			}
		}
	}
	return ""
}

var opWords = map[string]string{"startsWith": "starts with", "endsWith": "ends with", "includes": "holds"}

func asked(op, text, part string) bool {
	switch op {
	case "startsWith":
		return strings.HasPrefix(text, part)
	case "endsWith":
		return strings.HasSuffix(text, part)
	}
	return strings.Contains(text, part)
}

// asksOf loads what the sources ask.
func (p *Pipeline) asksOf(ctx context.Context, digest string) (asks, error) {
	var a asks
	if digest == "" {
		return a, nil
	}
	data, err := p.depot.Read(ctx, digest)
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	return a, err
}

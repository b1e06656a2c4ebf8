package survey

import (
	"errors"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Bounds of a look, far beyond any app's own sources.
const (
	mostFiles = 20_000
	mostDeep  = 8        // folders in folders
	mostText  = 2 << 20  // bytes of one file; a larger one is not read
	mostRead  = 64 << 20 // bytes of all files together
)

// made are folders that tools fill. Nothing in them was written by hand.
var made = map[string]bool{
	".git": true, "node_modules": true, "bower_components": true, "vendor": true, "dist": true, "build": true, "out": true, "coverage": true, "target": true,
	".next": true, ".nuxt": true, ".output": true, ".svelte-kit": true, ".astro": true, ".turbo": true, ".cache": true, ".angular": true, ".vercel": true,
	".netlify": true, "venv": true, ".venv": true, "__pycache__": true, "testdata": true, ".idea": true, ".vscode": true,
}

// tree is what lies in the folder.
type tree struct {
	fsys    fs.FS
	files   map[string]int64 // sizes of regular files by path
	sorted  []string
	open    map[string]bool // files that everybody on the machine may read
	texts   map[string]string
	read    int64
	cut     bool     // there is more than was looked at
	modules bool     // packages are installed here
	parts   []string // folders of parts of the app: one that lies in another is none of the other's
}

func walk(fsys fs.FS) (*tree, error) {
	t := &tree{fsys: fsys, files: map[string]int64{}, open: map[string]bool{}, texts: map[string]string{}}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil && name == ".":
			return err
		case err != nil: // what may not be read is not there
			return fs.SkipDir
		case len(t.files) >= mostFiles:
			t.cut = true
			return fs.SkipAll
		case name == "node_modules":
			t.modules = true
			return skipped(d)
		case d.IsDir() && name != "." && (made[path.Base(name)] || strings.Count(name, "/") >= mostDeep || unusable(name)):
			return fs.SkipDir
		case d.Type().IsRegular() && !unusable(name):
			t.add(name, d)
		}
		return nil
	})
	slices.Sort(t.sorted)
	return t, err
}

func skipped(d fs.DirEntry) error {
	if d.IsDir() {
		return fs.SkipDir
	}
	return nil
}

// unusable are names that belong into no file that a person reads.
func unusable(name string) bool {
	return strings.ContainsFunc(path.Base(name), func(r rune) bool { return unicode.IsControl(r) || r == '\\' || r == unicode.ReplacementChar })
}

func (t *tree) add(name string, d fs.DirEntry) {
	info, err := d.Info()
	if err != nil {
		return
	}
	t.files[name], t.open[name] = info.Size(), info.Mode().Perm()&0o007 != 0
	t.sorted = append(t.sorted, name)
}

func (t *tree) has(name string) bool { _, there := t.files[name]; return there }

// folder reports whether something lies in it.
func (t *tree) folder(name string) bool {
	return slices.ContainsFunc(t.sorted, func(f string) bool { return strings.HasPrefix(f, name+"/") })
}

// with returns the folders, two deep at most, that hold a file of this name; the root first.
func (t *tree) with(base string) (dirs []string) {
	for _, f := range t.sorted {
		if path.Base(f) == base && strings.Count(f, "/") <= 2 {
			dirs = append(dirs, path.Dir(f))
		}
	}
	return dirs
}

// first returns the first of these files of dir that is there, or "".
func (t *tree) first(dir string, names ...string) string {
	for _, n := range names {
		if f := path.Join(dir, n); t.has(f) {
			return f
		}
	}
	return ""
}

// text is what stands in a file; "" where it is missing, too long, or one too many.
func (t *tree) text(name string) string {
	if text, known := t.texts[name]; known {
		return text
	}
	size, there := t.files[name]
	if !there || size > mostText || t.read > mostRead {
		t.cut = t.cut || there && t.read > mostRead
		return ""
	}
	data, err := t.bytes(name)
	if err != nil {
		return ""
	}
	t.read += int64(len(data))
	t.texts[name] = string(data)
	return t.texts[name]
}

func (t *tree) bytes(name string) ([]byte, error) {
	f, err := t.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, mostText+1)) // it may have grown
	if err == nil && len(data) > mostText {
		err = errors.New("too long")
	}
	return data, err
}

var testFile = regexp.MustCompile(`(\.|_)(test|spec|cy|stories)\.|(^|/)(__tests__|tests?|e2e|spec|cypress|examples?)/`)

// sources returns the files with one of these endings in dir and below that are no tests.
func (t *tree) sources(dir string, endings ...string) (all []string) {
	for _, f := range t.sorted {
		ending := path.Ext(f)
		if ending == "" && path.Base(path.Dir(f)) == "bin" {
			ending = ".js" // bin/www
		}
		if t.of(f, dir) && slices.Contains(endings, ending) && !testFile.MatchString(f) && !strings.HasSuffix(f, ".d.ts") {
			all = append(all, f)
		}
	}
	return all
}

// of reports whether a file lies in dir, and in no other part of the app that lies there. Go has no parts of that kind: a site may
// hold the file that carries it into a program.
func (t *tree) of(file, dir string) bool {
	return inside(file, dir) && (path.Ext(file) == ".go" || !slices.ContainsFunc(t.parts, func(p string) bool { return p != dir && inside(p, dir) && inside(file, p) }))
}

// tests reports whether there is a test in dir or below.
func (t *tree) tests(dir string) bool {
	return slices.ContainsFunc(t.sorted, func(f string) bool {
		return t.of(f, dir) && regexp.MustCompile(`[._-](test|spec)\.[cm]?[jt]sx?$|(^|/)(__tests__|tests?)/.*\.[cm]?[jt]sx?$`).MatchString(f)
	})
}

func scripts() []string {
	return []string{".js", ".jsx", ".ts", ".tsx", ".mjs", ".cjs", ".mts", ".cts", ".vue", ".svelte", ".astro"}
}

func programs() []string { return append(scripts(), ".go") }

// says reports whether a source in dir has these words.
func (t *tree) says(dir, words string) bool {
	return slices.ContainsFunc(t.sources(dir, programs()...), func(f string) bool { return strings.Contains(t.text(f), words) })
}

// finds returns what the first group of an expression matches in the sources of dir, each once, sorted.
func (t *tree) finds(dir string, expr *regexp.Regexp, endings ...string) (all []string) {
	for _, f := range t.sources(dir, endings...) {
		for _, m := range expr.FindAllStringSubmatch(t.text(f), -1) {
			all = append(all, m[1])
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func inside(file, dir string) bool { return dir == "." || strings.HasPrefix(file, dir+"/") }

// under is a path of dir, as seen from the root.
func under(dir, p string) string { return path.Join(dir, p) }

// leads reports whether a path stays in the folder that it begins in.
func leads(p string) bool {
	p = path.Clean(p)
	return p != ".." && !strings.HasPrefix(p, "../") && !path.IsAbs(p)
}

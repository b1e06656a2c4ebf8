// Package survey knows what kind of app a stranger's repository holds, and the lotse.yaml that fits it.
//
// It looks at files and starts nothing: what stands in a package.json is read, never run. It follows no symbolic link, skips what
// tools make (node_modules and its kind), and stops at the bounds of tree.go, so that it is quick in any folder.
//
// What works without editing is the rule. A line of the file that would keep the first deploy from working is a comment, with the
// reason beside it: a secret that nobody has set yet, a test that wants a browser. What only a person can know is told in Report.Decide.
package survey

import (
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Facts are what the files alone do not tell.
type Facts struct {
	Folder   string // name of the folder, for an app that has no name of its own
	Postgres int    // major version of this machine's PostgreSQL; 0: none
	Git      Git
}

// Report is what was found.
type Report struct {
	App    string `json:"app"`
	File   string `json:"file"`   // the text of lotse.yaml
	Found  []Note `json:"found"`  // what is there, and by what it was recognised
	Decide []Note `json:"decide"` // what does not fit, is not understood, or only a person knows
	Next   []Note `json:"next"`   // commands, and what each is for
}

// Note is one thing and what is to be said of it.
type Note struct {
	What string `json:"what"`
	Says string `json:"says"`
}

// Look surveys a folder. An app that it does not recognise is deploy.ErrBadInput; the error says what it looked for.
func Look(fsys fs.FS, facts Facts) (Report, error) {
	t, err := walk(fsys)
	if err != nil {
		return Report{}, err
	}
	s := &survey{tree: t, facts: facts, env: map[string]string{}}
	s.findParts()
	if len(s.parts) == 0 {
		return Report{}, s.unrecognised()
	}
	s.app = s.name()
	s.settle()
	for _, p := range s.parts {
		s.build(p)
	}
	s.environment()
	s.databases()
	s.checkIn()
	if t.cut {
		s.decide("size", "only the first %d files were looked at", mostFiles)
	}
	return Report{App: s.app, File: s.text(), Found: s.found, Decide: s.decisions, Next: s.next}, nil
}

// survey is one look at one folder.
type survey struct {
	tree  *tree
	facts Facts
	app   string
	parts []*part

	steps    []step
	services []service
	env      map[string]string // for every stage
	envNote  string
	envFile  string // for dev; with a leading # where it is left to a person
	secrets  []string
	database string   // what stands behind "database:"
	dbNotes  []string // above it
	dbOff    bool     // it is left to a person

	found, decisions, next []Note
}

// part is one program or one site: what a folder of the repository is good for.
type part struct {
	role string // site or api
	dir  string
	kind string // for people: "Vite, React"
	why  string // by what it was recognised

	pkg *manifest // of Node's parts
	fit fitting
	mod *module // of Go's parts

	prefix  string // of its steps' names, where another part has the plain ones
	path    string // of its service
	carried bool   // another part's program holds it: it has no service
}

// step and service are lines of the file. Empty fields are left out.
type step struct {
	name, run, in                string
	reads, makes, needs, publics []string
	off                          bool     // left to a person: it stands there as a comment
	notes                        []string // above it
}

type service struct {
	name, static, fallback, command, path, health string
	files, notes                                  []string
}

func (s *survey) tell(what, says string, args ...any) {
	s.found = append(s.found, Note{what, fmt.Sprintf(says, args...)})
}

func (s *survey) decide(what, says string, args ...any) {
	n := Note{what, fmt.Sprintf(says, args...)}
	if !slices.Contains(s.decisions, n) {
		s.decisions = append(s.decisions, n)
	}
}

// Where the parts of an app use to lie, the likeliest first.
var (
	siteFolders = []string{".", "web", "frontend", "client", "app", "site", "ui", "www", "apps/web", "apps/frontend", "apps/client", "apps/site", "packages/web",
		"packages/frontend", "packages/client"}
	apiFolders = []string{".", "api", "server", "backend", "service", "apps/api", "apps/server", "apps/backend", "packages/api", "packages/server", "packages/backend"}
)

// findParts recognises at most one part for each role; what else there is is told.
func (s *survey) findParts() {
	var sites, apis []*part
	for _, dir := range s.tree.with("package.json") {
		p := s.nodePart(dir)
		switch {
		case p == nil:
		case p.role == "site":
			sites = append(sites, p)
		default:
			apis = append(apis, p)
		}
	}
	for _, dir := range s.tree.with("go.mod") {
		apis = append(apis, s.goParts(dir)...)
	}
	site, api := s.choose(sites, siteFolders), s.choose(apis, apiFolders)
	if site == nil {
		site = s.pages(api)
	}
	for _, p := range []*part{site, api} {
		if p != nil {
			s.parts = append(s.parts, p)
			s.tree.parts = append(s.tree.parts, p.dir)
		}
	}
}

// choose takes the part in the likeliest folder.
func (s *survey) choose(all []*part, folders []string) *part {
	rank := func(p *part) int {
		if i := slices.Index(folders, p.dir); i >= 0 {
			return i
		}
		return len(folders)
	}
	slices.SortStableFunc(all, func(a, b *part) int { return rank(a) - rank(b) })
	if len(all) == 0 {
		return nil
	}
	for _, p := range all[1:] {
		s.decide(p.where(), "%s is there too and is left out; add steps and a service for it if it belongs to the app", p.kind)
	}
	return all[0]
}

func (p *part) where() string {
	if p.mod != nil && p.mod.chosen != "." {
		return under(p.dir, p.mod.chosen)
	}
	if p.dir == "." {
		return "the root"
	}
	return p.dir + "/"
}

// settle gives the parts their paths and the names of their steps.
func (s *survey) settle() {
	for _, p := range s.parts {
		p.path = "/"
		if p.role == "api" && len(s.parts) > 1 {
			p.prefix, p.path = "api-", "/api"
		}
		s.tell(p.kind, "in %s: %s", p.where(), p.why)
	}
	if len(s.parts) == 2 {
		s.mayBeEmbedded(s.parts[0], s.parts[1])
	}
	if len(s.parts) == 2 && s.parts[1].path != "/" && !s.tree.says(s.parts[1].dir, `/api`) {
		s.decide("paths", "the API gets every request below /api, and the path is not cut off; nothing in %s mentions /api", s.parts[1].where())
	}
}

func (s *survey) build(p *part) {
	switch {
	case p.pkg != nil:
		s.buildNode(p)
	case p.mod != nil:
		s.buildGo(p)
	default:
		s.buildPages(p)
	}
}

// checkIn says what git has to know before a deploy, and the commands for it.
func (s *survey) checkIn() {
	g := s.facts.Git
	if !g.Repository {
		s.next = append(s.next, Note{"git init", "this folder is in no git repository, and Lotse deploys commits"})
	}
	if s.envFile == ".env" && s.tree.open[".env"] {
		s.next = append(s.next, Note{"chmod 600 .env", "others on this machine may read it, and Lotse refuses it so"})
	}
	if s.tree.has(".env") && !g.Tracked[".env"] && !s.ignored(".env") {
		s.next = append(s.next, Note{"echo .env >> .gitignore", "git does not ignore it, and `git add` would take its secrets into the commit"})
	}
	if s.tree.modules && !s.ignored("node_modules") {
		s.next = append(s.next, Note{"echo node_modules >> .gitignore", "git does not ignore it, and steps install packages themselves"})
	}
	add := "git add lotse.yaml && git commit -m 'add lotse.yaml'"
	if !g.Commit {
		add = "git add -A && git commit -m 'first commit'"
	}
	s.next = append(s.next,
		Note{add, "Lotse reads lotse.yaml from the commit"},
		Note{"lotse deploy", "carries the commit to https://dev." + s.app + ".localhost; `lotse serve` has to run"},
		Note{"lotse password --stage dev", "dev and staging are private: this opens dev in the browser"})
}

// ignored reports whether git leaves a file of this folder out. Without a repository it is read from .gitignore.
func (s *survey) ignored(name string) bool {
	if s.facts.Git.Repository {
		return s.facts.Git.Ignored[name]
	}
	return says(s.tree.text(".gitignore"), `(?m)^/?`+regexp.QuoteMeta(name)+`[/*]?\s*$`)
}

// unrecognised says what was looked for, and what is known of what is there.
func (s *survey) unrecognised() error {
	hint := "looked for, here and in " + strings.Join(siteFolders[1:4], "/, ") + "/, " + strings.Join(apiFolders[1:4], "/, ") + "/: package.json (" +
		"Vite, Next.js, Nuxt, SvelteKit, Astro, React Router, Angular and others, or a program with a start script), go.mod with a package main, index.html\n" +
		"write the file by hand: docs/lotse-yaml.md has every field, `lotse check` finds mistakes"
	for _, other := range []struct{ file, is string }{
		{"manage.py", "a Django app"}, {"pyproject.toml", "a Python app"}, {"requirements.txt", "a Python app"}, {"Gemfile", "a Ruby app"},
		{"composer.json", "a PHP app"}, {"index.php", "a PHP app"}, {"Cargo.toml", "a Rust app"}, {"pom.xml", "a Java app"},
		{"build.gradle", "a Java app"}, {"mix.exs", "an Elixir app"}, {"deno.json", "a Deno app"}, {"Dockerfile", "a Dockerfile"}, {"compose.yaml", "a compose file"},
	} {
		if s.tree.has(other.file) {
			return deploy.Hint(fmt.Errorf("%w: %s tells of %s, which init does not understand; Lotse runs any program, by its command",
				deploy.ErrBadInput, other.file, other.is), hint)
		}
	}
	for _, n := range s.decisions { // why what is there will not do
		hint = n.What + ": " + n.Says + "\n" + hint
	}
	return deploy.Hint(fmt.Errorf("%w: there is no app here that init recognises", deploy.ErrBadInput), hint)
}

package survey

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// module is a Go module and the program of it that is deployed.
type module struct {
	path     string // github.com/acme/shop
	chosen   string // folder of the program, relative to the module
	name     string // of the program
	needs    []string
	commands []string // folders of further programs
}

var (
	moduleLine = regexp.MustCompile(`(?m)^module\s+"?([^\s"]+)`)
	mainLine   = regexp.MustCompile(`(?m)^package main\b`)
	mainFunc   = regexp.MustCompile(`(?m)^func main\(\)`)
	serves     = regexp.MustCompile(`net/http"|gin-gonic/gin|labstack/echo|gofiber/fiber|go-chi/chi|gorilla/mux|valyala/fasthttp`)
)

// goParts finds the program of a module that answers requests.
func (s *survey) goParts(dir string) []*part {
	found := moduleLine.FindStringSubmatch(s.tree.text(under(dir, "go.mod")))
	if found == nil || !says(dir, plainPath) {
		return nil
	}
	m := &module{path: found[1]}
	mains := s.mains(dir)
	if len(mains) == 0 {
		return nil
	}
	rank := func(at string) (n int) {
		if s.serving(under(dir, at)) {
			n -= 10
		}
		if slices.Contains([]string{".", "cmd/server", "cmd/api", "cmd/web", "cmd/app", "server", "api", "cmd"}, at) {
			n -= 5
		}
		return n
	}
	slices.SortStableFunc(mains, func(a, b string) int { return rank(a) - rank(b) })
	m.chosen, m.commands = mains[0], mains[1:]
	m.name = path.Base(under(dir, m.chosen))
	if m.chosen == "." || m.name == "." || m.name == "cmd" {
		m.name = lastOf(m.path)
	}
	m.name = label(m.name)
	if m.name == "" {
		m.name = "app"
	}
	p := &part{role: "api", dir: dir, kind: "Go", why: "package main of " + m.path, mod: m}
	if !s.tree.says(dir, "net/http\"") && !serves.MatchString(s.tree.text(under(dir, "go.mod"))) {
		s.decide(p.where(), "a Go program that does not import net/http: no server that init knows; if it needs no address, take path away from its service")
	}
	return []*part{p}
}

// mains are the folders of programs, relative to the module.
func (s *survey) mains(dir string) (all []string) {
	for _, f := range s.tree.sources(dir, ".go") {
		text := s.tree.text(f)
		at := path.Dir(f)
		if !mainLine.MatchString(text) || !mainFunc.MatchString(text) || says(text, `(?m)^//go:build .*\bignore\b`) || !says(at, plainPath) || s.nested(dir, at) {
			continue
		}
		if at = strings.TrimPrefix(strings.TrimPrefix(at, dir), "/"); at == "" {
			at = "."
		}
		if dir == "." {
			at = path.Dir(f)
		}
		if !says(at, `(^|/)(_|tools?|scripts?|hack|internal/tools)(/|$)`) && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all
}

// nested reports whether a module of its own begins between dir and at.
func (s *survey) nested(dir, at string) bool {
	for ; at != dir && at != "."; at = path.Dir(at) {
		if s.tree.has(under(at, "go.mod")) {
			return true
		}
	}
	return false
}

func (s *survey) serving(dir string) bool {
	return slices.ContainsFunc(s.tree.sources(dir, ".go"), func(f string) bool { return path.Dir(f) == dir && serves.MatchString(s.tree.text(f)) })
}

// lastOf is the last part of a module's path that is no version.
func lastOf(module string) string {
	if base := path.Base(module); !says(base, `^v\d+$`) {
		return strings.TrimSuffix(base, ".go")
	}
	return path.Base(path.Dir(module))
}

var embeds = regexp.MustCompile(`(?m)^//go:embed +(.+)$`)

// mayBeEmbedded sees a program that carries the site in itself: then there is one service, and the site is built first.
func (s *survey) mayBeEmbedded(site, api *part) {
	if api.mod == nil || !site.fit.site() && site.pkg != nil {
		return
	}
	target := under(site.dir, site.fit.static)
	for _, f := range s.tree.sources(api.dir, ".go") {
		for _, line := range embeds.FindAllStringSubmatch(s.tree.text(f), -1) {
			for word := range strings.FieldsSeq(line[1]) {
				word = strings.Trim(strings.TrimPrefix(word, "all:"), "\"`")
				if at := path.Join(path.Dir(f), strings.TrimSuffix(word, "/*")); at == target {
					api.path, api.mod.needs = "/", []string{site.prefix + "build"}
					site.carried = true
					s.tell("go:embed", "%s carries %s in the program, so that there is one service", f, target)
					return
				}
			}
		}
	}
}

// buildGo writes the steps and the service of a module.
func (s *survey) buildGo(p *part) {
	m := p.mod
	bin := "bin/" + m.name
	target := "./" + m.chosen
	if m.chosen == "." {
		target = "."
	}
	reads := s.goReads(p.dir)
	check, build := step{name: p.prefix + "test", in: p.dir, reads: reads, needs: m.needs, run: "go vet ./... && go test ./..."},
		step{name: p.prefix + "build", in: p.dir, reads: reads, needs: m.needs, run: "go build -o " + bin + " " + target, makes: []string{bin}}
	s.steps = append(s.steps, check, build)
	sv := service{name: "api", command: under(p.dir, bin), path: p.path, health: s.healthOf(p)}
	s.listening(p, &sv)
	s.files(p, &sv)
	s.services = append(s.services, sv)
	for _, other := range m.commands {
		s.decide("./"+under(p.dir, other), "is a program too; build it in a step, and write a service or a job for it, where it belongs to the app")
	}
}

// goReads are the folders that hold Go, so that what is beside them does not start the steps again; none where Go lies in the root.
func (s *survey) goReads(dir string) []string {
	if len(s.parts) == 1 {
		return nil
	}
	reads := []string{"go.mod"}
	if s.tree.has(under(dir, "go.sum")) {
		reads = append(reads, "go.sum")
	}
	for _, f := range s.tree.sorted {
		if path.Ext(f) != ".go" || !inside(f, dir) {
			continue
		}
		rel := strings.TrimPrefix(f, dir+"/")
		top, _, deep := strings.Cut(rel, "/")
		if !deep || s.embedsAbove(f) || !says(top, plainPath) {
			return nil
		}
		if !slices.Contains(reads, top) {
			reads = append(reads, top)
		}
	}
	return reads
}

// embedsAbove: what a site's step makes lies where another reads list would not look.
func (s *survey) embedsAbove(f string) bool {
	return len(s.parts) > 1 && s.parts[0].pkg != nil && inside(f, s.parts[0].dir) && s.parts[0].dir != "."
}

// files finds what a program reads beside itself: templates, pages, migrations.
func (s *survey) files(p *part, sv *service) {
	for _, folder := range []string{"templates", "views", "static", "public", "assets", "migrations", "web/templates", "web/static"} {
		if s.tree.folder(under(p.dir, folder)) && s.tree.says(p.dir, folder) && !s.tree.says(p.dir, "//go:embed "+folder) && !s.tree.says(p.dir, "//go:embed all:"+folder) {
			sv.files = append(sv.files, under(p.dir, folder))
		}
	}
	if p.dir != "." && len(sv.files) > 0 {
		sv.command = `sh -c "cd ` + p.dir + ` && exec ` + strings.TrimPrefix(sv.command, p.dir+"/") + `"`
	}
}

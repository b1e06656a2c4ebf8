package survey

import (
	"path"
	"slices"
	"strings"
)

// pages recognises a folder of pages that nothing builds.
func (s *survey) pages(api *part) *part {
	folders := []string{".", "public", "site", "www", "web", "docs", "html", "frontend", "client", "src", "static"}
	if api != nil { // what else there is may be served by the program itself
		folders = []string{"frontend", "client", "web", "site", "www"}
	}
	for _, dir := range folders {
		if !s.tree.has(under(dir, "index.html")) || api != nil && (api.dir == dir || s.tree.says(api.dir, `"`+dir) || s.tree.says(api.dir, "'"+dir)) {
			continue
		}
		if m := s.manifest(dir); m != nil && dir == "." {
			if name, _ := m.script("build"); name != "" {
				s.decide("package.json", "has a script build, of a tool that init does not know; the pages are served as they are in the commit")
			}
		}
		return &part{role: "site", dir: dir, kind: "Pages", why: under(dir, "index.html"), fit: fitting{static: dir}}
	}
	return nil
}

// webFiles are what a page may need, by their endings.
var webFiles = []string{".html", ".htm", ".css", ".js", ".mjs", ".json", ".svg", ".png", ".jpg", ".jpeg", ".gif", ".webp", ".avif", ".ico", ".woff", ".woff2", ".ttf", ".mp4", ".webm",
	".mp3", ".pdf", ".txt", ".xml", ".webmanifest", ".wasm"}

// notWeb are files of the root that are for people and tools.
var notWeb = map[string]bool{"package.json": true, "package-lock.json": true, "tsconfig.json": true, "composer.json": true, "requirements.txt": true, "README.txt": true, "LICENSE.txt": true}

// buildPages serves a folder as it is. Of the root only what a browser asks for is taken.
func (s *survey) buildPages(p *part) {
	if p.dir != "." && len(s.parts) > 1 { // where there are steps, one of them makes what is served
		s.steps = append(s.steps, step{name: "build", run: "cp -r " + p.dir + " dist", makes: []string{"dist"}})
		s.services = append(s.services, service{name: "site", static: "dist"})
		return
	}
	if p.dir != "." {
		s.services = append(s.services, service{name: "site", static: p.dir})
		return
	}
	out := "dist"
	if s.tree.folder("_site") {
		out = "www"
	}
	var endings, folders []string
	for _, f := range s.tree.sorted {
		top, _, deep := strings.Cut(f, "/")
		ending := strings.ToLower(path.Ext(f))
		if !slices.Contains(webFiles, ending) || strings.HasPrefix(top, ".") || deep && slices.Contains([]string{"supabase", "tests", "test", "scripts"}, top) || notWeb[f] {
			continue
		}
		switch {
		case deep && says(top, plainPath) && !slices.Contains(folders, top):
			folders = append(folders, top)
		case !deep && says(f, plainPath) && !slices.Contains(endings, "*"+path.Ext(f)):
			endings = append(endings, "*"+path.Ext(f))
		}
	}
	// A pattern would take what is not for everybody; such files are named one by one.
	var named []string
	for _, e := range endings {
		if e != "*.json" && e != "*.txt" && e != "*.xml" {
			named = append(named, e)
			continue
		}
		for _, f := range s.tree.sorted {
			if !strings.Contains(f, "/") && path.Ext(f) == e[1:] && !notWeb[f] && says(f, plainPath) {
				named = append(named, f)
			}
		}
	}
	run := "mkdir " + out + " && cp -r " + strings.Join(append(named, folders...), " ") + " " + out + "/"
	s.steps = append(s.steps, step{name: "build", run: run, makes: []string{out},
		notes: []string{"Copies what is for everybody. A new folder has to be named here."}})
	s.services = append(s.services, service{name: "site", static: out})
}

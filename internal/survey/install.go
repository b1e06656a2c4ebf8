package survey

import (
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// installOnce is the name of the step that installs the packages of a part. The parts of a workspace have one.
func (s *survey) installOnce(p *part, g manager) string {
	for _, st := range s.steps {
		if st.run == g.install && st.in == g.dir {
			return st.name
		}
	}
	st := s.installing(p, g)
	s.steps = append(s.steps, st)
	if g.lock != "" {
		s.tell(g.name, "%s: %s", under(g.dir, g.lock), g.install)
	}
	return st.name
}

// installing is the step that installs the packages of a part. Its reads are all that it depends on, so that it is run again only
// when they change.
func (s *survey) installing(p *part, g manager) step {
	st := step{name: p.prefix + "install", run: g.install, in: g.dir, reads: []string{"package.json"}, makes: s.installed(p, g)}
	if g.lock == "" {
		st.notes = append(st.notes, "There is no lock file: run npm install, commit package-lock.json, and write npm ci here. Then every build has the same packages.")
		s.decide("lock file", "%s has none, so two builds may get different packages; run `npm install` and commit package-lock.json", p.where())
	} else {
		st.reads = append(st.reads, g.lock)
	}
	for _, extra := range []string{".yarnrc", ".pnpmfile.cjs", "pnpm-workspace.yaml", ".yarn/releases", ".yarn/plugins", ".yarn/patches", "patches"} {
		if at := under(g.dir, extra); s.tree.has(at) || s.tree.folder(at) {
			st.reads = append(st.reads, extra)
		}
	}
	if s.tree.folder(under(p.dir, "prisma")) && p.pkg.uses("@prisma/client") {
		st.reads = append(st.reads, strings.TrimPrefix(under(p.dir, "prisma"), g.dir+"/"))
	}
	if g.shared {
		st.reads = append(st.reads, s.members(g)...)
	}
	if m := p.pkg; !g.shared && m != nil && len(m.Dependencies)+len(m.DevDependencies) == 0 {
		st.run += " && mkdir -p node_modules" // where there is nothing to install, nothing makes it
	}
	if hook := s.hook(p, g); hook != "" {
		st.reads = nil
		st.notes = append(st.notes, "The script "+hook+" may read anything, so this step is run again for every commit. reads would name what it needs.")
	}
	return st
}

var harmlessHook = regexp.MustCompile(`^(npx )?(husky( install)?|is-ci.*|lefthook install|simple-git-hooks|patch-package|prisma generate|nuxt prepare|svelte-kit sync|` +
	`nuxi prepare|next typegen)?( *\|\| *(true|echo ['"]{2}|:))?( *&& *(husky|patch-package|prisma generate))?$`)

// hook names a script that runs after an installation and whose inputs nobody knows.
func (s *survey) hook(p *part, g manager) string {
	of := p.pkg
	if g.shared {
		of = s.manifest(g.dir)
	}
	for _, name := range []string{"preinstall", "install", "postinstall", "prepare"} {
		if of != nil && !harmlessHook.MatchString(strings.TrimSpace(of.Scripts[name])) {
			return name
		}
	}
	return ""
}

// installed are the folders that an installation makes.
func (s *survey) installed(p *part, g manager) []string {
	all := []string{"node_modules"}
	if !g.shared {
		return all
	}
	switch g.name {
	case "npm":
		var lock struct{ Packages map[string]json.RawMessage }
		if data, err := s.tree.bytes(under(g.dir, g.lock)); err == nil && json.Unmarshal(data, &lock) == nil {
			for at := range lock.Packages {
				if i := strings.Index(at, "/node_modules/"); i > 0 && !strings.HasPrefix(at, "node_modules/") {
					all = append(all, at[:i]+"/node_modules")
				}
			}
		}
	case "pnpm":
		for _, file := range s.members(g) {
			dir := path.Dir(file)
			if m := s.manifest(under(g.dir, dir)); m != nil && len(m.Dependencies)+len(m.DevDependencies) > 0 {
				all = append(all, path.Join(dir, "node_modules"))
			}
		}
	default:
		s.decide("workspace", "yarn may install into folders of the workspace beside node_modules; add them to makes of %sinstall where it does", p.prefix)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// members are the package.json files of a workspace, relative to its folder.
func (s *survey) members(g manager) (all []string) {
	globs := s.workspaceGlobs(g.dir)
	for _, dir := range s.tree.with("package.json") {
		rel := strings.TrimPrefix(dir, g.dir+"/")
		if slices.ContainsFunc(globs, func(glob string) bool { return globMatches(glob, rel) }) {
			all = append(all, path.Join(rel, "package.json"))
		}
	}
	return all
}

func globMatches(glob, dir string) bool {
	glob = strings.TrimSuffix(strings.TrimPrefix(glob, "./"), "/")
	if folder, deep := strings.CutSuffix(glob, "/**"); deep {
		return inside(dir, folder)
	}
	ok, err := path.Match(glob, dir)
	return ok && err == nil
}

func (s *survey) workspaceGlobs(dir string) []string {
	var file struct{ Packages []string }
	if err := yaml.Unmarshal([]byte(s.tree.text(under(dir, "pnpm-workspace.yaml"))), &file); err == nil && len(file.Packages) > 0 {
		return file.Packages
	}
	m := s.manifest(dir)
	if m == nil || len(m.Workspaces) == 0 {
		return nil
	}
	if err := json.Unmarshal(m.Workspaces, &file.Packages); err == nil {
		return file.Packages
	}
	_ = json.Unmarshal(m.Workspaces, &file) // yarn's other way to write it; what is neither names no members
	return file.Packages
}

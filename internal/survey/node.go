package survey

import (
	"maps"
	"path"
	"regexp"
	"strings"
)

// nodePart recognises what a package.json is good for; nil: nothing that is deployed.
func (s *survey) nodePart(dir string) *part {
	if !says(dir, `^[\w./@-]+$`) {
		return nil
	}
	m := s.manifest(dir)
	if m == nil {
		return nil
	}
	for _, f := range frameworks() {
		if !m.uses(f.uses...) {
			continue
		}
		fit := f.fit(s, m)
		if fit.static == "" && fit.command == "" {
			continue
		}
		fit.kind = f.name + s.flavour(m, f.name)
		if fit.why == "" {
			fit.why = "its dependency " + f.uses[0]
		}
		return &part{role: "site", dir: dir, kind: fit.kind, why: fit.why, pkg: m, fit: fit}
	}
	return s.nodeServer(m)
}

// flavour names what a framework is used with.
func (s *survey) flavour(m *manifest, framework string) string {
	if framework != "Vite" && framework != "Astro" && framework != "Parcel" {
		return ""
	}
	for _, lib := range []struct{ dep, name string }{{"react", "React"}, {"vue", "Vue"}, {"svelte", "Svelte"}, {"preact", "Preact"}, {"solid-js", "Solid"}} {
		if m.uses(lib.dep) {
			return ", " + lib.name
		}
	}
	return ""
}

// serverPackages listen for requests.
var serverPackages = []string{"express", "fastify", "koa", "@nestjs/core", "hono", "@hono/node-server", "@hapi/hapi", "restify", "polka", "fastify-cli", "@feathersjs/feathers",
	"apollo-server", "@apollo/server", "socket.io", "ws", "sails", "@adonisjs/core", "h3", "nitropack", "json-server"}

func (s *survey) nodeServer(m *manifest) *part {
	kind := "Node.js"
	for _, p := range []struct{ dep, name string }{{"@nestjs/core", "NestJS"}, {"fastify", "Fastify"}, {"express", "Express"}, {"koa", "Koa"}, {"hono", "Hono"}, {"@hapi/hapi", "hapi"}} {
		if m.uses(p.dep) {
			kind = p.name
			break
		}
	}
	why, command := s.serverCommand(m)
	if command == "" {
		return nil
	}
	if !m.uses(serverPackages...) && !s.tree.says(m.dir, "createServer(") && !s.tree.says(m.dir, ".listen(") {
		if m.dir == "." && why != "" {
			s.decide("package.json", "has a start script, and nothing in it looks like a server; if it is one, write steps and a service for it")
		}
		return nil
	}
	fit := fitting{kind: kind, why: why, command: command, env: map[string]string{"NODE_ENV": "production"}}
	if _, build := m.script("build"); build != "" {
		fit.makes = s.builtBy(m, build)
		fit.typed = says(m.whole("build"), `\btsc\b|nest build`)
	}
	return &part{role: "api", dir: m.dir, kind: kind, why: why, pkg: m, fit: fit}
}

// serverCommand is how a server is started, seen from the root of the repository, and how that is known.
func (s *survey) serverCommand(m *manifest) (why, command string) {
	if command := s.startOf(m); command != "" {
		name, _ := startScriptOf(m)
		return "its script " + name, command
	}
	if name, _ := startScriptOf(m); name != "" {
		return "its script " + name, s.startScript(m, name)
	}
	main := s.tree.first(m.dir, "server.js", "app.js", "index.js", "src/index.js", "src/server.js", "server.mjs", "index.mjs")
	if named := path.Clean(m.Main); m.Main != "" && leads(named) && s.tree.has(under(m.dir, named)) {
		main = under(m.dir, named)
	}
	if main == "" || !says(main, plainPath) {
		return "", ""
	}
	return strings.TrimPrefix(main, m.dir+"/"), s.nodeIn(m.dir, main)
}

const plainPath = `^[\w./@-]+$`

// startScriptOf is the script that starts the server for good, not for somebody who works on it.
func startScriptOf(m *manifest) (name, runs string) {
	for _, n := range []string{"start:prod", "start:production", "start", "serve"} {
		if name, runs := m.script(n); name != "" && !says(runs, `\b(nodemon|ts-node-dev|nest start|--watch|tsx watch|concurrently|vite)\b`) {
			return name, runs
		}
	}
	return "", ""
}

var plainNode = regexp.MustCompile(`^(?:NODE_ENV=production +|cross-env NODE_ENV=production +)?node((?: +--[\w-]+(?:=[\w./-]+)?)*) +([\w./@-]+)$`)

// startOf is the start script without npm around it, where it is node and a file; else "".
func (s *survey) startOf(m *manifest) string {
	_, runs := startScriptOf(m)
	found := plainNode.FindStringSubmatch(runs)
	if found == nil || !leads(found[2]) {
		return ""
	}
	file := strings.TrimPrefix(found[2], "./")
	if m.dir == "." {
		return "node" + found[1] + " " + file
	}
	return `sh -c "cd ` + m.dir + ` && exec node` + found[1] + " " + file + `"`
}

func (s *survey) startScript(m *manifest, name string) string {
	run := "npm run " + name
	if name == "start" {
		run = "npm start"
	}
	if m.dir != "." {
		run = strings.Replace(run, "npm ", "npm --prefix "+m.dir+" ", 1)
	}
	return run
}

// nodeIn starts a file in its package's folder, where it looks for its own files.
func (s *survey) nodeIn(dir, file string) string {
	if dir == "." {
		return "node " + file
	}
	return `sh -c "cd ` + dir + ` && exec node ` + strings.TrimPrefix(file, dir+"/") + `"`
}

var startedFile = regexp.MustCompile(`(?:^| )node +(?:--\S+ +)*\.?/?([\w@-]+)(?:/|\.|$)`)

// builtBy is the folder that a server's build makes: where its start script looks, or what the build is told.
func (s *survey) builtBy(m *manifest, build string) []string {
	_, runs := startScriptOf(m)
	if found := startedFile.FindStringSubmatch(runs); found != nil && (made[found[1]] || !s.tree.folder(under(m.dir, found[1]))) && !s.tree.has(under(m.dir, found[1]+".js")) {
		return []string{found[1]}
	}
	out := setting(withoutComments(s.tree.text(under(m.dir, "tsconfig.json"))), "outDir")
	if out = orFolder(out, ""); out != "" && strings.Contains(build, "tsc") {
		return []string{out}
	}
	s.decide(under(m.dir, "package.json"), "has a build script, and init does not see which folder it makes; name it in makes of the step build")
	return nil
}

// buildNode writes the steps and the service of a package.
func (s *survey) buildNode(p *part) {
	g := s.manager(p.pkg)
	install := s.installOnce(p, g)
	s.checks(p, g, install)
	fit := p.fit
	build := step{name: p.prefix + "build", in: p.dir, needs: []string{install}, makes: fit.makes, notes: fit.notes}
	switch name, _ := p.pkg.script("build"); {
	case fit.build != "":
		build.run = fit.build
	case name != "":
		build.run = g.run(p.pkg, name)
	case fit.site() || len(fit.makes) > 0:
		build.run = "npm run build"
		s.decide(under(p.dir, "package.json"), "has no script build, which the step %s calls", build.name)
	}
	build.publics = s.publics(p)
	build.run = fit.before + build.run + fit.with + fit.after
	if len(fit.makes) > 0 {
		s.steps = append(s.steps, build)
	} else {
		build.publics = nil
	}
	if !p.carried {
		s.services = append(s.services, s.nodeService(p))
	}
	maps.Copy(s.env, fit.env)
}

func (s *survey) nodeService(p *part) service {
	if p.fit.site() {
		return service{name: "site", static: under(p.dir, p.fit.static), fallback: p.fit.fallback}
	}
	sv := service{name: p.role, command: p.fit.command, path: p.path, health: s.healthOf(p)}
	if p.role == "api" {
		s.listening(p, &sv)
	}
	return sv
}

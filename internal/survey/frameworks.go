package survey

import (
	"encoding/json"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// fitting is what a framework makes of a package: files to serve, or a program. Paths are relative to the folder of the package.
type fitting struct {
	kind, why string
	build     string // what makes it, where it is not the script build
	after     string // and what then has to be done
	before    string // variables for the build
	with      string // further arguments of the build script
	makes     []string
	static    string
	fallback  string
	command   string            // seen from the root of the repository
	env       map[string]string // for every stage
	prefixes  []string          // of variables that are baked into what is served
	typed     bool              // the build checks types, or needs more than tsc does
	notes     []string
}

func (f fitting) site() bool { return f.static != "" }

// framework recognises a package by a dependency.
type framework struct {
	name string
	uses []string
	fit  func(s *survey, m *manifest) fitting
}

// frameworks are asked in this order: those that build on others come before them.
func frameworks() []framework {
	return []framework{
		{"Next.js", []string{"next"}, (*survey).nextJS},
		{"Nuxt", []string{"nuxt", "nuxt3"}, (*survey).nuxt},
		{"SvelteKit", []string{"@sveltejs/kit"}, (*survey).svelteKit},
		{"Astro", []string{"astro"}, (*survey).astro},
		{"React Router", []string{"@react-router/dev"}, (*survey).reactRouter},
		{"Remix", []string{"@remix-run/dev"}, (*survey).reactRouter},
		{"Angular", []string{"@angular/core"}, (*survey).angular},
		{"Gatsby", []string{"gatsby"}, folder("public", "", "GATSBY_")},
		{"Create React App", []string{"react-scripts"}, (*survey).createReactApp},
		{"Vue CLI", []string{"@vue/cli-service"}, folder("dist", "index.html", "VUE_APP_")},
		{"Docusaurus", []string{"@docusaurus/core"}, folder("build", "")},
		{"Eleventy", []string{"@11ty/eleventy"}, folder("_site", "")},
		{"Vite", []string{"vite"}, (*survey).vite},
		{"Parcel", []string{"parcel"}, folder("dist", "")},
	}
}

// folder fits what always builds into the same folder.
func folder(out, fallback string, prefixes ...string) func(*survey, *manifest) fitting {
	return func(*survey, *manifest) fitting {
		return fitting{static: out, fallback: fallback, makes: []string{out}, prefixes: prefixes}
	}
}

// config is the text of the first of these files, without comments.
func (s *survey) config(m *manifest, base string) string {
	names := []string{}
	for _, ending := range []string{".ts", ".js", ".mjs", ".mts", ".cjs"} {
		names = append(names, base+ending)
	}
	return withoutComments(s.tree.text(s.tree.first(m.dir, names...)))
}

var comment = regexp.MustCompile(`(?s)/\*.*?\*/|(?m)(^|[\s;,{])//[^\n]*`)

func withoutComments(text string) string { return comment.ReplaceAllString(text, "$1") }

// setting is the text that a configuration gives a field; what is no plain text is not found.
func setting(text, field string) string {
	if m := regexp.MustCompile(`\b` + field + `['"]?\s*:\s*['"` + "`" + `]([^'"` + "`" + `\n$]*)['"` + "`" + `]`).FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}

func says(text, expr string) bool { return regexp.MustCompile(expr).MatchString(text) }

// orFolder is a folder that a configuration names, if a step could make it.
func orFolder(named, otherwise string) string {
	if named = path.Clean(named); named == "." || !leads(named) || !says(named, `^[\w./@-]+$`) {
		return otherwise
	}
	return named
}

// nextJS fits Next.js in its three ways: a program of its own files, next start, and files alone.
func (s *survey) nextJS(m *manifest) fitting {
	config := s.config(m, "next.config")
	out := orFolder(setting(config, "distDir"), ".next")
	f := fitting{prefixes: []string{"NEXT_PUBLIC_"}, typed: true}
	switch setting(config, "output") {
	case "export":
		if out == ".next" {
			out = "out"
		}
		f.why, f.static, f.makes = "output: 'export'", out, []string{out}
	case "standalone":
		f.why = "output: 'standalone'"
		home := path.Join(out, "standalone")
		at := path.Join(home, s.tracedFrom(m)) // where the app lies in it
		if s.tree.folder(under(m.dir, "public")) {
			f.after = " && cp -r public " + at + "/"
		}
		f.after += " && cp -r " + out + "/static " + at + "/" + out + "/"
		// A command that names what a step makes has a release of that alone; node and a file would take all packages along.
		server := at + "/server.js"
		f.after += " && sed -i '1i #!/usr/bin/env node' " + server + " && chmod +x " + server
		f.notes = []string{"server.js becomes a program that can be started by its name: then the release holds what is made here, and not all packages."}
		f.makes, f.command = []string{home}, under(m.dir, server)
		f.env = map[string]string{"HOSTNAME": "127.0.0.1"} // where it listens; else on every address of the machine
	default:
		f.why = "next start"
		f.after, f.makes = " && rm -rf "+out+"/cache", []string{out}
		f.command = "node node_modules/next/dist/bin/next start -H $HOST"
		if m.dir != "." {
			f.command = "npm --prefix " + m.dir + " exec -- next start -H $HOST"
		}
		f.notes = []string{"With output: 'standalone' in next.config the program is smaller and starts faster; run lotse init --print again then."}
	}
	if strings.Contains(config, "basePath") {
		s.decide("next.config", "sets basePath: the pages are at that path alone, and / answers 404")
	}
	return f
}

// tracedFrom is where Next.js puts the app into its standalone folder: it begins at the topmost lock file.
func (s *survey) tracedFrom(m *manifest) string {
	if m.dir != "." && s.tree.first(".", "package-lock.json", "pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb") != "" {
		return m.dir
	}
	return ""
}

func (s *survey) nuxt(m *manifest) fitting {
	_, build := m.script("build")
	f := fitting{makes: []string{".output"}, typed: true, command: "node " + under(m.dir, ".output/server/index.mjs")}
	config := s.config(m, "nuxt.config")
	if strings.Contains(build, "generate") || says(config, `\bssr\s*:\s*false`) || says(setting(config, "preset"), `static`) {
		f.command, f.static, f.fallback = "", ".output/public", "200.html"
		f.build = "npx nuxt generate"
	}
	return f
}

// svelteKit needs an adapter. The one that a new app has, adapter-auto, makes nothing on a machine of one's own.
func (s *survey) svelteKit(m *manifest) fitting {
	config := s.config(m, "svelte.config") + s.config(m, "vite.config")
	f := fitting{prefixes: []string{"PUBLIC_", "VITE_"}, typed: true, makes: []string{"build"}}
	if m.uses("@sveltejs/adapter-static") {
		f.why, f.static = "adapter-static", orFolder(setting(config, "pages"), "build")
		f.fallback, f.makes = setting(config, "fallback"), []string{f.static}
		return f
	}
	f.why = "adapter-node"
	f.command = "node " + under(m.dir, "build")
	// Without these it takes every form that is sent for one of another site.
	f.env = map[string]string{"PROTOCOL_HEADER": "x-forwarded-proto", "HOST_HEADER": "x-forwarded-host"}
	if !m.uses("@sveltejs/adapter-node") {
		f.why = "its dependency @sveltejs/kit"
		s.decide("svelte.config.js", "has no adapter that makes a program; run `npm install -D @sveltejs/adapter-node`, import adapter from it there, and commit: the build makes nothing to start before")
	}
	return f
}

func (s *survey) astro(m *manifest) fitting {
	config := s.config(m, "astro.config")
	out := orFolder(setting(config, "outDir"), "dist")
	f := fitting{prefixes: []string{"PUBLIC_"}, typed: true, makes: []string{out}}
	if base := setting(config, "base"); base != "" && base != "/" {
		s.decide("astro.config", "sets base: %q, so the pages look for their files there; take it away for a host of their own", base)
	}
	switch {
	case m.uses("@astrojs/node") && strings.Contains(config, "adapter"):
		f.why, f.command = "the adapter @astrojs/node", "node "+under(m.dir, out+"/server/entry.mjs")
		if says(config, `mode['"]?\s*:\s*['"]middleware`) {
			s.decide("astro.config", "has @astrojs/node in mode middleware, which starts no server by itself; mode: 'standalone' does")
		}
	default:
		f.static = out
		if setting(config, "output") == "server" {
			s.decide("astro.config", "has output: 'server'; for a server, run `npx astro add node` and lotse init again")
		}
	}
	return f
}

func (s *survey) reactRouter(m *manifest) fitting {
	f := fitting{prefixes: []string{"VITE_"}, typed: true, makes: []string{"build"}}
	if says(s.config(m, "react-router.config")+s.config(m, "vite.config"), `\bssr\s*:\s*false`) {
		f.why, f.static, f.fallback = "ssr: false", "build/client", "index.html"
		return f
	}
	f.command = s.startOf(m)
	if f.command == "" {
		f.command = s.startScript(m, "start")
	}
	return f
}

// angular finds the project's output, which is in a folder browser since version 17.
func (s *survey) angular(m *manifest) fitting {
	var file struct {
		DefaultProject string
		Projects       map[string]struct {
			ProjectType string
			Architect   struct {
				Build struct {
					Builder string
					Options struct {
						OutputPath json.RawMessage
						SSR        json.RawMessage
					}
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(s.tree.text(under(m.dir, "angular.json"))), &file); err != nil {
		return fitting{}
	}
	for _, name := range slices.Sorted(maps.Keys(file.Projects)) {
		p := file.Projects[name]
		if p.ProjectType == "library" || !says(name, `^[\w.-]+$`) {
			continue
		}
		out := "dist/" + name
		var text string
		var parts struct{ Base, Browser string }
		switch o := p.Architect.Build.Options.OutputPath; {
		case json.Unmarshal(o, &text) == nil:
			out = orFolder(text, out)
		case json.Unmarshal(o, &parts) == nil:
			out = orFolder(parts.Base, out)
		}
		f := fitting{why: "angular.json", typed: true, makes: []string{out}, static: out + "/browser", fallback: "index.html"}
		if strings.HasSuffix(p.Architect.Build.Builder, ":browser") {
			f.static = out
		}
		if ssr := string(p.Architect.Build.Options.SSR); ssr != "" && ssr != "false" && ssr != "null" {
			f.static, f.fallback, f.command = "", "", "node "+under(m.dir, out+"/server/server.mjs")
		}
		return f
	}
	return fitting{}
}

// createReactApp takes every warning for an error where CI is set.
func (s *survey) createReactApp(*manifest) fitting {
	return fitting{static: "build", fallback: "index.html", makes: []string{"build"}, prefixes: []string{"REACT_APP_"}, before: "CI=false ", typed: true}
}

// vite fits what is built into a folder. A package that starts a server of its own beside Vite is no site.
func (s *survey) vite(m *manifest) fitting {
	config := s.config(m, "vite.config")
	if s.startOf(m) != "" && m.uses(serverPackages...) {
		return fitting{}
	}
	root := orFolder(setting(config, "root"), ".")
	out := orFolder(path.Join(root, setting(config, "outDir")), path.Join(root, "dist"))
	if setting(config, "outDir") == "" {
		out = path.Join(root, "dist")
	}
	if !s.tree.has(under(m.dir, path.Join(root, "index.html"))) && !strings.Contains(config, "input") || says(config, `\blib\s*:`) {
		return fitting{} // a library, or tests alone
	}
	f := fitting{static: out, makes: []string{out}, prefixes: []string{"VITE_"}}
	name, script := m.script("build")
	if base := setting(config, "base"); base != "" && base != "/" && !strings.HasPrefix(base, ".") {
		if name != "" && strings.HasSuffix(script, "vite build") {
			f.with = " -- --base=/"
			f.notes = append(f.notes, "vite.config has base "+oneLine(base)+"; here the pages have a host of their own.")
		} else {
			s.decide("vite.config", "sets base: %q, so the pages look for their files there; here they have a host of their own", base)
		}
	}
	f.typed = says(m.whole(name), `\b(vue-)?tsc\b`) || m.uses("vue", "svelte", "@vitejs/plugin-vue")
	if m.uses("react", "vue", "svelte", "preact", "solid-js", "lit", "@builder.io/qwik") {
		f.fallback = "index.html"
	}
	if name == "" {
		f.build = "npx vite build"
	}
	return f
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

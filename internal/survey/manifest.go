package survey

import (
	"encoding/json"
	"path"
	"regexp"
	"slices"
	"strings"
)

// manifest is what a package.json says, as far as it matters here.
type manifest struct {
	dir string

	Name            string            `json:"name"`
	Main            string            `json:"main"`
	PackageManager  string            `json:"packageManager"`
	Scripts         map[string]string `json:"scripts"`
	Dependencies    map[string]string `json:"dependencies"`
	DevDependencies map[string]string `json:"devDependencies"`
	Workspaces      json.RawMessage   `json:"workspaces"`
}

// manifest reads a package.json. One that nobody can read is like none.
func (s *survey) manifest(dir string) *manifest {
	m := &manifest{dir: dir}
	file := under(dir, "package.json")
	if err := json.Unmarshal([]byte(s.tree.text(file)), m); err != nil {
		if s.tree.has(file) {
			s.decide(file, "is not JSON that can be read")
		}
		return nil
	}
	return m
}

func (m *manifest) uses(names ...string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return m.version(n) != "" })
}

// version is the range in which a dependency is wanted; "" where it is none.
func (m *manifest) version(name string) string {
	for _, of := range []map[string]string{m.Dependencies, m.DevDependencies} {
		if v, is := of[name]; is {
			return v + " "
		}
	}
	return ""
}

var firstNumber = regexp.MustCompile(`\d+`)

// major is the first number in the range of a dependency; 0 where there is none.
func (m *manifest) major(name string) (n int) {
	for _, digit := range firstNumber.FindString(m.version(name)) {
		n = min(n*10+int(digit-'0'), 1<<20)
	}
	return n
}

var plainScript = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9:._-]*$`)

// script returns the first of these scripts that is there, and what it runs.
func (m *manifest) script(names ...string) (name, runs string) {
	for _, n := range names {
		if runs := strings.TrimSpace(m.Scripts[n]); runs != "" && plainScript.MatchString(n) {
			return n, runs
		}
	}
	return "", ""
}

var calledScript = regexp.MustCompile(`\b(?:npm run|npm-run-all|run-s|run-p|pnpm(?: run)?|yarn(?: run)?|bun run)((?: +[\w:*./-]+)+)`)

// whole is what a script runs, with the scripts that it calls.
func (m *manifest) whole(name string) string {
	text, seen := "", map[string]bool{}
	var add func(name string)
	add = func(name string) {
		if seen[name] {
			return
		}
		seen[name] = true
		text += " " + m.Scripts[name]
		for _, call := range calledScript.FindAllStringSubmatch(m.Scripts[name], -1) {
			for word := range strings.FieldsSeq(call[1]) {
				for other := range m.Scripts {
					if ok, _ := path.Match(word, other); ok {
						add(other)
					}
				}
			}
		}
	}
	add(name)
	return text
}

// manager is what installs the packages of a part, and runs its scripts.
type manager struct {
	name    string // npm, pnpm, yarn
	dir     string // where its lock file lies; what it installs is for this folder and below
	lock    string // "" where there is none
	call    string // how it is called
	install string
	shared  bool // the folder is a workspace: it holds more than the part
}

var exactManager = regexp.MustCompile(`^(npm|pnpm|yarn|bun)@(\d+\.\d+\.\d+[\w.-]*)`)

// manager finds the lock file of a package: beside it, or above it where the repository is a workspace.
func (s *survey) manager(m *manifest) manager {
	for dir := m.dir; ; dir = path.Dir(dir) {
		shared := dir != m.dir
		if !shared || s.workspace(dir) {
			if file := s.tree.first(dir, "package-lock.json", "npm-shrinkwrap.json", "pnpm-lock.yaml", "yarn.lock"); file != "" {
				return s.managerOf(m, file, shared)
			}
		}
		if dir == "." {
			break
		}
	}
	none := manager{name: "npm", dir: m.dir, call: "npm", install: "npm install"}
	if m.dir != "." && s.workspace(".") {
		none.dir, none.shared = ".", true
	}
	return none
}

func (s *survey) workspace(dir string) bool {
	root := s.manifest(dir)
	return root != nil && len(root.Workspaces) > 0 || s.tree.has(under(dir, "pnpm-workspace.yaml"))
}

func (s *survey) managerOf(m *manifest, lock string, shared bool) manager {
	found := manager{dir: path.Dir(lock), lock: path.Base(lock), shared: shared}
	wanted := m.PackageManager
	if top := s.manifest(found.dir); shared && top != nil {
		wanted = top.PackageManager
	}
	exact := exactManager.FindStringSubmatch(wanted)
	version := func(name, otherwise string) string {
		if exact != nil && exact[1] == name {
			return exact[2]
		}
		return otherwise
	}
	switch found.lock {
	case "pnpm-lock.yaml":
		found.name, found.call = "pnpm", "npx --yes pnpm@"+version("pnpm", pnpmOf(s.tree.text(lock)))
		found.install = found.call + " install --frozen-lockfile"
	case "yarn.lock":
		found.name = "yarn"
		s.yarn(&found, s.tree.text(lock), version)
	default:
		found.name, found.call, found.install = "npm", "npm", "npm ci"
	}
	return found
}

// pnpmOf is the version of pnpm that reads a lock file.
func pnpmOf(lock string) string {
	if regexp.MustCompile(`(?m)^lockfileVersion: *['"]?[0-5]\b`).MatchString(lock) {
		return "7"
	}
	if regexp.MustCompile(`(?m)^lockfileVersion: *['"]?6\b`).MatchString(lock) {
		return "8"
	}
	return "10"
}

// yarn tells yarn 1 from its successors, whose lock file has a field __metadata. Without a node_modules folder nothing but yarn
// could run what was installed, so the linker that makes one is asked for.
func (s *survey) yarn(of *manager, lock string, version func(name, otherwise string) string) {
	if !strings.Contains(lock, "__metadata:") {
		of.call = "npx --yes yarn@" + version("yarn", "1")
		of.install = of.call + " install --frozen-lockfile"
		return
	}
	settings := s.tree.text(under(of.dir, ".yarnrc.yml"))
	of.call = "npx --yes @yarnpkg/cli-dist@" + version("yarn", "4")
	if own := regexp.MustCompile(`(?m)^yarnPath: *["']?([\w./-]+\.c?js)\b`).FindStringSubmatch(settings); own != nil && s.tree.has(under(of.dir, own[1])) {
		of.call = "node " + path.Clean(own[1])
	}
	of.install = of.call + " install --immutable"
	if !strings.Contains(settings, "nodeLinker: node-modules") {
		of.install = "YARN_NODE_LINKER=node-modules " + of.install
	}
}

// run is how a script is run. npm runs those of every manager, unless they call theirs themselves.
func (g manager) run(m *manifest, script string) string {
	if g.name != "npm" && regexp.MustCompile(`\b`+g.name+`\b`).MatchString(m.whole(script)) && !strings.HasPrefix(g.call, "node ") {
		return g.call + " run " + script
	}
	if script == "test" || script == "start" {
		return "npm " + script
	}
	return "npm run " + script
}

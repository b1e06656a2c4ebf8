package survey

import (
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Variables, as sources name them.
var (
	bakedName = regexp.MustCompile(`(?:import\.meta\.env|process\.env)(?:\.|\[["'])([A-Z][A-Z0-9_]*)`)
	// withDefault is a variable whose absence the code expects. An empty value is not absent: it would take the default's place.
	withDefault = regexp.MustCompile(`(?:import\.meta\.env|process\.env)(?:\.|\[["'])([A-Z][A-Z0-9_]*)(?:["']\])?\s*(?:\?\?|===? *undefined|!==? *undefined)`)
	svelteName  = regexp.MustCompile(`import\s*\{([^}]*)\}\s*from\s*['"]\$env/static/public['"]`)
	nodeName    = regexp.MustCompile(`process\.env(?:\.|\[["'])([A-Z][A-Z0-9_]*)`)
	goName      = regexp.MustCompile(`(?:os\.(?:Getenv|LookupEnv)\(|env:)"([A-Z][A-Z0-9_]*)`)
	lineName    = regexp.MustCompile(`(?m)^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=`)
)

// publics are the variables that a build bakes into what everybody may read, by their prefix. Each gets an empty value on dev,
// since a deploy is refused where one is missing; the other stages are to be given theirs, and say so.
func (s *survey) publics(p *part) []string {
	if len(p.fit.prefixes) == 0 {
		return nil
	}
	baked := func(name string) bool {
		return slices.ContainsFunc(p.fit.prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
	}
	names := slices.DeleteFunc(s.tree.finds(p.dir, bakedName, scripts()...), func(n string) bool { return !baked(n) })
	for _, list := range s.tree.finds(p.dir, svelteName, scripts()...) {
		for n := range strings.FieldsFuncSeq(list, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }) {
			if baked(n) && says(n, `^\w+$`) && !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	for _, file := range []string{".env", ".env.production"} { // committed: the build reads them itself
		file = under(p.dir, file)
		if !s.facts.Git.Tracked[file] {
			continue
		}
		given := namesIn(s.tree.text(file))
		names = slices.DeleteFunc(names, func(n string) bool { return slices.Contains(given, n) })
	}
	optional := s.tree.finds(p.dir, withDefault, scripts()...)
	var left []string
	names = slices.DeleteFunc(names, func(n string) bool {
		if slices.Contains(optional, n) {
			left = append(left, n)
			return true
		}
		return false
	})
	if len(left) > 0 {
		s.decide("public", "the code has a default for %s; add the names to public of the step build, and values to the stages, where it is not the right one", listed(left))
	}
	for _, n := range names {
		s.env[n] = ""
		s.envNote = "What is empty on dev is baked into its pages; the other stages refuse a release until they have values (lotse env set)."
	}
	if len(names) > 0 {
		s.decide("env", "write the values of %s at the stages; on dev they stand empty, the others refuse a release until they have them", listed(names))
	}
	return names
}

// namesIn are the names of the variables of a .env file, without their values.
func namesIn(text string) (names []string) {
	for _, m := range lineName.FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
	}
	return names
}

// listed is a list for people, and short.
func listed(names []string) string {
	const shown = 8
	if len(names) > shown {
		names = append(slices.Clone(names[:shown]), "and more")
	}
	return strings.Join(names, ", ")
}

// notSecret are variables that programs read and that nobody has to set for Lotse.
var notSecret = regexp.MustCompile(`^(PORT|HOST|HOSTNAME|NODE_ENV|CI|HOME|PATH|PWD|TMPDIR|TZ|LANG|USER|SHELL|DEBUG|EDITOR|NO_COLOR|DATABASE_URL|` +
	`BASE_URL|MODE|PROD|DEV|SSR|ENV|APP_ENV|GO_ENV|GIN_MODE|LOG_LEVEL|ANALYZE|NEXT_RUNTIME|NEXT_PHASE|GOOGLE_APPLICATION_CREDENTIALS)$|` +
	`^(npm_|LOTSE_|VERCEL|NETLIFY|RENDER|HEROKU|FLY_|RAILWAY|GITHUB_|VITEST|JEST|PLAYWRIGHT|TEST_|__)|^(VITE_|NEXT_PUBLIC_|PUBLIC_|REACT_APP_|NUXT_PUBLIC_|GATSBY_|VUE_APP_)`)

// environment finds what the programs read, and the .env files beside them.
func (s *survey) environment() {
	var names []string
	for _, p := range s.parts {
		if p.fit.site() || p.pkg == nil && p.mod == nil {
			continue
		}
		names = append(names, s.tree.finds(p.dir, nodeName, scripts()...)...)
		if p.mod != nil {
			names = append(names, s.tree.finds(p.dir, goName, ".go")...)
		}
	}
	slices.Sort(names)
	s.secrets = slices.Compact(slices.DeleteFunc(names, notSecret.MatchString))
	if len(s.secrets) > 0 {
		s.tell("variables", "the programs read %s", listed(s.secrets))
	}
	s.envFiles()
}

// envFiles gives the first stage the .env of this machine, where it is one: not in git, and nothing in it that is Lotse's to say.
func (s *survey) envFiles() {
	for name := range s.facts.Git.Tracked {
		if path.Base(name) == ".env" && (hasSecret(s.tree.text(name)) || len(s.parts) > 0 && !s.parts[0].fit.site()) {
			warning := Note{"WARNING", name + " is in git: what is secret in it is known to everybody who has a clone. Change those secrets, then `git rm --cached " + name + "` and add it to .gitignore"}
			s.decisions = slices.Insert(s.decisions, 0, warning)
		}
	}
	at := ""
	for _, p := range append([]*part{{dir: "."}}, s.parts...) {
		if file := under(p.dir, ".env"); at == "" && s.tree.has(file) && !s.facts.Git.Tracked[file] {
			at = file
		}
	}
	if at == "" {
		if example := s.tree.first(".", ".env.example", ".env.sample", ".env.template"); example != "" {
			s.tell(example, "a file .env beside it would be for dev: env_file: .env")
		}
		return
	}
	s.envFile = at
	s.tell(at, "its variables are for dev alone; it is not in git")
	for _, n := range namesIn(s.tree.text(at)) {
		if rest, _ := deploy.VariableProblem(n); rest != "" {
			s.envFile = "# " + at
			s.decide(at, "has %s, which %s; take it out, then write env_file: %s at dev", n, rest, at)
		}
	}
}

var secretName = regexp.MustCompile(`(?m)^\s*(?:export\s+)?\w*(SECRET|PASSWORD|PASSWD|TOKEN|PRIVATE|API_KEY|DATABASE_URL|SERVICE_ROLE)\w*\s*=\s*\S`)

// hasSecret reports whether a .env file has something that is likely to be one, beside what is baked into pages anyhow.
func hasSecret(text string) bool {
	for line := range strings.Lines(text) {
		if secretName.MatchString(line) && !says(line, `^\s*(export\s+)?(VITE_|NEXT_PUBLIC_|PUBLIC_|REACT_APP_)`) {
			return true
		}
	}
	return false
}

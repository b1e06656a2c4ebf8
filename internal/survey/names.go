package survey

import (
	"regexp"
	"strings"
)

// nameless are names that tools give, or that say what a folder is and not whose.
var nameless = map[string]bool{"vite-project": true, "vite-react-typescript-starter": true, "vite-react-shadcn-ts": true, "my-app": true, "my-project": true, "app": true, "web": true,
	"frontend": true, "client": true, "backend": true, "server": true, "api": true, "root": true, "monorepo": true, "site": true, "nuxt-app": true, "main": true, "rest-express": true}

// name is what the app is called: by its package, its module, or its folder.
func (s *survey) name() string {
	var all []string
	if m := s.manifest("."); m != nil {
		all = append(all, m.Name)
	}
	for _, p := range s.parts {
		if p.mod != nil && p.dir == "." {
			all = append(all, lastOf(p.mod.path))
		}
	}
	for _, n := range append(all, s.facts.Folder) {
		if n = label(n); n != "" && !nameless[n] {
			return n
		}
	}
	for _, n := range append(all, s.facts.Folder) {
		if n = label(n); n != "" {
			return n
		}
	}
	return "app"
}

var noLabel = regexp.MustCompile(`[^a-z0-9]+`)

// label makes a name that hosts may have (RFC 1123 §2.1), with room for what stands before it; "" where nothing is left.
func label(name string) string {
	if _, rest, scoped := strings.Cut(name, "/"); scoped && strings.HasPrefix(name, "@") {
		name = rest
	}
	name = noLabel.ReplaceAllString(strings.ToLower(name), "-")
	return strings.Trim(name[:min(len(name), 50)], "-")
}

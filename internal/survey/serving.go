package survey

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// How programs ask for their port, and how one is written down.
var (
	nodeAsksPort  = regexp.MustCompile(`\benv\.PORT\b|["']PORT["']|\bPORT\s*:\s*[a-z]|[{,]\s*PORT\b[^}]*\}\s*=\s*process\.env`)
	nodeFixedPort = regexp.MustCompile(`\.listen\(\s*(\d{2,5})\b|\b(?:port|PORT)\s*[:=]\s*(\d{2,5})\b`)
	goAsksPort    = regexp.MustCompile(`"PORT\b|\.Run\(\)`) // gin's Run asks for it where it is given nothing
	goFixedPort   = regexp.MustCompile(`"[\w.]*:(\d{2,5})"|\bport\s*:?=\s*"?:?(\d{2,5})\b`)
)

// listening says so where a program does not look at PORT: requests come to the port that Lotse gives it.
func (s *survey) listening(p *part, sv *service) {
	endings, asks, fixed := scripts(), nodeAsksPort, nodeFixedPort
	if p.mod != nil {
		endings, asks, fixed = []string{".go"}, goAsksPort, goFixedPort
	}
	var port, where string
	for _, f := range s.tree.sources(p.dir, endings...) {
		text := withoutComments(s.tree.text(f))
		if asks.MatchString(text) {
			return
		}
		if m := fixed.FindStringSubmatch(text); m != nil && port == "" {
			port, where = strings.Join(m[1:], ""), f
		}
	}
	if p.pkg != nil && (says(p.pkg.whole("start"), `\bPORT\b|fastify start`) || port == "" && !strings.Contains(sv.command, "node ")) {
		return // what the script starts knows PORT
	}
	what := "Nothing here reads PORT. Lotse gives every instance a port of its own in PORT, at 127.0.0.1 (HOST): the program has to listen there."
	if port != "" {
		what = where + " listens on port " + port + ", whatever PORT says. Lotse gives every instance a port of its own in PORT: the program has to listen there."
	}
	sv.notes = append(sv.notes, what)
	s.decide("PORT", "%s", what)
}

// A route is certain to be the whole path where nothing is mounted below another path.
var (
	healthRoute = regexp.MustCompile(`\b(?:app|server|fastify|http|mux|router|r|e|g)\.(?:get|GET|Get|use|all|route|Handle|HandleFunc)\(\s*["'` + "`" +
		`](?:GET )?(/(?:api/)?(?:health|healthz|healthcheck|livez|readyz|ping))["'` + "`" + `]`)
	// Go's own pattern with its method, wherever it is handed on to the mux.
	wholeRoute = regexp.MustCompile(`["` + "`" + `]GET (/api/(?:health|healthz|healthcheck|livez|readyz|ping))["` + "`" + `]`)
	mounting   = regexp.MustCompile(`\.Group\(|\.Route\(|\.Mount\(|\bprefix\s*:|setGlobalPrefix|basePath\(|\.use\(\s*['"]/\w|\bRouter\(|StripPrefix`)
)

// healthOf is a path that answers when the program is well; "" where none is certain.
func (s *survey) healthOf(p *part) string {
	if at := s.healthFile(p); at != "" {
		return at
	}
	endings := scripts()
	if p.mod != nil {
		endings = []string{".go"}
	}
	routes := s.tree.finds(p.dir, healthRoute, endings...)
	if p.mod != nil {
		if whole := s.tree.finds(p.dir, wholeRoute, endings...); len(whole) > 0 {
			return whole[0]
		}
	}
	if len(routes) == 0 {
		return ""
	}
	mounts := slices.ContainsFunc(s.tree.sources(p.dir, endings...), func(f string) bool { return mounting.MatchString(s.tree.text(f)) })
	if mounts && !strings.HasPrefix(routes[0], "/api/") {
		s.decide("health", "there is a route %s; if that is its whole path, write health: %s at the service", routes[0], routes[0])
		return ""
	}
	return routes[0]
}

// healthFile is a route that a framework makes of a file's place.
func (s *survey) healthFile(p *part) string {
	for _, name := range []string{"health", "healthz"} {
		for _, ending := range []string{".ts", ".js", ".tsx", ".mjs"} {
			places := []string{"app/api/" + name + "/route", "src/app/api/" + name + "/route", "pages/api/" + name, "src/pages/api/" + name, "server/api/" + name, "server/api/" + name + ".get"}
			for _, at := range places {
				if s.tree.has(under(p.dir, at+ending)) && p.role == "site" {
					return path.Join("/api", name)
				}
			}
		}
	}
	return ""
}

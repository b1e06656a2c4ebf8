package survey

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// text is the file, in the shape in which people write it.
func (s *survey) text() string {
	var b strings.Builder
	line := func(parts ...string) { b.WriteString(strings.Join(parts, "") + "\n") }
	line("# Written by lotse init. lotse check finds mistakes; docs/lotse-yaml.md has every field.")
	line("app: ", scalar(s.app))
	if len(s.steps) > 0 {
		line("\npipeline:")
	}
	for _, st := range s.steps {
		comments(line, st.notes)
		line("  ", off(st.off), st.name, ": ", st.line())
	}
	line("\nservices:")
	for _, sv := range s.services {
		comments(line, sv.notes)
		line("  ", sv.name, ": ", sv.line())
	}
	if s.database != "" {
		line("")
		for _, n := range s.dbNotes {
			line("# ", n)
		}
		line(off(s.dbOff), "database: ", s.database)
	}
	if len(s.secrets) > 0 {
		const most = 8
		line("\n# Variables that the code reads. Those that every stage must have before it starts:")
		line("# secrets: [", strings.Join(s.secrets[:min(most, len(s.secrets))], ", "), "]")
	}
	line("\nstages:")
	if s.envNote != "" {
		line("  # ", s.envNote)
	}
	line("  # With on: push main at dev, what is pushed to main comes there by itself.")
	for _, stage := range []string{"dev", "staging", "prod"} {
		s.stage(line, stage)
	}
	return b.String()
}

func comments(line func(...string), notes []string) {
	for _, n := range notes {
		line("  # ", n)
	}
}

func off(is bool) string {
	if is {
		return "# "
	}
	return ""
}

// stage writes one stage: on a line where that is short.
func (s *survey) stage(line func(...string), name string) {
	host := s.app + ".localhost"
	if name != "prod" {
		host = name + "." + host
	}
	fields := []string{"url: https://" + host}
	if file, isOff := strings.CutPrefix(s.envFile, "# "); name == "dev" && isOff {
		line("  # dev may have env_file: ", file, ", once PORT and HOST are taken out of it: Lotse sets them itself.")
	} else if name == "dev" && s.envFile != "" {
		fields = append(fields, "env_file: "+scalar(file))
	}
	var env []string
	for _, n := range slices.Sorted(maps.Keys(s.env)) {
		if s.env[n] == "" && name != "dev" {
			continue // an empty page on prod would be seen by nobody but its users
		}
		env = append(env, n+": "+scalar(s.env[n]))
	}
	if len(env) > 0 {
		fields = append(fields, "env: { "+strings.Join(env, ", ")+" }")
	}
	if name == "dev" {
		fields = append(fields, "watch: 10s")
	}
	if short := strings.Join(fields, ", "); len(short) < 130 {
		line("  ", name, ": { ", short, " }")
		return
	}
	line("  ", name, ":")
	for _, f := range fields {
		line("    ", f)
	}
}

func (st step) line() string {
	in := st.in
	if in == "." {
		in = ""
	}
	return flow("run", scalar(st.run), "in", scalar(in), "reads", list(st.reads), "needs", list(st.needs), "public", list(st.publics), "makes", list(st.makes))
}

func (sv service) line() string {
	path := sv.path
	if sv.static != "" && path == "/" {
		path = ""
	}
	return flow("static", scalar(sv.static), "fallback", scalar(sv.fallback), "command", scalar(sv.command), "path", scalar(path), "health", scalar(sv.health), "files", list(sv.files))
}

// flow is a mapping on one line. What is empty is left out.
func flow(of ...string) string {
	var fields []string
	for pair := range slices.Chunk(of, 2) {
		if pair[1] != "" && pair[1] != `""` {
			fields = append(fields, pair[0]+": "+pair[1])
		}
	}
	return "{ " + strings.Join(fields, ", ") + " }"
}

func list(of []string) string {
	if len(of) == 0 {
		return ""
	}
	var all []string
	for _, word := range of {
		all = append(all, scalar(word))
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// plainText is what YAML takes for text in a flow mapping without quotes, and nobody for anything else.
var (
	plainText = regexp.MustCompile(`^[A-Za-z./_][\w ./@$=&+~;<()-]*(:[\w./@-][\w ./@$=&+~-]*)*$`)
	notText   = regexp.MustCompile(`(?i)^(true|false|yes|no|on|off|null|y|n|\.inf|\.nan|[-+.]?[0-9].*)$| $`)
)

// scalar is a text as YAML reads it back. Double quotes in YAML are those of JSON, and more.
func scalar(text string) string {
	if plainText.MatchString(text) && !notText.MatchString(text) {
		return text
	}
	if !strings.ContainsAny(text, "'\n") && strings.Contains(text, `"`) {
		return "'" + text + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(text) + `"`
}

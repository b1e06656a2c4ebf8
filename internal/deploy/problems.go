package deploy

import (
	"fmt"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Problems returns everything that is wrong with the app, in the order of the parts of App. It asks nobody else: an app without
// problems may still lack a file in its commit. What may not be is written here once, for every way in which an App can be made.
func (a App) Problems() []Problem {
	c := &checker{app: a}
	c.label([]string{"app"}, a.Name)
	c.steps()
	c.services()
	c.jobs()
	c.volumes()
	c.secrets()
	c.leaks()
	c.source()
	c.notices()
	c.databases()
	c.people()
	c.stages()
	c.gates()
	c.aws()
	return c.found
}

// checker collects problems.
type checker struct {
	app   App
	found []Problem
}

// report adds a problem. The message begins with the field; rest goes on from there: "must be …".
func (c *checker) report(at []string, hint, rest string, args ...any) {
	c.found = append(c.found, Problem{Path: slices.Clone(at), Message: FieldName(at) + " " + fmt.Sprintf(rest, args...), Hint: hint})
}

// reportName adds a problem with a name.
func (c *checker) reportName(at []string, hint, rest string, args ...any) {
	c.report(at, hint, rest, args...)
	c.found[len(c.found)-1].Name = len(at) > 1
}

// FieldName writes the path of a field as people read it: services.api.files[0].
func FieldName(at []string) string {
	var name strings.Builder
	for i, part := range at {
		if _, err := strconv.Atoi(part); err == nil && i > 0 {
			name.WriteString("[" + part + "]")
			continue
		}
		if i > 0 {
			name.WriteByte('.')
		}
		name.WriteString(part)
	}
	return name.String()
}

func field(at []string, more ...string) []string { return slices.Concat(at, more) }

func item(at []string, name string, i int) []string { return field(at, name, strconv.Itoa(i)) }

// Labels are names in DNS (RFC 1123 §2.1), in lower case: names of parts become parts of host names and of file names.
var labelPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)

func validLabel(s string) bool { return len(s) <= 63 && labelPattern.MatchString(s) }

func (c *checker) label(at []string, name string) {
	switch {
	case name == "" && len(at) == 1:
		c.report(at, "it names the app, on every stage", "is missing")
	case !validLabel(name):
		c.reportName(at, `for example "shop" or "web-2"`, "must be named with at most 63 small letters, digits and hyphens, and neither begin nor end with a hyphen")
	}
}

// between checks a duration that was given or filled in.
func (c *checker) between(at []string, d, least, most time.Duration) {
	if d < least || d > most {
		c.report(at, "", "must be between %s and %s", shortDuration(least), shortDuration(most))
	}
}

// shortDuration writes 1h0m0s as 1h.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// inCheckout checks a path that is relative to the folder in. It may not leave the checkout.
func (c *checker) inCheckout(at []string, in, p string) {
	switch {
	case p == "":
		c.report(at, "", "must not be empty")
	case strings.ContainsAny(p, "\\\x00"):
		c.report(at, "write folders with /", "must be a path with slashes")
	case path.IsAbs(p):
		c.report(at, "write it relative to the checkout", "must not be an absolute path")
	case outside(path.Join(in, p)):
		c.report(at, "the commit is all that a pipeline sees; put what it needs into the repository", "must stay in the checkout")
	case path.Clean(p) != p:
		c.report(at, "write "+path.Clean(p), "must be written without detours")
	}
}

func outside(p string) bool { return p == ".." || strings.HasPrefix(p, "../") }

// overlap reports whether one path is the other, or lies in it.
func overlap(a, b string) bool { return a == b || under(a, b) || under(b, a) }

func under(p, folder string) bool { return folder == "." || strings.HasPrefix(p, folder+"/") }

func (c *checker) services() {
	root := []string{"services"}
	if len(c.app.Services) == 0 {
		c.report(root, "for example: services: { web: { command: bin/web, path: / } }", "must have at least one service")
	}
	names, paths := map[string]bool{}, map[string]string{}
	for _, s := range c.app.Services {
		at := field(root, s.Name)
		c.label(at, s.Name)
		if names[s.Name] {
			c.report(at, "", "is there twice")
		}
		names[s.Name] = true
		c.service(at, s)
		if other, taken := paths[s.Path]; taken && s.Path != "" {
			c.report(field(at, "path"), "every path goes to one service; give one of them a longer path", "must not be %q, which service %q answers", s.Path, other)
			continue
		}
		paths[s.Path] = s.Name
	}
}

func (c *checker) service(at []string, s Service) {
	switch {
	case s.Static == "" && s.Command == "":
		c.report(at, "static: a folder of files to serve; command: a program to run", "must have either static or command")
	case s.Static != "" && s.Command != "":
		c.report(at, "make two services of it", "must have either static or command, not both")
	case s.Static != "":
		c.static(at, s)
	default:
		c.program(at, s)
	}
	if s.Path != "" {
		c.urlPath(field(at, "path"), s.Path)
	}
}

func (c *checker) static(at []string, s Service) {
	c.inCheckout(field(at, "static"), ".", s.Static)
	if !outside(s.Static) && !path.IsAbs(s.Static) && len(c.app.Pipeline) > 0 && !c.made(s.Static) {
		c.report(field(at, "static"), "add it to what the step makes that builds it", "is %s, which no step of the pipeline makes", s.Static)
	}
	if s.Path == "" {
		c.report(field(at, "path"), "path: /", "is missing")
	}
	if s.Fallback != "" {
		c.inCheckout(field(at, "fallback"), ".", s.Fallback)
	}
	for i, glob := range s.Immutable {
		c.glob(item(at, "immutable", i), glob)
	}
	for _, f := range []struct {
		name string
		set  bool
	}{{"health", s.Health != ""}, {"instances", s.Instances != 0}, {"memory", s.Memory != 0}, {"cpus", s.CPUs != 0}, {"files", len(s.Files) > 0},
		{"volumes", len(s.Volumes) > 0}, {"start", s.Start != 0}, {"drain", s.Drain != 0}} {
		if f.set {
			c.report(field(at, f.name), "take it away: files are served by Lotse itself", "is only for a service with command")
		}
	}
}

func (c *checker) made(p string) bool {
	return slices.ContainsFunc(c.app.Pipeline, func(s StepSpec) bool {
		return slices.ContainsFunc(s.Makes, func(m string) bool { return overlap(path.Join(s.In, m), p) })
	})
}

func (c *checker) program(at []string, s Service) {
	c.command(field(at, "command"), s.Command)
	for _, f := range []struct {
		name string
		set  bool
	}{{"fallback", s.Fallback != ""}, {"immutable", len(s.Immutable) > 0}} {
		if f.set {
			c.report(field(at, f.name), "", "is only for a service with static")
		}
	}
	switch {
	case s.Health != "" && s.Path == "":
		c.report(field(at, "health"), "give the service a path, or take health away: a worker only has to stay", "needs path, since a worker listens nowhere")
	case s.Health != "" && !strings.HasPrefix(s.Health, "/"):
		c.report(field(at, "health"), "write /"+s.Health, `must begin with "/"`)
	case strings.ContainsAny(s.Health, " #\\") || hasControl(s.Health):
		c.report(field(at, "health"), "for example /health", "must be the path of a URL")
	}
	if s.Instances < 1 || s.Instances > 100 {
		c.report(field(at, "instances"), "", "must be between 1 and 100")
	}
	if s.Memory != 0 && s.Memory < 4<<20 {
		c.report(field(at, "memory"), "for example 256MiB", "must be at least 4MiB")
	}
	if s.CPUs < 0 || s.CPUs > 1024 || math.IsNaN(s.CPUs) || s.CPUs > 0 && s.CPUs < 0.01 {
		c.report(field(at, "cpus"), "for example 0.5, half a core", "must be between 0.01 and 1024")
	}
	for i, f := range s.Files {
		c.inCheckout(item(at, "files", i), ".", f)
	}
	c.mounts(field(at, "volumes"), s.Volumes)
	c.between(field(at, "start"), s.Start, time.Second, time.Hour)
	c.between(field(at, "drain"), s.Drain, time.Millisecond, time.Hour)
}

func (c *checker) command(at []string, command string) {
	switch {
	case strings.TrimSpace(command) == "":
		c.report(at, "", "is missing")
	case strings.Contains(command, "\x00"):
		c.report(at, "", "must not contain a NUL character")
	}
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// urlPath checks a prefix of URLs. It is compared by segments, so a slash at its end says nothing.
func (c *checker) urlPath(at []string, p string) {
	switch {
	case !strings.HasPrefix(p, "/"):
		c.report(at, "write /"+p, `must begin with "/"`)
	case strings.ContainsAny(p, "?#%\\ *{}") || hasControl(p):
		c.report(at, "for example / or /api", "must be a plain path, without query, pattern or %%-escapes")
	case path.Clean(p) != p:
		c.report(at, "write "+path.Clean(p), "must be written without detours and without a slash at its end")
	}
}

func (c *checker) glob(at []string, glob string) {
	c.inCheckout(at, ".", strings.TrimSuffix(glob, "/"))
	if _, err := path.Match(strings.ReplaceAll(glob, "**", "*"), ""); err != nil {
		c.report(at, `for example "assets/**" or "*.woff2"`, "must be a pattern of file names")
	}
}

func (c *checker) mounts(at []string, mounts []VolumeMount) {
	for i, m := range mounts {
		here := field(at, m.Volume)
		if !slices.Contains(c.app.Volumes, m.Volume) {
			c.reportName(here, suggestion(m.Volume, c.app.Volumes, "add it under volumes"), "is not a volume of the app")
		}
		c.inCheckout(here, ".", m.Path)
		if m.Path == "." {
			c.report(here, "for example data/uploads", "must not cover the whole release")
		}
		for _, other := range mounts[:i] {
			if overlap(m.Path, other.Path) {
				c.report(here, "", "must not lie at %s, where volume %q lies", m.Path, other.Volume)
			}
		}
	}
}

// suggestion says which name may have been meant, and what there is.
func suggestion(name string, known []string, otherwise string) string {
	if len(known) == 0 {
		return otherwise
	}
	hint := "there are: " + strings.Join(known, ", ")
	if near := Nearest(name, known); near != "" {
		hint = fmt.Sprintf("did you mean %q? ", near) + hint
	}
	return hint
}

// Nearest returns that one of known that name was probably meant to be, or "".
func Nearest(name string, known []string) string {
	if len(name) > 64 {
		return ""
	}
	best, least := "", 1+len(name)/3
	for _, k := range known {
		if d := edits(strings.ToLower(name), strings.ToLower(k)); d <= least && (best == "" || d < least) {
			best, least = k, d
		}
	}
	return best
}

// edits counts the letters to insert, remove, replace or swap with the next one to make b of a (Damerau and Levenshtein's distance,
// restricted).
func edits(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}

func (c *checker) jobs() {
	names := map[string]bool{}
	for _, s := range c.app.Services {
		names[s.Name] = true
	}
	for _, j := range c.app.Jobs {
		at := []string{"jobs", j.Name}
		c.label(at, j.Name)
		if names[j.Name] {
			c.report(at, "give it another name: the log is found by it", "has the name of a service or of another job")
		}
		names[j.Name] = true
		c.command(field(at, "command"), j.Command)
		c.schedule(field(at, "schedule"), j.Schedule)
		c.between(field(at, "timeout"), j.Timeout, time.Second, 24*time.Hour)
		c.mounts(field(at, "volumes"), j.Volumes)
	}
}

const scheduleHint = `minute, hour, day of the month, month, day of the week: "*/15 * * * *"; or @hourly, @daily, @weekly, @every 10m`

func (c *checker) schedule(at []string, line string) {
	if line == "" {
		c.report(at, scheduleHint, "is missing")
		return
	}
	// The parser takes what follows the zone's name for granted.
	if zone, _, more := strings.Cut(line, " "); strings.Contains(zone, "TZ=") && !more {
		c.report(at, scheduleHint, "must have five fields after the time zone")
		return
	}
	schedule, err := ParseSchedule(line)
	if err != nil {
		c.report(at, scheduleHint, "must be a schedule as cron has it")
		return
	}
	if schedule.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		c.report(at, "there is no such day in the calendar", "never comes")
	}
}

func (c *checker) volumes() {
	for i, v := range c.app.Volumes {
		c.label([]string{"volumes", v}, v)
		if slices.Contains(c.app.Volumes[:i], v) {
			c.report([]string{"volumes", v}, "", "is there twice")
		}
	}
}

package deploy

import (
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Lotse runs what PostgreSQL's own project still mends; the newest is whatever is installed.
const oldestPostgres, newestPostgres = 13, 99

func (c *checker) secrets() {
	for i, name := range c.app.Secrets {
		at := []string{"secrets", strconv.Itoa(i)}
		c.secretName(at, name)
		if slices.Contains(c.app.Secrets[:i], name) {
			c.report(at, "", "is there twice")
		}
		if len(c.app.Stages) > 0 {
			c.overlap(at, name, c.app.Stages[0])
		}
	}
}

// longestOverlap is more than any session or token that is signed with a key should last.
const longestOverlap = 90 * 24 * time.Hour

// overlap checks the second name that a secret gets while its values overlap; it is the same for all stages.
func (c *checker) overlap(at []string, name string, first Stage) {
	span, has := first.Overlap[name]
	if !has {
		return
	}
	c.between(field(at, "overlap"), span, time.Minute, longestOverlap)
	taken := slices.Contains(c.app.Secrets, Previous(name))
	for _, s := range c.app.Stages {
		_, set := s.Env[Previous(name)]
		taken = taken || set
	}
	if taken {
		c.report(at, "give one of the two another name", "gets the second name %s, which is another's already", Previous(name))
	}
}

func (c *checker) leaks() {
	for i, a := range c.app.Leaks {
		at := item([]string{"leaks"}, "allow", i)
		for _, f := range []struct{ name, value, hint string }{
			{"rule", a.Rule, "for example generic-api-key; the refusal names it"}, {"file", a.File, "for example docs/maps.md"},
			{"reason", strings.TrimSpace(a.Reason), "for example: revoked on 2026-11-20"},
		} {
			if f.value == "" {
				c.report(field(at, f.name), f.hint, "must be there")
			}
		}
		if a.File != "" {
			c.paths(field(at, "file"), a.File)
		}
		if a.Rule == KnownValue && strings.ContainsAny(a.File, "*?[") {
			c.report(field(at, "file"), "name the file", "must be one file for %s, which is a value that a stage has now", KnownValue)
		}
	}
}

// secretName checks the name of a secret that the file refers to. What is no name is likely to be the secret itself.
func (c *checker) secretName(at []string, name string) {
	if rest, hint := VariableProblem(name); rest != "" {
		if hint == "" {
			hint = "the file holds names alone; set the value with `lotse secrets set NAME`, and change it if it was committed"
		}
		c.report(at, hint, "must be the name of a secret, of letters, digits and _")
	}
}

func (c *checker) source() {
	at, s := []string{"source"}, c.app.Source
	if s.Token != "" {
		c.secretName(field(at, "token"), s.Token)
		if !strings.HasPrefix(s.Remote, "https://") {
			c.report(field(at, "token"), "a token goes to https alone; ssh has keys of its own", "needs a remote that begins with https://")
		}
	}
	remote, err := url.Parse(s.Remote)
	switch {
	case err != nil: // user@host:path, as ssh has it
	case remote.Scheme == "http":
		c.report(field(at, "remote"), "every connection is encrypted", `must begin with "https://"`)
	case remote.Scheme == "https" && remote.User != nil:
		c.report(field(at, "remote"), "write token: GIT_TOKEN and set it with `lotse secrets set GIT_TOKEN`", "must not hold a user or a password")
	}
	c.globs(at, "paths", s.Paths)
	c.globs(at, "ignore", s.Ignore)
}

func (c *checker) globs(at []string, name string, globs []string) {
	for i, g := range globs {
		c.paths(item(at, name, i), g)
	}
}

func (c *checker) paths(at []string, glob string) {
	if _, err := path.Match(strings.ReplaceAll(glob, "**", "*"), ""); err != nil || glob == "" {
		c.report(at, "for example web/**", "must be a pattern of paths")
	}
}

func (c *checker) notices() {
	seen := map[string]bool{}
	for _, n := range c.app.Notify {
		at := []string{"notify", n.Name}
		switch {
		case n.Kind == "":
			c.report(at, "for example { slack: SLACK_WEBHOOK }", "must have slack, discord or webhook")
			continue
		case seen[n.Name]:
			c.report(at, "give each a name of its own", "must have one of slack, discord and webhook")
			continue
		}
		seen[n.Name] = true
		c.label(at, n.Name)
		c.secretName(field(at, n.Kind), n.URL)
		for i, on := range n.On {
			if on != "success" && on != "failure" {
				c.report(item(at, "on", i), "", "must be success or failure")
			}
		}
		for i, s := range n.Stages {
			names := c.app.stageNames()
			if !slices.Contains(names, s) {
				c.report(item(at, "stages", i), suggestion(s, names, "stages are: "+strings.Join(names, ", ")), "is %q, which is not a stage", s)
			}
		}
	}
}

// database checks what a stage has, whether it stands there or was taken from the app.
func (c *checker) database(at []string, s Stage) {
	db := s.Database
	if db == (Database{}) {
		return
	}
	switch {
	case db.Own() && db.URL != "":
		c.report(field(at, "url"), "postgres: Lotse runs it; url: somebody else does", "must not be there together with postgres")
	case !db.Own() && db.URL == "":
		c.report(at, "for example { postgres: 15, migrations: db/migrations }", "must have postgres or url")
	case db.Own() && (db.Postgres < oldestPostgres || db.Postgres > newestPostgres):
		c.report(field(at, "postgres"), "for example 15", "must be a major version from %d on", oldestPostgres)
	default:
		c.databaseOnAWS(at, s)
	}
	if db.URL != "" {
		c.secretName(field(at, "url"), db.URL)
	}
	if _, given := s.Env[DatabaseURL]; given && db.Own() {
		c.report([]string{"stages", s.Name, "env", DatabaseURL}, "take it away, or take database away", "is set by Lotse itself, which runs the database")
	}
	switch {
	case db.Migrations != "" && db.Migrate != "":
		c.report(field(at, "migrate"), "migrations: a folder of SQL files, which Lotse runs; migrate: a program of yours, which runs what it knows", "must not be there together with migrations")
	case db.History != "" && db.Migrate == "":
		c.report(field(at, "history"), "it is for a program: migrate: npx my-tool up", "must not be there without migrate")
	}
	if db.Migrations != "" {
		c.inCheckout(field(at, "migrations"), ".", db.Migrations)
	}
	c.snapshots(field(at, "snapshots"), db.Snapshots)
}

func (c *checker) snapshots(at []string, r SnapshotRule) {
	if r == (SnapshotRule{}) {
		return
	}
	if r.At != "" {
		if _, err := ParseDaily(r.At); err != nil {
			c.report(field(at, "at"), HintOf(err), "must be a time of the day")
		}
	}
	if bucket, ok := strings.CutPrefix(r.To, "s3://"); ok && (bucket == "" || bucket[0] == '/') || r.To != "" && !ok && (!path.IsAbs(r.To) || path.Clean(r.To) != r.To) {
		c.report(field(at, "to"), "for example /srv/snapshots, or s3://whatsgonow-snapshots/prod", "must be an absolute folder, or s3://BUCKET/PREFIX")
	}
	if r.Keep.Daily < 1 || r.Keep.Weekly < 0 || r.Keep.Monthly < 0 {
		c.report(field(at, "keep"), "for example { daily: 7, weekly: 4, monthly: 6 }; what is left out is none", "must keep at least 1 daily")
	}
	if names := []string{DrillsEach, DrillsWeekly, DrillsMonthly}; r.Drills != "" && !slices.Contains(names, r.Drills) {
		c.report(field(at, "drills"), suggestion(r.Drills, names, ""), "must be %s", strings.Join(names, ", "))
	}
}

func (c *checker) databases() {
	told := map[Database]bool{}
	for _, s := range c.app.Stages {
		if told[s.Database] { // the app's own is told once
			continue
		}
		told[s.Database] = true
		at := []string{"stages", s.Name, "database"}
		if n := slices.IndexFunc(c.app.Stages, func(o Stage) bool { return o.Name != s.Name && o.Database == s.Database }); n >= 0 {
			at = []string{"database"}
		}
		c.database(at, s)
		if n := slices.IndexFunc(c.app.Stages, func(o Stage) bool { return o.AWS != AWS{} && o.Database == s.Database }); n >= 0 && s.AWS == (AWS{}) {
			c.databaseOnAWS(at, c.app.Stages[n])
		}
	}
}

package deploy

import (
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
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
		if _, err := path.Match(strings.ReplaceAll(g, "**", "*"), ""); err != nil || g == "" {
			c.report(item(at, name, i), "for example web/**", "must be a pattern of paths")
		}
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
	if db.Migrations != "" {
		c.inCheckout(field(at, "migrations"), ".", db.Migrations)
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

package deploy_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// soundApp has no problems; each case changes one thing in it.
func soundApp() deploy.App {
	return deploy.App{
		Name: "shop",
		Pipeline: []deploy.StepSpec{
			{Name: "install", Run: "npm ci", In: "web", Reads: []string{"package.json"}, Makes: []string{"node_modules"}, Timeout: time.Minute},
			{Name: "site", Run: "npm run build", In: "web", Needs: []string{"install"}, Makes: []string{"dist"}, Timeout: time.Minute},
			{Name: "api", Run: "make", In: ".", Reads: []string{"."}, Makes: []string{"bin/api"}, Timeout: time.Minute},
		},
		Services: []deploy.Service{
			{Name: "site", Static: "web/dist", Fallback: "index.html", Immutable: []string{"assets/**"}, Path: "/"},
			{Name: "api", Command: "bin/api", Path: "/api", Health: "/api/health?full=1", Instances: 2, Memory: 64 << 20, CPUs: 0.5, Files: []string{"db"},
				Volumes: []deploy.VolumeMount{{Volume: "data", Path: "var/data"}, {Volume: "logs", Path: "var/logs"}}, Start: time.Minute, Drain: time.Second},
			{Name: "worker", Command: "bin/worker", Instances: 1, Start: time.Minute, Drain: time.Second},
		},
		Jobs:    []deploy.Job{{Name: "expire", Command: "bin/api expire", Schedule: "CRON_TZ=UTC */15 * * * *", Timeout: time.Minute, Volumes: []deploy.VolumeMount{{Volume: "data", Path: "data"}}}},
		Volumes: []string{"data", "logs"},
		Stages: []deploy.Stage{
			{Name: "dev", Engine: "local", URL: "https://dev.shop.localhost", Redirects: []string{"https://shop.localhost"}, EnvFile: ".env", Env: map[string]string{"A_1": "x"}, Stable: time.Second},
			{Name: "prod", Engine: "local", URL: "https://shop.example:8443", EnvFile: "/etc/shop.env", Watch: time.Minute, Warm: time.Minute},
		},
	}
}

func TestProblems(t *testing.T) {
	if problems := soundApp().Problems(); len(problems) > 0 {
		t.Fatalf("the sound app has problems: %v", problems)
	}
	type app = deploy.App
	for _, c := range []struct {
		name   string
		change func(a *app)
		want   string // messages, one a line
		hint   string // part of the first hint
	}{
		{"no name", func(a *app) { a.Name = "" }, "app is missing", ""},
		{"a name in capitals", func(a *app) { a.Name = "Shop" }, "app must be named with at most 63 small letters, digits and hyphens, and neither begin nor end with a hyphen", "shop"},
		{"a long name", func(a *app) { a.Name = strings.Repeat("a", 64) }, "app must be named with at most 63 small letters, digits and hyphens, and neither begin nor end with a hyphen", ""},
		{"a hyphen at the end", func(a *app) { a.Stages[0].Name = "dev-" }, "stages.dev- must be named with at most 63 small letters, digits and hyphens, and neither begin nor end with a hyphen", ""},

		{"a step without run", func(a *app) { a.Pipeline[0].Run = " " }, "pipeline.install.run is missing", ""},
		{"a step twice", func(a *app) {
			a.Pipeline = append(a.Pipeline, deploy.StepSpec{Name: "api", Run: "x", In: ".", Timeout: time.Minute})
		}, "pipeline.api is there twice", ""},
		{"out of the checkout", func(a *app) { a.Pipeline[0].In = "../web" }, "pipeline.install.in must stay in the checkout", ""},
		{"reading out of the checkout", func(a *app) { a.Pipeline[0].Reads = []string{"../../x"} }, "pipeline.install.reads[0] must stay in the checkout", ""},
		{"reading beside", func(a *app) { a.Pipeline[0].Reads = []string{"../go.mod"} }, "", ""},
		{"reading the machine", func(a *app) { a.Pipeline[0].Reads = []string{"a", "/etc/passwd"} }, "pipeline.install.reads[1] must not be an absolute path", ""},
		{"backslashes", func(a *app) { a.Pipeline[0].In = `web\src` }, "pipeline.install.in must be a path with slashes", "/"},
		{"detours", func(a *app) { a.Pipeline[0].In = "web/" }, "pipeline.install.in must be written without detours", "write web"},
		{"nothing", func(a *app) { a.Pipeline[0].Reads = []string{""} }, "pipeline.install.reads[0] must not be empty", ""},
		{"making everything", func(a *app) { a.Pipeline[2].Makes = []string{"."} }, "pipeline.api.makes[0] must not be the whole folder, which holds the sources", ""},
		{"making what another makes", func(a *app) { a.Pipeline[2].Makes = []string{"bin/api", "web/dist"} }, `pipeline.api.makes[1] is web/dist, and step "site" makes web/dist`, "one step"},
		{"making inside", func(a *app) { a.Pipeline[2].Makes = []string{"web/dist/x"} }, `pipeline.api.makes[0] is web/dist/x, and step "site" makes web/dist`, ""},
		{"making around", func(a *app) { a.Pipeline[2].Makes = []string{"web"} }, `pipeline.api.makes[0] is web, and step "install" makes web/node_modules`, ""},
		{"making beside", func(a *app) { a.Pipeline[2].Makes = []string{"web/dist2"} }, "", ""},
		{"needing nobody", func(a *app) { a.Pipeline[1].Needs = []string{"instal"} }, `pipeline.site.needs[0] is "instal", which is not a step`, `did you mean "install"? there are: install, site, api`},
		{"needing itself", func(a *app) { a.Pipeline[1].Needs = []string{"site"} }, "pipeline.site.needs[0] must not be the step itself", ""},
		{"needing twice", func(a *app) { a.Pipeline[1].Needs = []string{"install", "install"} }, "pipeline.site.needs[1] is there twice", ""},
		{"a circle", func(a *app) { a.Pipeline[0].Needs, a.Pipeline[2].Needs = []string{"api"}, []string{"site"} }, "pipeline.install.needs go in a circle: install → api → site → install", ""},
		{"a circle of others", func(a *app) {
			a.Pipeline[0].Needs, a.Pipeline[1].Needs, a.Pipeline[2].Needs = []string{"site"}, []string{"api"}, []string{"site"}
		},
			"pipeline.site.needs go in a circle: site → api → site", ""},
		{"no time", func(a *app) { a.Pipeline[0].Timeout = 0 }, "pipeline.install.timeout must be between 1s and 24h", ""},

		{"no service", func(a *app) { a.Services = nil }, "services must have at least one service", ""},
		{"a service twice", func(a *app) { a.Services[2].Name = "api" }, "services.api is there twice", ""},
		{"neither", func(a *app) { a.Services[2].Command = "" }, "services.worker must have either static or command", ""},
		{"both", func(a *app) { a.Services[2].Static = "web/dist" }, "services.worker must have either static or command, not both", ""},
		{"one path for two", func(a *app) { a.Services[2].Path = "/api" }, `services.worker.path must not be "/api", which service "api" answers`, ""},
		{"a path without slash", func(a *app) { a.Services[1].Path = "api" }, `services.api.path must begin with "/"`, "write /api"},
		{"a path with a slash behind", func(a *app) { a.Services[1].Path = "/api/" }, "services.api.path must be written without detours and without a slash at its end", "write /api"},
		{"a path that climbs", func(a *app) { a.Services[1].Path = "/api/../x" }, "services.api.path must be written without detours and without a slash at its end", ""},
		{"a path with a pattern", func(a *app) { a.Services[1].Path = "/api/*" }, "services.api.path must be a plain path, without query, pattern or %-escapes", ""},
		{"files that nobody makes", func(a *app) { a.Services[0].Static = "public" }, "services.site.static is public, which no step of the pipeline makes", "add it"},
		{"files without a pipeline", func(a *app) { a.Services[0].Static, a.Pipeline = "public", nil }, "", ""},
		{"files that a folder holds", func(a *app) { a.Services[0].Static = "web/dist/browser" }, "", ""},
		{"files out of the checkout", func(a *app) { a.Services[0].Static = "../dist" }, "services.site.static must stay in the checkout", ""},
		{"files without a path", func(a *app) { a.Services[0].Path = "" }, "services.site.path is missing", ""},
		{"a fallback elsewhere", func(a *app) { a.Services[0].Fallback = "../index.html" }, "services.site.fallback must stay in the checkout", ""},
		{"a broken pattern", func(a *app) { a.Services[0].Immutable = []string{"[a"} }, "services.site.immutable[0] must be a pattern of file names", ""},
		{"a pattern of the machine", func(a *app) { a.Services[0].Immutable = []string{"/**"} }, "services.site.immutable[0] must not be an absolute path", ""},
		{"files with what programs have", func(a *app) {
			s := &a.Services[0]
			s.Health, s.Instances, s.Memory, s.CPUs, s.Start, s.Drain = "/", 1, 1, 1, 1, 1
			s.Files, s.Volumes = []string{"x"}, []deploy.VolumeMount{{Volume: "data", Path: "x"}}
		}, strings.TrimSpace(strings.ReplaceAll("health instances memory cpus files volumes start drain ", " ", " is only for a service with command\n")), ""},
		{"a program with what files have", func(a *app) { a.Services[1].Fallback, a.Services[1].Immutable = "x", []string{"y"} },
			"services.api.fallback is only for a service with static\nservices.api.immutable is only for a service with static", ""},
		{"health of a worker", func(a *app) { a.Services[2].Health = "/health" }, "services.worker.health needs path, since a worker listens nowhere", ""},
		{"health without slash", func(a *app) { a.Services[1].Health = "health" }, `services.api.health must begin with "/"`, "write /health"},
		{"health with a blank", func(a *app) { a.Services[1].Health = "/a b" }, "services.api.health must be the path of a URL", ""},
		{"no instance", func(a *app) { a.Services[1].Instances = 0 }, "services.api.instances must be between 1 and 100", ""},
		{"many instances", func(a *app) { a.Services[1].Instances = 101 }, "services.api.instances must be between 1 and 100", ""},
		{"little memory", func(a *app) { a.Services[1].Memory = 1 }, "services.api.memory must be at least 4MiB", ""},
		{"less than nothing", func(a *app) { a.Services[1].CPUs = -1 }, "services.api.cpus must be between 0.01 and 1024", ""},
		{"no number", func(a *app) { a.Services[1].CPUs = math.NaN() }, "services.api.cpus must be between 0.01 and 1024", ""},
		{"files of the machine", func(a *app) { a.Services[1].Files = []string{"/etc"} }, "services.api.files[0] must not be an absolute path", ""},
		{"an unknown volume", func(a *app) { a.Services[1].Volumes[0].Volume = "dta" }, "services.api.volumes.dta is not a volume of the app", `did you mean "data"? there are: data, logs`},
		{"a volume over everything", func(a *app) { a.Services[2].Volumes = []deploy.VolumeMount{{Volume: "data", Path: "."}} }, "services.worker.volumes.data must not cover the whole release", ""},
		{"a volume in a volume", func(a *app) { a.Services[1].Volumes[1].Path = "var/data/logs" }, `services.api.volumes.logs must not lie at var/data/logs, where volume "data" lies`, ""},
		{"a long start", func(a *app) { a.Services[1].Start = 2 * time.Hour }, "services.api.start must be between 1s and 1h", ""},
		{"no drain", func(a *app) { a.Services[1].Drain = 0 }, "services.api.drain must be between 1ms and 1h", ""},
		{"NUL", func(a *app) { a.Services[1].Command = "a\x00" }, "services.api.command must not contain a NUL character", ""},

		{"a job without command", func(a *app) { a.Jobs[0].Command = "" }, "jobs.expire.command is missing", ""},
		{"a job named as a service", func(a *app) { a.Jobs[0].Name = "api" }, "jobs.api has the name of a service or of another job", ""},
		{"a job never", func(a *app) { a.Jobs[0].Schedule = "" }, "jobs.expire.schedule is missing", ""},
		{"a job in words", func(a *app) { a.Jobs[0].Schedule = "every day" }, "jobs.expire.schedule must be a schedule as cron has it", "*/15"},
		{"a job on a day that is none", func(a *app) { a.Jobs[0].Schedule = "0 0 31 2 *" }, "jobs.expire.schedule never comes", "calendar"},
		{"a zone alone", func(a *app) { a.Jobs[0].Schedule = "CRON_TZ=UTC" }, "jobs.expire.schedule must have five fields after the time zone", ""},
		{"six fields", func(a *app) { a.Jobs[0].Schedule = "0 * * * * *" }, "jobs.expire.schedule must be a schedule as cron has it", ""},
		{"a volume twice", func(a *app) { a.Volumes = append(a.Volumes, "data") }, "volumes.data is there twice", ""},

		{"no stage", func(a *app) { a.Stages = nil }, "stages must have at least one stage", ""},
		{"a stage twice", func(a *app) { a.Stages[1].Name = "dev" }, "stages.dev is there twice", ""},
		{"no URL", func(a *app) { a.Stages[0].URL = "" }, "stages.dev.url is missing", "https://"},
		{"http", func(a *app) { a.Stages[0].URL = "http://dev.localhost" }, `stages.dev.url must begin with "https://"`, ""},
		{"no scheme", func(a *app) { a.Stages[0].URL = "dev.localhost" }, `stages.dev.url must begin with "https://"`, ""},
		{"a path", func(a *app) { a.Stages[0].URL = "https://dev.localhost/app" }, "stages.dev.url must end with the host: a stage has all paths of its host", "write https://dev.localhost"},
		{"a slash", func(a *app) { a.Stages[0].URL = "https://dev.localhost/" }, "stages.dev.url must end with the host: a stage has all paths of its host", ""},
		{"a query", func(a *app) { a.Stages[0].URL = "https://dev.localhost?" }, "stages.dev.url must end with the host: a stage has all paths of its host", ""},
		{"a password", func(a *app) { a.Stages[0].URL = "https://u:hunter2@dev.localhost" }, "stages.dev.url must not hold a user or a password", ""},
		{"an address", func(a *app) { a.Stages[0].URL = "https://[::1]" }, "stages.dev.url must have a host name, not an IP address", "localhost"},
		{"capitals", func(a *app) { a.Stages[0].URL = "https://Dev.localhost" }, "stages.dev.url must have the name of a host", ""},
		{"umlauts", func(a *app) { a.Stages[0].URL = "https://käse.example" }, "stages.dev.url must have the name of a host", "xn--"},
		{"no host", func(a *app) { a.Stages[0].URL = "https://" }, "stages.dev.url must have a host", ""},
		{"a port of the sky", func(a *app) { a.Stages[0].URL = "https://dev.localhost:70000" }, "stages.dev.url must have a port between 1 and 65535, or none", ""},
		{"no URL at all", func(a *app) { a.Stages[0].URL = "https://dev .localhost" }, "stages.dev.url must be a URL", ""},
		{"one host for two", func(a *app) { a.Stages[1].URL = "https://dev.shop.localhost:8443" }, `stages.prod.url has the host dev.shop.localhost, which stage "dev" has already`, ""},
		{"a redirect to itself", func(a *app) { a.Stages[0].Redirects = []string{"https://dev.shop.localhost"} }, `stages.dev.redirects[0] has the host dev.shop.localhost, which stage "dev" has already`, ""},
		{"a redirect of another", func(a *app) { a.Stages[1].Redirects = []string{"https://shop.localhost"} }, `stages.prod.redirects[0] has the host shop.localhost, which stage "dev" has already`, ""},
		{"an engine in capitals", func(a *app) { a.Stages[0].Engine = "Local!" }, "stages.dev.engine must be the name of an engine", ""},
		{"secrets elsewhere", func(a *app) { a.Stages[0].EnvFile = "../.env" }, "stages.dev.env_file must be a path beside lotse.yaml or an absolute one", ""},
		{"names of variables", func(a *app) {
			a.Stages[0].Env = map[string]string{"A-B": "", "HOST": "", "LOTSE_X": "", "PORT": "", "PORTS": ""}
		},
			"stages.dev.env.A-B must be a name of letters, digits and _ that does not begin with a digit\nstages.dev.env.HOST is set by Lotse itself\nstages.dev.env.LOTSE_X is set by Lotse itself\nstages.dev.env.PORT is set by Lotse itself", ""},
		{"NUL in a variable", func(a *app) { a.Stages[0].Env["A_1"] = "hunter2\x00" }, "stages.dev.env.A_1 must not contain a NUL character", ""},
		{"times", func(a *app) {
			s := &a.Stages[0]
			s.Watch, s.Warm, s.Stable, s.Drain, s.OldFiles = -1, 8*24*time.Hour, 2*time.Hour, 2*time.Hour, 1000*time.Hour
		}, "stages.dev.watch must be between 0s and 24h\nstages.dev.warm must be between 0s and 168h\nstages.dev.stable must be between 0s and 1h\nstages.dev.drain must be between 0s and 1h\nstages.dev.old_files must be between 0s and 720h", ""},
		{"a secret in place of its name", func(a *app) { a.Secrets = []string{"hunter2 is it"} }, "secrets[0] must be the name of a secret, of letters, digits and _", "change it if it was committed"},
		{"an overlap that is too long", func(a *app) {
			a.Secrets, a.Stages[0].Overlap = []string{"KEY"}, map[string]time.Duration{"KEY": 91 * 24 * time.Hour}
		}, "secrets[0].overlap must be between 1m and 2160h", ""},
		{"a second name that is taken", func(a *app) {
			a.Secrets, a.Stages[0].Overlap = []string{"KEY", "KEY_PREVIOUS"}, map[string]time.Duration{"KEY": time.Hour}
		}, "secrets[0] gets the second name KEY_PREVIOUS, which is another's already", "another name"},
		{"a secret twice", func(a *app) { a.Secrets = []string{"KEY", "KEY"} }, "secrets[1] is there twice", ""},
		{"a public name", func(a *app) { a.Pipeline[1].Public = []string{"VITE_A", "VITE-B", "PORT"} },
			"pipeline.site.public[1] must be a name of letters, digits and _ that does not begin with a digit\npipeline.site.public[2] is set by Lotse itself", ""},
		{"a public secret", func(a *app) { a.Pipeline[1].Public, a.Secrets = []string{"KEY"}, []string{"KEY"} }, "pipeline.site.public[0] is KEY, which is among secrets", "must not have it"},
		{"a remote without TLS", func(a *app) { a.Source.Remote = "http://git.example.org/shop.git" }, `source.remote must begin with "https://"`, ""},
		{"a password in the remote", func(a *app) { a.Source.Remote = "https://ada:hunter2@git.example.org/shop.git" }, "source.remote must not hold a user or a password", "lotse secrets set"},
		{"a remote by ssh", func(a *app) { a.Source.Remote = "ssh://git@git.example.org:22/shop.git" }, "", ""},
		{"a token for ssh", func(a *app) { a.Source = deploy.Source{Remote: "git@git.example.org:shop.git", Token: "TOKEN"} }, "source.token needs a remote that begins with https://", ""},
		{"an empty pattern", func(a *app) { a.Source.Paths = []string{"web/**", ""} }, "source.paths[1] must be a pattern of paths", ""},
		{"a broken pattern", func(a *app) { a.Source.Ignore = []string{"[a"} }, "source.ignore[0] must be a pattern of paths", ""},
		{"a folder and a command", func(a *app) {
			a.Stages[0].Database = deploy.Database{Postgres: 15, Migrations: "db", Migrate: "npx tool"}
		}, "stages.dev.database.migrate must not be there together with migrations", "a program of yours"},
		{"notes of a folder", func(a *app) {
			a.Stages[0].Database = deploy.Database{Postgres: 15, Migrations: "db", History: "notes"}
		}, "stages.dev.database.history must not be there without migrate", "npx my-tool up"},
		{"nobody to tell", func(a *app) { a.Notify = []deploy.Notice{{Name: "team"}} }, "notify.team must have slack, discord or webhook", ""},
		{"two ways in one", func(a *app) {
			a.Notify = []deploy.Notice{{Name: "team", Kind: "slack", URL: "A"}, {Name: "team", Kind: "discord", URL: "B"}}
		}, "notify.team must have one of slack, discord and webhook", ""},
		{"an address in place of a name", func(a *app) {
			a.Notify = []deploy.Notice{{Name: "team", Kind: "slack", URL: "https://hooks.example.org/hunter2", On: []string{"always"}, Stages: []string{"prd"}}}
		}, "notify.team.slack must be the name of a secret, of letters, digits and _\nnotify.team.on[0] must be success or failure\nnotify.team.stages[0] is \"prd\", which is not a stage", ""},
		{"a push to the second stage", func(a *app) { a.Stages[1].On.Branch = "main" }, "stages.prod.on must stand at the first stage alone", "lotse promote prod"},
		{"both databases", func(a *app) { a.Stages[0].Database = deploy.Database{Postgres: 15, URL: "DB"} }, "stages.dev.database.url must not be there together with postgres", ""},
		{"no database", func(a *app) { a.Stages[1].Database = deploy.Database{Migrations: "db"} }, "stages.prod.database must have postgres or url", ""},
		{"an old database, for all stages", func(a *app) {
			a.Stages[0].Database = deploy.Database{Postgres: 9}
			a.Stages[1].Database = a.Stages[0].Database
		}, "database.postgres must be a major version from 13 on", ""},
		{"an address in place of the secret", func(a *app) {
			a.Stages[0].Database = deploy.Database{URL: "postgres://ada:hunter2@db.example.org/shop"}
		},
			"stages.dev.database.url must be the name of a secret, of letters, digits and _", ""},
		{"migrations out of the commit", func(a *app) { a.Stages[0].Database = deploy.Database{Postgres: 15, Migrations: "../db"} }, "stages.dev.database.migrations must stay in the checkout", ""},
		{"DATABASE_URL twice", func(a *app) {
			a.Stages[0].Database, a.Stages[0].Env = deploy.Database{Postgres: 15}, map[string]string{"DATABASE_URL": "x"}
		}, "stages.dev.env.DATABASE_URL is set by Lotse itself, which runs the database", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := soundApp()
			c.change(&a)
			var got, hints []string
			for _, p := range a.Problems() {
				got, hints = append(got, strings.TrimPrefix(p.Message, "services.site.")), append(hints, p.Hint)
				if !strings.HasPrefix(p.Message, deploy.FieldName(p.Path)+" ") {
					t.Errorf("%q does not begin with its field %v", p.Message, p.Path)
				}
				if strings.Contains(p.Message+p.Hint, "hunter2") {
					t.Errorf("a secret is told: %v", p)
				}
			}
			want := strings.ReplaceAll("\n"+c.want, "\nservices.site.", "\n")[1:]
			if diff := cmp.Diff(want, strings.Join(got, "\n")); diff != "" {
				t.Error(diff)
			}
			if c.hint != "" && (len(hints) == 0 || !strings.Contains(hints[0], c.hint)) {
				t.Errorf("hints %q, want %q in the first", hints, c.hint)
			}
		})
	}
}

func TestNearest(t *testing.T) {
	known := []string{"command", "path", "health", "static", "in"}
	for name, want := range map[string]string{"comand": "command", "COMMAND": "command", "pahts": "path", "paht": "path", "helth": "health", "xyz": "", "": "", "statics": "static",
		"on": "in", strings.Repeat("x", 1000): ""} {
		if got := deploy.Nearest(name, known); got != want {
			t.Errorf("Nearest(%.20q) = %q, want %q", name, got, want)
		}
	}
}

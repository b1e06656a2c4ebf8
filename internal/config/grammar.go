package config

import (
	"path"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/privacy"
)

// The types of this file are the grammar: decode.go reads them, schema.go describes them. Names of fields are in the json tags;
// jsonschema tags say more to editors than to us, since Problems says it in better sentences.

// document is the whole file.
type document struct {
	App      text             `json:"app" jsonschema:"required,pattern=^[a-z0-9]([a-z0-9-]*[a-z0-9])?$,maxLength=63,example=whatsgonow" jsonschema_description:"Name of the app: small letters, digits and hyphens."`
	Pipeline entries[step]    `json:"pipeline" jsonschema_description:"Steps that turn a commit into a release. They run in a clean checkout, at the same time where needs lets them."`
	Services entries[service] `json:"services" jsonschema:"required,minProperties=1" jsonschema_description:"Programs and folders of files that make the app. Each has either static or command."`
	Jobs     entries[job]     `json:"jobs" jsonschema_description:"Commands of the current release that run on a schedule."`
	Volumes  entries[volume]  `json:"volumes" jsonschema_description:"Folders for data that outlives releases. Services and jobs say where they want them."`
	Secrets  needed           `json:"secrets" jsonschema_description:"Names of secrets that every stage must have before anything of it starts. Their values are set with lotse secrets set. A mapping with name and overlap: for so long after a change, instances get the value before beside the new one, as NAME_PREVIOUS."`
	Source   origin           `json:"source" jsonschema_description:"Where pushed commits come from. Without it: origin of the repository, or the repository itself where it has none."`
	Database database         `json:"database" jsonschema_description:"PostgreSQL of every stage, unless the stage says otherwise."`
	People   entries[text]    `json:"people" jsonschema_description:"What columns of the database hold of people, for masked copies: TABLE.COLUMN, or TABLE.COLUMN/KEY for a key in a column of JSON, and a kind: mail, phone, first-name, last-name, name, username, street, postcode, city, address, birthday, iban, bic, card, id, ip, mac, coordinates, url, text, token, json, drop or keep. What is not named here is found by name and content. docs/masked-copies.md has more."`
	AWS      cloud            `json:"aws" jsonschema_description:"Where the stages with engine: aws are. Nothing of it must be said."`
	Notify   entries[notice]  `json:"notify" jsonschema_description:"Who is told how rollouts end."`
	Gates    gates            `json:"gates" jsonschema_description:"What a release is asked on every stage before it gets traffic. What a stage says takes the place of it, smoke and page_load each."`
	Leaks    leaks            `json:"leaks" jsonschema_description:"Keys in commits. A commit that carries one is refused, unless it is allowed here."`
	Stages   entries[stage]   `json:"stages" jsonschema:"required,minProperties=1" jsonschema_description:"Where the app runs, in the order of promotion: dev, staging, prod, or any names."`
}

type step struct {
	Run     text     `json:"run" jsonschema:"required,minLength=1,example=npm ci" jsonschema_description:"What to run, as a line of sh. It ends at the first command that fails."`
	In      text     `json:"in" jsonschema:"minLength=1,example=web" jsonschema_description:"Folder of the checkout to run in."`
	Reads   list     `json:"reads" jsonschema_description:"Files and folders, relative to in, whose bytes are all that the step depends on beside what it needs. Without reads: everything in the commit. A step whose inputs did not change is not run again."`
	Makes   list     `json:"makes" jsonschema_description:"Files and folders, relative to in, that the step leaves for others. They must exist when it ends."`
	Needs   list     `json:"needs" jsonschema_description:"Steps that must be done before, and whose outputs this one sees."`
	Public  list     `json:"public" jsonschema_description:"Variables of the stage that the step bakes into what it makes, such as VITE_MAPBOX_TOKEN. Everybody can read them there, so they are no secrets."`
	Timeout duration `json:"timeout" jsonschema_description:"Time after which the step is ended and has failed."`
}

type service struct {
	Static    text          `json:"static" jsonschema:"minLength=1,example=web/dist" jsonschema_description:"Folder of files to serve. Not together with command."`
	Fallback  text          `json:"fallback" jsonschema:"minLength=1,example=index.html" jsonschema_description:"File in static that answers paths without a file, for single-page apps."`
	Immutable list          `json:"immutable" jsonschema_description:"Patterns of files in static that browsers may keep for ever, beside those that are recognised by the hash in their name. ** stands for any folders."`
	Command   text          `json:"command" jsonschema:"minLength=1,example=bin/api" jsonschema_description:"Program to run, in the folder of the release. It listens on HOST and PORT. Not together with static."`
	Path      text          `json:"path" jsonschema:"pattern=^/,example=/api" jsonschema_description:"Beginning of the URLs that this service answers; the longest wins. It is not cut off. A service with static has / where nothing is said; a service with command and without path is a worker, which has no address."`
	Health    text          `json:"health" jsonschema:"pattern=^/,example=/api/health" jsonschema_description:"Path that answers 2xx when an instance is well. Without it, a connection is enough."`
	Instances count         `json:"instances" jsonschema:"minimum=1,maximum=100" jsonschema_description:"How many copies run at once."`
	Memory    size          `json:"memory" jsonschema_description:"Most memory that an instance may have. Without it: no limit."`
	CPUs      cores         `json:"cpus" jsonschema_description:"Most processor time that an instance may have, in cores. Without it: no limit."`
	Volumes   entries[text] `json:"volumes" jsonschema_description:"Volumes of the app, by name, and where each lies in the folder of the release."`
	Start     duration      `json:"start" jsonschema_description:"Time in which an instance must become healthy."`
	Drain     duration      `json:"drain" jsonschema_description:"Time in which an instance that is taken away may finish what it is doing."`
	Files     list          `json:"files" jsonschema_description:"Files and folders of the commit that the command needs beside what the steps make, from the root of the checkout."`
}

type job struct {
	Command  text          `json:"command" jsonschema:"required,minLength=1,example=bin/api expire" jsonschema_description:"Program to run once, in the folder of the release."`
	Schedule text          `json:"schedule" jsonschema:"required,minLength=1,example=*/15 * * * *,example=@daily" jsonschema_description:"Five fields of cron, or @hourly, @daily, @weekly, @every 10m. UTC unless it begins with CRON_TZ=Europe/Berlin and a blank."`
	Timeout  duration      `json:"timeout" jsonschema_description:"Time after which the job is ended."`
	Volumes  entries[text] `json:"volumes" jsonschema_description:"Volumes of the app, by name, and where each lies in the folder of the release."`
}

type volume struct{}

type origin struct {
	Remote text `json:"remote" jsonschema:"minLength=1,example=https://git.example.org/shop.git" jsonschema_description:"URL of the git repository to watch."`
	Token  text `json:"token" jsonschema:"minLength=1,example=GIT_TOKEN" jsonschema_description:"Name of the secret that opens remote."`
	Paths  list `json:"paths" jsonschema_description:"Patterns of files. A push that changes none of them starts nothing. ** stands for any folders."`
	Ignore list `json:"ignore" jsonschema_description:"Patterns of files whose changes do not count, such as docs/**."`
}

type database struct {
	Postgres   count `json:"postgres" jsonschema:"minimum=13,maximum=99,example=15" jsonschema_description:"Major version of the PostgreSQL that Lotse runs for each stage alone. Services find it by DATABASE_URL. Not together with url."`
	URL        text  `json:"url" jsonschema:"minLength=1,example=DATABASE_URL" jsonschema_description:"Name of the secret that holds the address of a PostgreSQL that somebody else runs. Not together with postgres."`
	Migrations text  `json:"migrations" jsonschema:"minLength=1,example=db/migrations" jsonschema_description:"Folder with SQL files. What of them the database has not seen is run before the release starts, in the order of their names, once. Not together with migrate."`
	Migrate    text  `json:"migrate" jsonschema:"minLength=1,example=npx prisma migrate deploy" jsonschema_description:"Program that migrates by itself, run in the folder of the release before the release starts, and tried on a clone of the database before. Not together with migrations. docs/database.md has more."`
	History    text  `json:"history" jsonschema:"minLength=1,example=public.my_migrations" jsonschema_description:"Table in which migrate notes what it has run, where it is none that Lotse knows of a tool."`

	Snapshots snapshots `json:"snapshots" jsonschema_description:"Copies of the database and the volumes: daily, before a migration, and by hand. off: by hand alone. Or a mapping with at, keep, to, check and drills; docs/restore.md has more."`
}

type cloud struct {
	Region     text    `json:"region" jsonschema:"minLength=1,example=eu-central-1" jsonschema_description:"Region of everything but the certificate of CloudFront, which can only be in us-east-1 and holds no personal data."`
	Account    text    `json:"account" jsonschema:"pattern=^[0-9]{12}$,example=123456789012" jsonschema_description:"Account that the credentials must belong to. Without it: whichever they are of."`
	Zone       text    `json:"zone" jsonschema:"minLength=1,example=whatsgonow.com" jsonschema_description:"Hosted zone in Route 53 that has the stages' hosts. Without it you make the records yourself."`
	Balancer   text    `json:"balancer" jsonschema:"enum=shared,enum=own,example=shared" jsonschema_description:"shared: one load balancer for all stages; a shift takes seconds. own: one for each environment; a shift swaps their names and takes as long as DNS."`
	Instance   text    `json:"instance" jsonschema:"minLength=1,example=t3.small" jsonschema_description:"EC2 instance type. Without it: the smallest that is usual for the machine that builds."`
	Database   text    `json:"database" jsonschema:"minLength=1,example=db.t4g.micro" jsonschema_description:"RDS instance class."`
	Repository text    `json:"repository" jsonschema:"pattern=^[^/]+/[^/]+$,example=whatsgonow/app" jsonschema_description:"Repository on GitHub whose workflows may deploy, without a key that lasts."`
	Budget     dollars `json:"budget" jsonschema:"minimum=1,maximum=1000000,example=150" jsonschema_description:"US dollars a month at which people are told."`
	OutsideEU  text    `json:"outside_eu" jsonschema:"minLength=10,example=Art. 45 GDPR: decision 2021/1772 on the United Kingdom" jsonschema_description:"Why a region outside the European Union is lawful for this app. Without it such a region is refused."`
}

type notice struct {
	Slack   text `json:"slack" jsonschema:"minLength=1,example=SLACK_WEBHOOK" jsonschema_description:"Name of the secret that holds the URL of an incoming webhook of Slack."`
	Discord text `json:"discord" jsonschema:"minLength=1,example=DISCORD_WEBHOOK" jsonschema_description:"Name of the secret that holds the URL of a webhook of Discord."`
	Webhook text `json:"webhook" jsonschema:"minLength=1,example=DEPLOY_HOOK" jsonschema_description:"Name of the secret that holds a URL to which JSON is posted."`
	On      list `json:"on" jsonschema_description:"success, failure, or both, which is what stands where nothing is said."`
	Stages  list `json:"stages" jsonschema_description:"Stages whose rollouts are told. Without it: all."`
}

type stage struct {
	Engine    text           `json:"engine" jsonschema:"minLength=1,example=local" jsonschema_description:"What runs the stage."`
	URL       text           `json:"url" jsonschema:"required,pattern=^https://[^/?#]+$,example=https://dev.whatsgonow.localhost" jsonschema_description:"Address of the stage: https and the host. Names that end with .localhost are reached on this machine alone."`
	Redirects list           `json:"redirects" jsonschema_description:"Further addresses, sent to url with their path and query."`
	EnvFile   text           `json:"env_file" jsonschema:"minLength=1,example=.env" jsonschema_description:"File with variables that is not in the commit, beside lotse.yaml. It is for its owner alone (chmod 600)."`
	Env       entries[value] `json:"env" jsonschema_description:"Variables for all services and jobs of the stage that are no secret. env_file wins over them."`
	On        push           `json:"on" jsonschema_description:"What starts a rollout by itself. At the first stage: push and the name of a branch, and after at the times of cron where it is not to be at once. At a later stage: schedule and the times at which what the stage before serves is promoted. At any stage: tag and a pattern; a pushed tag that matches starts a deploy of its commit, or at a later stage the promotion of the release of its commit. UTC unless the times begin with CRON_TZ=Europe/Berlin."`
	Access    access         `json:"access" jsonschema_description:"open: everybody may see it. private: with its password alone, and search engines are asked to stay away. Where nothing is said, prod and production are open and every other stage is private."`
	Database  database       `json:"database" jsonschema_description:"PostgreSQL of this stage, in place of the app's."`
	Gates     gates          `json:"gates" jsonschema_description:"What a release is asked here before it gets traffic: smoke and page_load, each in place of the app's."`
	Watch     duration       `json:"watch" jsonschema_description:"How long a release is watched after it got all traffic, before the rollout ends."`
	Warm      duration       `json:"warm" jsonschema_description:"How long the release before stays up after that, for going back at once."`
	Stable    duration       `json:"stable" jsonschema_description:"How long a release must be healthy before it gets traffic."`
	Drain     duration       `json:"drain" jsonschema_description:"Takes the place of the services' drain on this stage."`
	OldFiles  duration       `json:"old_files" jsonschema_description:"How long files with a hash in their names stay after the end of a release, for tabs that are still open. 0s: not at all."`
	Approvals consent        `json:"approvals" jsonschema_description:"How many people have to approve a release before it comes here, with lotse approve: a number, or a mapping with people, by, not_author and within. docs/rules.md has more."`
	SignOff   consent        `json:"sign_off" jsonschema_description:"Who signs a release off before it leaves for the next stage, with lotse signoff: as approvals."`
	Freeze    freeze         `json:"freeze" jsonschema_description:"When the stage takes nothing but hotfixes: always, or a mapping with from, to and reason."`
	Hotfix    text           `json:"hotfix" jsonschema:"minLength=3,example=[hotfix],example=Hotfix: yes" jsonschema_description:"What the message of a hotfix holds. Where nothing is said: [hotfix]."`
	Closed    list           `json:"closed" jsonschema_description:"Times in which no rollout begins, such as Fri 16:00 - Mon 07:00 Europe/Berlin, 22:00 - 06:00, or 2026-12-24 - 2026-12-26; UTC where no zone is named."`
	Strategy  strategy       `json:"strategy" jsonschema_description:"How the stage goes to the next release. blue-green: the new one starts beside the old one and gets all traffic at once. canary: it gets shares of the traffic first. recreate: the old one is stopped before the new one starts, for what cannot run twice."`
	Canary    canary         `json:"canary" jsonschema_description:"Steps of a canary: a share of the traffic, and how long the release is watched with it. Where the strategy is canary and nothing is said: [5% for 2m, 25% for 2m]."`
	Limits    limits         `json:"limits" jsonschema_description:"What no release may go beyond while it is watched: errors, p95, and requests, which is how many of clients it takes. docs/rollouts.md has more."`
}

// app makes the nouns of deploy. Paths are cleaned, so that dist/ and ./dist are dist.
func (d *document) app() deploy.App {
	a := deploy.App{Name: string(d.App)}
	for _, e := range d.Pipeline {
		s := e.value
		a.Pipeline = append(a.Pipeline, deploy.StepSpec{Name: e.name, Run: string(s.Run), In: clean(string(s.In)), Reads: cleanAll(s.Reads),
			Makes: cleanAll(s.Makes), Needs: s.Needs.strings(),
			Public: s.Public.strings(), Timeout: time.Duration(s.Timeout)})
	}
	for _, e := range d.Services {
		a.Services = append(a.Services, e.value.service(e.name))
	}
	for _, e := range d.Jobs {
		j := e.value
		a.Jobs = append(a.Jobs, deploy.Job{Name: e.name, Command: string(j.Command), Schedule: string(j.Schedule),
			Timeout: time.Duration(j.Timeout), Volumes: mounts(j.Volumes)})
	}
	for _, e := range d.Volumes {
		a.Volumes = append(a.Volumes, e.name)
	}
	for _, e := range d.People {
		a.People = append(a.People, deploy.PersonalColumn{Column: e.name, Kind: privacy.Kind(e.value)})
	}
	a.Secrets = d.Secrets.names()
	a.Source = deploy.Source{Remote: string(d.Source.Remote), Token: string(d.Source.Token), Paths: d.Source.Paths.strings(), Ignore: d.Source.Ignore.strings()}
	for _, e := range d.Notify {
		a.Notify = append(a.Notify, e.value.notices(e.name)...)
	}
	a.Gates = d.Gates.gates()
	a.Leaks = d.Leaks.Allow.leaks()
	for _, e := range d.Stages {
		s := e.value.stage(e.name, d.Database)
		s.Gates = e.value.Gates.gates().Or(a.Gates)
		s.Overlap = d.Secrets.overlap()
		if s.Engine == "aws" {
			s.AWS = d.AWS.aws()
			s.AWS.Static = a.Static()
		}
		a.Stages = append(a.Stages, s)
	}
	return a
}

func (s *service) service(name string) deploy.Service {
	return deploy.Service{Name: name, Static: clean(string(s.Static)), Fallback: clean(string(s.Fallback)), Immutable: s.Immutable.strings(),
		Command: string(s.Command), Path: string(s.Path), Health: string(s.Health), Instances: int(s.Instances), Memory: int64(s.Memory),
		CPUs: float64(s.CPUs), Files: cleanAll(s.Files), Volumes: mounts(s.Volumes), Start: time.Duration(s.Start), Drain: time.Duration(s.Drain)}
}

func (s *stage) stage(name string, base database) deploy.Stage {
	db := s.Database
	if said := db.Snapshots; db == (database{Snapshots: said}) { // of the rest it says nothing
		db = base
		if said != (snapshots{}) {
			db.Snapshots = said
		}
	}
	st := deploy.Stage{Private: private(name, s.Access), On: deploy.Push(s.On), Database: db.database(),
		Name: name, Engine: string(s.Engine), URL: string(s.URL), Redirects: s.Redirects.strings(), EnvFile: clean(string(s.EnvFile)),
		Watch: time.Duration(s.Watch), Warm: time.Duration(s.Warm), Stable: time.Duration(s.Stable), Drain: time.Duration(s.Drain), OldFiles: time.Duration(s.OldFiles),
		Approvals: s.Approvals.wants(approvalsCount), SignOff: s.SignOff.wants(0), Freeze: s.Freeze.freeze(), Hotfix: string(s.Hotfix), Closed: s.Closed.strings(),
		Strategy: deploy.Strategy(s.Strategy), Canary: s.Canary.steps(s.Strategy), Limits: s.Limits.limits()}
	if len(s.Env) > 0 {
		st.Env = map[string]string{}
	}
	for _, e := range s.Env {
		st.Env[e.name] = string(e.value)
	}
	return st
}

// private is what a stage is where the file says nothing: what is not called prod is for the team.
func private(name string, a access) bool {
	if a != "" {
		return a == "private"
	}
	return name != "prod" && name != "production"
}

func (d database) database() deploy.Database {
	if d == (database{}) {
		return deploy.Database{}
	}
	return deploy.Database{Postgres: int(d.Postgres), URL: string(d.URL), Migrations: clean(string(d.Migrations)), Migrate: string(d.Migrate), History: string(d.History), Snapshots: d.Snapshots.rule()}
}

func (c *cloud) aws() deploy.AWS {
	return deploy.AWS{Region: string(c.Region), Account: string(c.Account), Zone: string(c.Zone), Balancer: string(c.Balancer),
		Instance: string(c.Instance), Database: string(c.Database), Repository: string(c.Repository), Budget: int(c.Budget), OutsideEU: string(c.OutsideEU)}
}

// notices has one for every address that is given; Problems wants exactly one.
func (n *notice) notices(name string) (all []deploy.Notice) {
	for _, way := range []struct{ kind, url string }{{"slack", string(n.Slack)}, {"discord", string(n.Discord)}, {"webhook", string(n.Webhook)}} {
		if way.url != "" {
			all = append(all, deploy.Notice{Name: name, Kind: way.kind, URL: way.url, On: n.On.strings(), Stages: n.Stages.strings()})
		}
	}
	if len(all) == 0 {
		all = append(all, deploy.Notice{Name: name})
	}
	return all
}

func mounts(of entries[text]) (m []deploy.VolumeMount) {
	for _, e := range of {
		m = append(m, deploy.VolumeMount{Volume: e.name, Path: clean(string(e.value))})
	}
	return m
}

// clean leaves what is empty as it is: it is missing, not the folder ".".
func clean(p string) string {
	if p == "" {
		return ""
	}
	return path.Clean(p)
}

func cleanAll(l list) []string {
	all := l.strings()
	for i := range all {
		all[i] = clean(all[i])
	}
	return all
}

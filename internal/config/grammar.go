package config

import (
	"path"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
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
	Stages   entries[stage]   `json:"stages" jsonschema:"required,minProperties=1" jsonschema_description:"Where the app runs, in the order of promotion: dev, staging, prod, or any names."`
}

type step struct {
	Run     text     `json:"run" jsonschema:"required,minLength=1,example=npm ci" jsonschema_description:"What to run, as a line of sh. It ends at the first command that fails."`
	In      text     `json:"in" jsonschema:"minLength=1,example=web" jsonschema_description:"Folder of the checkout to run in."`
	Reads   list     `json:"reads" jsonschema_description:"Files and folders, relative to in, whose bytes are all that the step depends on beside what it needs. Without reads: everything in the commit. A step whose inputs did not change is not run again."`
	Makes   list     `json:"makes" jsonschema_description:"Files and folders, relative to in, that the step leaves for others. They must exist when it ends."`
	Needs   list     `json:"needs" jsonschema_description:"Steps that must be done before, and whose outputs this one sees."`
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

type stage struct {
	Engine    text           `json:"engine" jsonschema:"minLength=1,example=local" jsonschema_description:"What runs the stage."`
	URL       text           `json:"url" jsonschema:"required,pattern=^https://[^/?#]+$,example=https://dev.whatsgonow.localhost" jsonschema_description:"Address of the stage: https and the host. Names that end with .localhost are reached on this machine alone."`
	Redirects list           `json:"redirects" jsonschema_description:"Further addresses, sent to url with their path and query."`
	EnvFile   text           `json:"env_file" jsonschema:"minLength=1,example=.env" jsonschema_description:"File with variables that is not in the commit, beside lotse.yaml. It is for its owner alone (chmod 600)."`
	Env       entries[value] `json:"env" jsonschema_description:"Variables for all services and jobs of the stage that are no secret. env_file wins over them."`
	Watch     duration       `json:"watch" jsonschema_description:"How long a release is watched after it got all traffic, before the rollout ends."`
	Warm      duration       `json:"warm" jsonschema_description:"How long the release before stays up after that, for going back at once."`
	Stable    duration       `json:"stable" jsonschema_description:"How long a release must be healthy before it gets traffic."`
	Drain     duration       `json:"drain" jsonschema_description:"Takes the place of the services' drain on this stage."`
}

// app makes the nouns of deploy. Paths are cleaned, so that dist/ and ./dist are dist.
func (d *document) app() deploy.App {
	a := deploy.App{Name: string(d.App)}
	for _, e := range d.Pipeline {
		s := e.value
		a.Pipeline = append(a.Pipeline, deploy.StepSpec{Name: e.name, Run: string(s.Run), In: clean(string(s.In)), Reads: cleanAll(s.Reads),
			Makes: cleanAll(s.Makes), Needs: s.Needs.strings(), Timeout: time.Duration(s.Timeout)})
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
	for _, e := range d.Stages {
		a.Stages = append(a.Stages, e.value.stage(e.name))
	}
	return a
}

func (s *service) service(name string) deploy.Service {
	return deploy.Service{Name: name, Static: clean(string(s.Static)), Fallback: clean(string(s.Fallback)), Immutable: s.Immutable.strings(),
		Command: string(s.Command), Path: string(s.Path), Health: string(s.Health), Instances: int(s.Instances), Memory: int64(s.Memory),
		CPUs: float64(s.CPUs), Files: cleanAll(s.Files), Volumes: mounts(s.Volumes), Start: time.Duration(s.Start), Drain: time.Duration(s.Drain)}
}

func (s *stage) stage(name string) deploy.Stage {
	st := deploy.Stage{Name: name, Engine: string(s.Engine), URL: string(s.URL), Redirects: s.Redirects.strings(), EnvFile: clean(string(s.EnvFile)),
		Watch: time.Duration(s.Watch), Warm: time.Duration(s.Warm), Stable: time.Duration(s.Stable), Drain: time.Duration(s.Drain)}
	if len(s.Env) > 0 {
		st.Env = map[string]string{}
	}
	for _, e := range s.Env {
		st.Env[e.name] = string(e.value)
	}
	return st
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

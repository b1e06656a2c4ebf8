package aws

import "github.com/lotse-eu/lotse/internal/deploy"

// SetBundleMost makes the engine refuse bundles with more bytes than that.
func SetBundleMost(e *Engine, most int64) { e.most = most }

// EnvironmentName is the environment of a rollout.
func EnvironmentName(e *Engine, rollout string) string { return e.environmentName(rollout) }

// Rewrite is the path of the file that answers uri where these services are served.
func Rewrite(services []deploy.Service, uri string) string {
	var note siteNote
	for _, s := range services {
		note.Services = append(note.Services, siteServiceOf(s))
	}
	return note.rewrite(uri)
}

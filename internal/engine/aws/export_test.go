package aws

import (
	"context"

	"github.com/lotse-eu/lotse/internal/deploy"
)

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

// MakeRoom prunes the versions of the stage and asks the quotas, as each start does.
func MakeRoom(ctx context.Context, e *Engine) error {
	s, err := e.outputs(ctx)
	if err == nil {
		err = e.makeRoom(ctx, s, 1)
	}
	return e.failed(ctx, "make room", err)
}

// ForgetLogs deletes the logs of environments that are gone, as each stop does.
func ForgetLogs(ctx context.Context, e *Engine) error { return e.forgetLogs(ctx) }

// LogGroup is where an environment's output is.
func LogGroup(environment string) string { return logGroup(environment) }

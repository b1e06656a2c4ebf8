package main

import (
	"context"
	"os"

	"github.com/lotse-eu/lotse/internal/pipeline"
	"github.com/lotse-eu/lotse/internal/process"
)

// sourceUser is who git runs as, for repositories elsewhere, where Lotse runs as root. Nothing else has the number (systemd leaves it
// unused, UIDS-GIDS.md): no step of a pipeline can look at a token in the environment of git.
const sourceUser = 61183

func openSources(p place) (*pipeline.Sources, error) {
	var user *process.User
	if os.Getuid() == 0 {
		user = &process.User{UID: sourceUser, GID: sourceUser}
	}
	return pipeline.OpenSources(pipeline.SourcesConfig{Dir: p.at("sources"), User: user})
}

// installHook has git run `lotse pushed` of this binary, for the controller of this state folder.
func installHook(ctx context.Context, dir, state string) ([]string, error) {
	exe, err := self()
	if err != nil {
		return nil, err
	}
	return pipeline.InstallHook(ctx, dir, []string{exe, "--state", state, "pushed"})
}

package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Pushed tells the stages that the script has watched.
func (h *harbour) Pushed(_ context.Context, dir string) (told []deploy.StageRef, err error) {
	for _, st := range h.Stages {
		if st.Watches != nil {
			told = append(told, st.Stage)
		}
	}
	return told, h.note("pushed", filepath.Base(dir))
}

func installHookForTests(_ context.Context, dir, _ string) ([]string, error) {
	if filepath.Base(dir) == "other" {
		return nil, deploy.Hint(fmt.Errorf("%w: there is a hook hooks/post-commit already", deploy.ErrRefused), "add this line to it: 'lotse' 'pushed' &")
	}
	return []string{"hooks/post-commit", "hooks/post-merge"}, nil
}

func removeHookForTests(_ context.Context, dir string) ([]string, error) {
	if filepath.Base(dir) == "other" {
		return nil, nil
	}
	return []string{"hooks/post-commit"}, nil
}

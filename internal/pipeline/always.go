package pipeline

import (
	"context"
	"fmt"
	"path"
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

// migrations are the folders of the commit with the migrations of the stages, sorted.
func (r *run) migrations() []string {
	var all []string
	for _, s := range r.app.Stages {
		if m := s.Database.Migrations; m != "" {
			all = append(all, path.Clean(m))
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// always adds what a rollout reads of every release, so that it needs neither the repository nor the work tree: lotse.yaml and the
// migrations.
func (r *run) always(ctx context.Context, files map[string]depot.Entry) error {
	const file = "lotse.yaml"
	folders := r.migrations()
	tree, err := r.sourceTree(ctx, func(p string) bool {
		return p == file || slices.ContainsFunc(folders, func(m string) bool { return below(p, m) })
	})
	if err != nil {
		return err
	}
	for _, m := range folders {
		if !slices.ContainsFunc(tree, func(e depot.Entry) bool { return below(e.Path, m) }) {
			return deploy.Hint(fmt.Errorf("%w: the commit has no %s, where the migrations are to be", deploy.ErrBuild, m), "commit them, or correct `migrations`")
		}
	}
	for _, e := range tree {
		if e.Path == file {
			e.Path = deploy.LotseFile
		}
		files[e.Path] = e
	}
	return nil
}

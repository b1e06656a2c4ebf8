package infra

import (
	"fmt"
	"slices"
	"strings"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Dockerfile writes an image of a release with Lotse's front as its first process, and what the build must not take along. It is built in
// the folder of a release that Lotse has put together for an instance (.lotse/bin/lotse, .lotse/front.json): nothing is compiled in it, so
// that the bytes are those that every other stage has. No stage on AWS is needed.
func Dockerfile(app deploy.App, _ Options) ([]File, error) {
	if len(app.Services) == 0 {
		return nil, deploy.Hint(fmt.Errorf("%w: %s has no service", deploy.ErrBadInput, app.Name), "an image must have something to run")
	}
	base := "debian:trixie-slim"
	node, mounts := false, false
	for _, s := range app.Services {
		node = node || wantsNode(s.Command)
		mounts = mounts || len(s.Volumes) > 0
	}
	if node {
		base = "node:24-trixie-slim"
	}
	data := map[string]any{"App": app.Name, "Base": base, "Node": node, "Mounts": mounts}
	var files []File
	for _, f := range []struct{ name, template string }{{"Dockerfile", "Dockerfile"}, {".dockerignore", "dockerignore"}} {
		text, err := fill(f.template, data)
		if err != nil {
			return nil, err
		}
		files = append(files, File{f.name, tidy(text)})
	}
	return files, nil
}

// wantsNode reports whether a command is run by Node.js; everything else is a program that runs by itself.
func wantsNode(command string) bool {
	first, _, _ := strings.Cut(strings.TrimSpace(command), " ")
	return slices.Contains([]string{"node", "npm", "npx", "yarn", "pnpm", "next"}, first)
}

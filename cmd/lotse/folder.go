package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/lotse-eu/lotse/internal/cli"
	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/pipeline"
	"github.com/lotse-eu/lotse/internal/postgres"
)

// outline is what commands need to know of lotse.yaml in a folder.
func outline(dir string) (cli.Outline, error) {
	data, err := os.ReadFile(filepath.Join(dir, "lotse.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return cli.Outline{}, fmt.Errorf("%w: there is no lotse.yaml in this folder", deploy.ErrNotFound)
	}
	if err != nil {
		return cli.Outline{}, fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	}
	app, err := config.Read("lotse.yaml", data)
	if err != nil {
		return cli.Outline{}, err
	}
	o := cli.Outline{App: app.Name}
	for _, s := range app.Stages {
		o.Stages = append(o.Stages, s.Name)
		if s.Private {
			o.Private = append(o.Private, s.Name)
		}
		if home := s.Home(); home != (deploy.Home{}) {
			if o.Homes == nil {
				o.Homes = map[string]deploy.Home{}
			}
			o.Homes[s.Name] = home
		}
		if s.Database.Own() {
			o.Owned = append(o.Owned, s.Name)
		}
		if o.Uses == nil {
			o.Uses = map[string]map[string][]string{}
		}
		o.Uses[s.Name], o.Overlap = app.Uses(s), s.Overlap // of every stage the same
	}
	for _, s := range app.Pipeline {
		o.Public = append(o.Public, s.Public...)
	}
	slices.Sort(o.Public)
	o.Public = slices.Compact(o.Public)
	return o, nil
}

// who is the person as git knows them in a folder; where it does not, the user's name, without an address.
func who(dir string) deploy.Person {
	p := deploy.Person{Name: gitConfig(dir, "user.name"), Mail: gitConfig(dir, "user.email")}
	if p != (deploy.Person{}) {
		return p
	}
	u, err := user.Current()
	if err != nil {
		return deploy.Person{Name: "user " + strconv.Itoa(os.Getuid())}
	}
	name, _, _ := strings.Cut(u.Name, ",") // the first field of GECOS, passwd(5)
	return deploy.Person{Name: cmp.Or(name, u.Username)}
}

// gitConfig reads one setting; without git, or without the setting, it is empty. The environment's GIT_… variables have no say.
func gitConfig(dir, name string) string {
	cmd := exec.Command("git", "config", "--get", name)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "XDG_CONFIG_HOME=" + os.Getenv("XDG_CONFIG_HOME"), "LC_ALL=C"}
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

// keys looks for keys in a folder that is in git, as a deploy would in the commit.
func keys(ctx context.Context, dir string, data []byte) (said []string, err error) {
	app, err := config.Read("lotse.yaml", data)
	if err != nil {
		return nil, err
	}
	leaks, err := pipeline.LeaksInFolder(ctx, dir)
	if errors.Is(err, deploy.ErrBadInput) {
		return []string{"the folder was not looked through for keys: it is in no git repository"}, nil
	}
	if err != nil {
		return nil, err
	}
	left, idle := app.Unallowed(leaks.Found)
	if len(left) > 0 {
		return nil, &deploy.LeakError{Where: "this folder", Leaks: left}
	}
	for _, one := range idle {
		if one.Rule != deploy.KnownValue { // only a controller knows the values
			said = append(said, one.Idle())
		}
	}
	return said, nil
}

// remarks names the files with variables that are not there: they are not in the commit, so that a fresh clone has none.
func remarks(dir string, data []byte) []string {
	app, err := config.Read("lotse.yaml", data)
	if err != nil {
		return nil
	}
	stages := map[string][]string{} // by file
	var files []string
	for _, s := range app.Stages {
		if s.EnvFile == "" || filepath.IsAbs(s.EnvFile) {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, s.EnvFile)); !errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if stages[s.EnvFile] == nil {
			files = append(files, s.EnvFile)
		}
		stages[s.EnvFile] = append(stages[s.EnvFile], s.Name)
	}
	said := unjudgeable(app, postgres.Find)
	for _, file := range files {
		said = append(said, fmt.Sprintf("env_file of %s: there is no file %s beside lotse.yaml; a deploy from this folder needs it", strings.Join(stages[file], ", "), file))
	}
	return said
}

// unjudgeable says that migrations are not judged where the controller's machine is like this one.
func unjudgeable(app deploy.App, find func() (postgres.Binaries, error)) (said []string) {
	var stages []string
	for _, s := range app.Stages {
		if s.Database.Migrates() {
			stages = append(stages, s.Name)
		}
	}
	if len(stages) == 0 {
		return nil
	}
	if _, err := find(); err != nil {
		said = append(said, fmt.Sprintf("migrations of %s: no PostgreSQL is installed here; they are judged on the controller's machine, and without one there a release that migrates is refused while another serves", strings.Join(stages, ", ")))
	}
	return said
}

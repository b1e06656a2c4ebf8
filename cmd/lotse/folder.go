package main

import (
	"cmp"
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
	var said []string
	for _, file := range files {
		said = append(said, fmt.Sprintf("env_file of %s: there is no file %s beside lotse.yaml; a deploy from this folder needs it", strings.Join(stages[file], ", "), file))
	}
	return said
}

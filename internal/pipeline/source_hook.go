package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// hookMark begins the second line of every hook that is ours.
const hookMark = "# Written by `lotse hook install`"

// InstallHook has git run a command when something comes into the repository that holds dir: after a push where it is bare, else after a
// commit and after a merge. The command runs in the background with nothing to read and nowhere to write, so that git never waits for it.
// command is given the path of the repository as its last argument. It returns the hooks that are there then. A hook that somebody else
// wrote stays as it is: deploy.ErrRefused, with the line to add; then nothing is changed.
func InstallHook(ctx context.Context, dir string, command []string) ([]string, error) {
	repo, hooks, err := hooksOf(ctx, dir)
	if err != nil {
		return nil, err
	}
	line := hookLine(append(slices.Clip(command), repo))
	for _, at := range hooks {
		is, err := ours(at)
		if err != nil {
			return nil, err
		}
		if is == others {
			return nil, deploy.Hint(fmt.Errorf("%w: there is a hook %s already", deploy.ErrRefused, at), "add this line to it: "+line)
		}
	}
	for _, at := range hooks {
		text := "#!/bin/sh\n" + hookMark + "; `lotse hook remove` takes it away.\n" + line + "\n"
		if err := writeHook(at, text); err != nil {
			return nil, err
		}
	}
	return hooks, nil
}

// RemoveHook takes away what InstallHook has written, and returns what that was. What somebody else wrote stays.
func RemoveHook(ctx context.Context, dir string) (removed []string, err error) {
	_, hooks, err := hooksOf(ctx, dir)
	if err != nil {
		return nil, err
	}
	for _, at := range hooks {
		is, err := ours(at)
		if err != nil {
			return removed, err
		}
		if is != lotses {
			continue
		}
		if err := os.Remove(at); err != nil {
			return removed, err
		}
		removed = append(removed, at)
	}
	return removed, nil
}

// hooksOf names the hooks that a push comes by. A folder of hooks that the configuration names is not ours to write to: it may be in
// the work tree, or that of all repositories.
func hooksOf(ctx context.Context, dir string) (repo string, hooks []string, err error) {
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return "", nil, fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	}
	g := gitIn(dir)
	said, err := g.output(ctx, "rev-parse", "--path-format=absolute", "--git-common-dir", "--is-bare-repository")
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", dir, err)
	}
	repo, bare, _ := strings.Cut(strings.TrimSuffix(said, "\n"), "\n")
	names := []string{"post-commit", "post-merge"}
	if bare == "true" {
		names = []string{"post-receive"}
	}
	for _, name := range names {
		hooks = append(hooks, filepath.Join(repo, "hooks", name))
	}
	return repo, hooks, elsewhere(ctx, g, repo)
}

// elsewhere refuses a repository whose hooks lie in another folder.
func elsewhere(ctx context.Context, g *git, repo string) error {
	of := *g
	of.args = without(g.args, "core.hooksPath=/dev/null")
	said, err := of.output(ctx, "config", "--get", "core.hooksPath")
	said = strings.TrimSpace(said)
	if err != nil || said == "" { // git-config(1) ends with 1 where nothing is set
		if said, err = os.Readlink(filepath.Join(repo, "hooks")); err != nil {
			return nil //nolint:nilerr // a folder, or nothing yet
		}
	}
	return deploy.Hint(fmt.Errorf("%w: the hooks of this repository are in %s", deploy.ErrRefused, said),
		"add this line to the hook there: "+hookLine([]string{"lotse", "pushed", repo}))
}

// without takes an option of git's (-c and its value) out of args.
func without(args []string, value string) (rest []string) {
	for i := 0; i < len(args); i++ {
		if args[i] == "-c" && i+1 < len(args) && args[i+1] == value {
			i++
			continue
		}
		rest = append(rest, args[i])
	}
	return rest
}

func hookLine(command []string) string {
	words := make([]string, len(command))
	for i, word := range command {
		words[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(words, " ") + " </dev/null >/dev/null 2>&1 &"
}

// whose a hook is.
type whose int

const (
	nobodys whose = iota
	lotses
	others
)

func ours(at string) (whose, error) {
	text, err := os.ReadFile(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if _, err := os.Lstat(at); err == nil {
			return others, nil // a link to nowhere
		}
		return nobodys, nil
	case err != nil:
		return others, err
	}
	_, second, _ := strings.Cut(string(text), "\n")
	if strings.HasPrefix(second, hookMark) {
		return lotses, nil
	}
	return others, nil
}

// writeHook writes the hook aside first, so that nobody runs half of it, and gives it to the owner of the repository.
func writeHook(at, text string) error {
	dir := filepath.Dir(at)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	aside, err := os.CreateTemp(dir, ".lotse-*")
	if err != nil {
		return err
	}
	defer os.Remove(aside.Name()) // it is gone when it was renamed
	defer aside.Close()
	if _, err := aside.WriteString(text); err != nil {
		return err
	}
	var st syscall.Stat_t
	if syscall.Stat(filepath.Dir(dir), &st) == nil && os.Geteuid() == 0 {
		if err := aside.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := errors.Join(aside.Chmod(0o755), aside.Close()); err != nil {
		return err
	}
	return os.Rename(aside.Name(), at)
}

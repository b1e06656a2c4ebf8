package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// untracked refuses a file that git has: its values are in the history, for everybody who ever gets the repository. A link is
// looked at, and what it leads to. A file that is not there is nobody's affair here.
func untracked(ctx context.Context, file string) error {
	places := []string{file}
	if target, err := filepath.EvalSymlinks(file); err == nil && target != file {
		places = append(places, target)
	}
	for _, place := range places {
		is, err := tracked(ctx, place)
		if err != nil {
			return err
		}
		name := filepath.Base(place)
		if is {
			return deploy.Hint(fmt.Errorf("%w: a tracked %s: whoever has the repository has the secrets in it", deploy.ErrBadInput, name),
				fmt.Sprintf("`git rm --cached %s`, add it to .gitignore, commit; and change the values in it, since the history keeps them", name))
		}
	}
	return nil
}

// tracked asks git whether a file is in its index.
func tracked(ctx context.Context, file string) (bool, error) {
	dir := filepath.Dir(file)
	repository := repositoryAbove(dir)
	if repository == "" {
		return false, nil
	}
	cmd := git(ctx, dir, repository, "--literal-pathspecs", "ls-files", "--error-unmatch", "--", filepath.Base(file))
	var said bytes.Buffer
	cmd.Stderr = &said
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return false, deploy.Hint(fmt.Errorf("%w: git is not installed, or not in PATH", deploy.ErrBadInput), "install git")
	case errors.As(err, &exit) && exit.ExitCode() == 1: // git-ls-files(1): --error-unmatch, and nothing matched
		return false, nil
	case strings.Contains(said.String(), "not a git repository"):
		return false, nil
	}
	return false, fmt.Errorf("%w: git does not say whether %s is tracked: %s (%w)", deploy.ErrBadInput, filepath.Base(file), strings.TrimSpace(said.String()), err)
}

// git runs the git binary in a folder, with nothing of this process's GIT_… variables, and without what a repository's own
// configuration could have it start. Root reads a repository of somebody else as that somebody.
func git(ctx context.Context, dir, repository string, args ...string) *exec.Cmd {
	all := []string{"-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"}
	home := os.Getenv("HOME")
	attributes := &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var st syscall.Stat_t
	if os.Geteuid() == 0 && syscall.Stat(repository, &st) == nil && st.Uid != 0 {
		attributes.Credential = &syscall.Credential{Uid: st.Uid, Gid: st.Gid}
		all = append(all, "-c", "safe.directory=*")
		home = "/"
		if u, err := user.LookupId(strconv.Itoa(int(st.Uid))); err == nil {
			home = u.HomeDir
		}
	}
	cmd := exec.CommandContext(ctx, "git", append(all, args...)...)
	cmd.Dir, cmd.SysProcAttr = dir, attributes
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0"}
	return cmd
}

// repositoryAbove finds what makes a folder a work tree, or "".
func repositoryAbove(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, ".git")); err == nil {
			return filepath.Join(at, ".git")
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}

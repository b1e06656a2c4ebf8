package pipeline

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// git runs the git binary on one repository.
//
// What a repository's own configuration names (hooks, filters, a file system monitor) would run with the rights of whoever
// calls git. Hooks and the monitor are off; and where root is asked for a repository of somebody else, git runs as that
// somebody, which is also why it does not complain of dubious ownership. Nothing of the caller's GIT_… variables gets in.
type git struct {
	args []string // before the command: where the repository is
	dir  string   // working directory
	env  []string
	as   *syscall.Credential
}

// gitIn is for a folder inside a work tree, or a bare repository.
func gitIn(dir string) *git { return newGit(dir, nil, repositoryAbove(dir)) }

// gitOf is for a git directory, as Commit.Repo is.
func gitOf(repo string) *git { return newGit(repo, []string{"--git-dir=" + repo}, repo) }

func newGit(dir string, where []string, owned string) *git {
	g := &git{dir: dir, args: []string{
		"--no-pager", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false",
		"-c", "log.showSignature=false", "-c", "i18n.logOutputEncoding=UTF-8",
	}}
	home := os.Getenv("HOME")
	var st syscall.Stat_t
	if os.Geteuid() == 0 && syscall.Stat(owned, &st) == nil && st.Uid != 0 {
		g.as = &syscall.Credential{Uid: st.Uid, Gid: st.Gid, NoSetGroups: false}
		g.args = append(g.args, "-c", "safe.directory=*")
		home = "/"
		if u, err := user.LookupId(strconv.Itoa(int(st.Uid))); err == nil {
			home = u.HomeDir
		}
	}
	g.args = append(g.args, where...)
	g.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_NO_REPLACE_OBJECTS=1",
		"GIT_OPTIONAL_LOCKS=0", "GIT_NO_LAZY_FETCH=1",
	}
	return g
}

// repositoryAbove finds what tells the owner of the repository that holds dir; dir itself where git will not find one either.
func repositoryAbove(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, ".git")); err == nil {
			return filepath.Join(at, ".git")
		}
		if at == filepath.Dir(at) {
			return dir
		}
	}
}

func (g *git) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", append(slices.Clip(g.args), args...)...)
	cmd.Dir, cmd.Env = g.dir, g.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: g.as, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// gitError is what git said when it failed.
type gitError struct {
	said string
	err  error
}

func (e *gitError) Error() string { return fmt.Sprintf("git says: %s (%v)", e.said, e.err) }
func (e *gitError) Unwrap() error { return e.err }

func (g *git) output(ctx context.Context, args ...string) (string, error) {
	cmd := g.command(ctx, args...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if err != nil {
		err = gitFailed(ctx, err, said.String())
	}
	return out.String(), err
}

// gitFailed makes a sentence of what every use of git may fail with.
func gitFailed(ctx context.Context, err error, said string) error {
	said = strings.TrimPrefix(strings.TrimSpace(said), "fatal: ")
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, exec.ErrNotFound):
		return deploy.Hint(fmt.Errorf("%w: git is not installed, or not in PATH", deploy.ErrBadInput), "install git")
	case strings.Contains(said, "not a git repository"):
		return deploy.Hint(fmt.Errorf("%w: the folder is not in a git repository", deploy.ErrBadInput),
			"run `git init`, then commit the app with its lotse.yaml")
	case strings.Contains(said, "dubious ownership"):
		return deploy.Hint(fmt.Errorf("%w: the repository belongs to another user", deploy.ErrBadInput),
			"run lotse as the owner of the repository, or `git config --global --add safe.directory` with its path")
	}
	return &gitError{said, err}
}

// blob is one object that blobs asks for.
type blob struct {
	object string
	use    func(r io.Reader, size int64) error // must read to the end
}

// blobs reads objects in order through one git process. A missing one is ErrNotFound.
func (g *git) blobs(ctx context.Context, wanted []blob) error {
	if len(wanted) == 0 {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := g.command(ctx, "cat-file", "--batch", "--buffer")
	var said bytes.Buffer
	cmd.Stderr = &said
	var names strings.Builder
	for _, b := range wanted {
		names.WriteString(b.object + "\n")
	}
	cmd.Stdin = strings.NewReader(names.String())
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return gitFailed(ctx, err, "")
	}
	err = readBlobs(bufio.NewReaderSize(out, 256<<10), wanted)
	if err != nil {
		cancel()
		_ = cmd.Wait()
		return err
	}
	if err := cmd.Wait(); err != nil {
		return gitFailed(ctx, err, said.String())
	}
	return nil
}

func readBlobs(r *bufio.Reader, wanted []blob) error {
	for _, b := range wanted {
		head, err := r.ReadString('\n')
		if err != nil {
			return fmt.Errorf("git ended before it gave %s: %w", b.object, err)
		}
		fields := strings.Fields(head[len(head)-min(len(head), 80):])
		if strings.HasSuffix(head, " missing\n") || len(fields) < 2 {
			return fmt.Errorf("%w: the repository does not have %s", deploy.ErrNotFound, b.object)
		}
		size, err := strconv.ParseInt(fields[len(fields)-1], 10, 64)
		if err != nil || fields[len(fields)-2] != "blob" {
			return fmt.Errorf("%w: %s is not a file", deploy.ErrNotFound, b.object)
		}
		body := &io.LimitedReader{R: r, N: size}
		if err := b.use(body, size); err != nil {
			return err
		}
		if body.N > 0 {
			return fmt.Errorf("git ended in the middle of %s: %w", b.object, io.ErrUnexpectedEOF)
		}
		if _, err := r.Discard(1); err != nil { // the line feed after it
			return err
		}
	}
	return nil
}

package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

// localHead is what was found at the end of a branch, and how the files looked in which git keeps that.
type localHead struct {
	marks string
	id    string
	at    time.Time
}

// trusted is how long nothing but the looks of files is believed.
const trusted = time.Minute

// marks are the looks of the files in which git keeps a branch: loose, packed, or in a reftable. Git writes each of them aside and
// renames it, so that a change is another file. Three system calls instead of a process are what makes a look every two seconds free.
func marks(repo, branch string) string {
	return looks(repo, filepath.Join("refs", "heads", filepath.FromSlash(branch)))
}

// looks are the looks of one loose ref, or of a folder of them: a file that comes, goes or is renamed changes its folder.
func looks(repo, ref string) string {
	var all strings.Builder
	for _, name := range []string{ref, "packed-refs", filepath.Join("reftable", "tables.list")} {
		var st syscall.Stat_t
		if err := syscall.Stat(filepath.Join(repo, name), &st); err != nil {
			fmt.Fprintf(&all, "%v;", err)
			continue
		}
		fmt.Fprintf(&all, "%d %d %d %d;", st.Ino, st.Size, st.Mtim.Nano(), st.Ctim.Nano())
	}
	return all.String()
}

// headOf is the end of a branch of a repository on this machine.
func (s *Sources) headOf(ctx context.Context, repo, branch string) (string, error) {
	if err := there(repo); err != nil {
		return "", err
	}
	key, now := repo+"\x00"+branch, localHead{marks: marks(repo, branch), at: time.Now()}
	s.mu.Lock()
	known, ok := s.heads[key]
	s.mu.Unlock()
	if ok && known.marks == now.marks && now.at.Sub(known.at) < trusted {
		return known.id, nil
	}
	said, err := local(repo).output(ctx, "for-each-ref", "--format=%(objectname) %(refname)", "refs/heads/"+branch)
	if err != nil {
		return "", away(err)
	}
	for line := range strings.Lines(said) {
		if id, name, _ := strings.Cut(strings.TrimSpace(line), " "); name == "refs/heads/"+branch {
			now.id = id
		}
	}
	s.mu.Lock()
	s.heads[key] = now
	s.mu.Unlock()
	return now.id, nil
}

// local runs git in somebody's repository on this machine, as its owner where we are root.
func local(repo string) *git {
	g := gitOf(repo)
	g.dir = "/"
	return g
}

// there reports whether a repository can be reached at all.
func there(repo string) error {
	_, err := os.Stat(repo)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: there is no repository any more at %s", deploy.ErrUnavailable, repo)
	case err != nil:
		return fmt.Errorf("%w: %w", deploy.ErrUnavailable, err)
	}
	return nil
}

// away says that a repository cannot be read now. What is wrong with it may be put right any time.
func away(err error) error {
	if err == nil || errors.Is(err, deploy.ErrUnavailable) {
		return err
	}
	return deploy.Hint(fmt.Errorf("%w: it cannot be read: %w", deploy.ErrUnavailable, err), deploy.HintOf(err))
}

// take copies a commit of a local repository, with what it comes from: git under the name of its owner writes a pack, git under ours
// checks and keeps it. Nothing but the objects crosses.
func (s *Sources) take(ctx context.Context, at, repo, id string) error {
	into := s.copied(at)
	if _, err := into.output(ctx, "cat-file", "-e", id+"^{commit}"); err == nil {
		return nil // it came before, and whatever comes is whole
	}
	have, err := into.output(ctx, "for-each-ref", "--format=^%(objectname)")
	if err != nil {
		return err
	}
	if err = s.pack(ctx, into, repo, id+"\n"+have); err != nil && have != "" && ctx.Err() == nil {
		err = s.pack(ctx, into, repo, id+"\n") // it does not know what we have: history was rewritten, and forgotten
	}
	return err
}

func (s *Sources) pack(caller context.Context, into *git, repo, wanted string) error {
	ctx, cancel := context.WithCancel(caller)
	defer cancel()
	give := local(repo).command(ctx, "pack-objects", "--revs", "--thin", "--stdout", "--delta-base-offset", "-q")
	keep := into.command(ctx, "index-pack", "--stdin", "--fix-thin", "--strict")
	give.Stdin = strings.NewReader(wanted)
	var saidGive, saidKeep tailWriter
	give.Stderr, keep.Stderr, keep.Stdout = &saidGive, &saidKeep, io.Discard
	pipe, err := give.StdoutPipe()
	if err != nil {
		return err
	}
	keep.Stdin = pipe
	if err := start(ctx, give, keep); err != nil {
		return err
	}
	kept := keep.Wait()
	if kept != nil {
		cancel()
	}
	if err := give.Wait(); err != nil && kept == nil {
		return gitFailed(caller, err, saidGive.String())
	}
	if kept != nil {
		// Cut off in the middle, the reason is on the other side; a reader that ended first has its own.
		if said := saidGive.String(); said != "" {
			return gitFailed(caller, kept, said) // it was cut off, and this is why
		}
		return gitFailed(caller, kept, saidKeep.String())
	}
	return nil
}

func start(ctx context.Context, give, keep *exec.Cmd) error {
	if err := keep.Start(); err != nil {
		return gitFailed(ctx, err, "")
	}
	if err := give.Start(); err != nil {
		_ = keep.Process.Kill()
		_ = keep.Wait() // it was killed
		return gitFailed(ctx, err, "")
	}
	return nil
}

// tailWriter keeps the end of what was written.
type tailWriter struct{ b []byte }

func (t *tailWriter) Write(p []byte) (int, error) {
	t.b = append(t.b, p...)
	if over := len(t.b) - 4096; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tailWriter) String() string { return strings.TrimSpace(string(t.b)) }

func credential(u *process.User) *syscall.Credential {
	return &syscall.Credential{Uid: u.UID, Gid: u.GID}
}

// code is the exit code of what failed; -1 where it did not come to one.
func code(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}

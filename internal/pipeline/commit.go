package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Resolve implements deploy.Builder.
func (p *Pipeline) Resolve(ctx context.Context, dir, rev string) (deploy.Commit, error) {
	asked := dir
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return deploy.Commit{}, fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	}
	if err != nil {
		return deploy.Commit{}, deploy.Hint(fmt.Errorf("%w: there is no folder %s", deploy.ErrBadInput, asked), "name the folder of the app, where its lotse.yaml is")
	}
	g := gitIn(dir)
	said, err := g.output(ctx, "rev-parse", "--is-bare-repository", "--is-shallow-repository", "--absolute-git-dir", "--show-prefix")
	if err != nil {
		return deploy.Commit{}, fmt.Errorf("%s: %w", dir, err)
	}
	facts := append(strings.Split(said, "\n"), "", "", "", "")
	bare, shallow := facts[0] == "true", facts[1] == "true"
	c := deploy.Commit{Repo: facts[2], Dir: path.Clean(facts[3]), Tree: dir}
	if bare {
		c.Tree = ""
	}
	if err := g.describe(ctx, &c, rev, shallow); err != nil {
		return deploy.Commit{}, err
	}
	if rev == "" && !bare {
		err = g.clean(ctx)
	}
	if err == nil {
		err = whole(ctx, c)
	}
	return c, err
}

// describe finds the commit and what it says of itself.
func (g *git) describe(ctx context.Context, c *deploy.Commit, rev string, shallow bool) error {
	name := rev
	if name == "" {
		name = "HEAD"
	}
	said, err := g.output(ctx, "log", "-1", "--format=%H%x00%an%x00%ae%x00%ct%x00%s", "--end-of-options", name+"^{commit}", "--")
	fields := strings.SplitN(strings.TrimSuffix(said, "\n"), "\x00", 5)
	var refused *gitError
	switch {
	case errors.As(err, &refused):
		return unknownRevision(rev, shallow, refused)
	case err != nil:
		return err
	case len(fields) != 5:
		return fmt.Errorf("git describes %s as %q", name, said)
	}
	seconds, err := strconv.ParseInt(fields[3], 10, 64)
	c.ID, c.Name, c.Mail, c.At, c.Subject = fields[0], fields[1], fields[2], time.Unix(seconds, 0).UTC(), fields[4]
	return err
}

func unknownRevision(rev string, shallow bool, refused *gitError) error {
	switch {
	case rev == "":
		return deploy.Hint(fmt.Errorf("%w: the repository has no commit yet", deploy.ErrBadInput), "commit the app with its lotse.yaml")
	case strings.Contains(refused.said, "is ambiguous"):
		return deploy.Hint(fmt.Errorf("%w: %q stands for more than one commit", deploy.ErrBadInput, rev), "give more digits of it")
	case shallow:
		return deploy.Hint(fmt.Errorf("%w: this clone has no commit %q, and not the whole history", deploy.ErrBadInput, rev),
			"run `git fetch --unshallow`")
	}
	return deploy.Hint(fmt.Errorf("%w: the repository has no commit %q", deploy.ErrBadInput, rev), "run `git fetch`, or look with `git log`")
}

// clean refuses a folder with changes that are not committed, also files that git does not know and was not told to ignore:
// a new source file that somebody forgot to add is what this is about.
func (g *git) clean(ctx context.Context) error {
	said, err := g.output(ctx, "status", "--porcelain=v1", "-z", "--untracked-files=normal", "--ignore-submodules=none", "--", ".")
	if err != nil {
		return err
	}
	var names []string
	list := strings.Split(said, "\x00")
	for i := 0; i < len(list); i++ {
		if len(list[i]) < 4 {
			continue
		}
		names = append(names, list[i][3:])
		if list[i][0] == 'R' || list[i][0] == 'C' { // the name that it had follows
			i++
		}
	}
	if len(names) == 0 {
		return nil
	}
	const shown = 5
	what := strings.Join(names[:min(shown, len(names))], ", ")
	if len(names) > shown {
		what += fmt.Sprintf(" and %d more", len(names)-shown)
	}
	return deploy.Hint(fmt.Errorf("%w: not everything here is committed: %s", deploy.ErrBadInput, what),
		"commit, or name the commit to deploy, for example HEAD")
}

// File implements deploy.Builder.
func (p *Pipeline) File(ctx context.Context, c deploy.Commit, name string) ([]byte, error) {
	name = path.Join(c.Dir, name)
	if outside(name) || strings.ContainsAny(name, "\n\x00") {
		return nil, fmt.Errorf("%w: %q is not in the repository", deploy.ErrBadInput, name)
	}
	var data []byte
	err := gitOf(c.Repo).blobs(ctx, []blob{{c.ID + ":" + name, func(r io.Reader, _ int64) (err error) {
		data, err = io.ReadAll(r)
		return err
	}}})
	if errors.Is(err, deploy.ErrNotFound) {
		return nil, deploy.Hint(fmt.Errorf("%w: commit %.12s has no file %s", deploy.ErrNotFound, c.ID, name), "commit it")
	}
	return data, err
}

// source is one file of a commit. Paths are relative to the folder of lotse.yaml, which is the root of a checkout.
type source struct {
	path   string
	mode   string // 100644, 100755, 120000
	object string
}

// sources lists the commit, sorted by path, from git's own tree objects: no file is read.
func sources(ctx context.Context, c deploy.Commit) ([]source, error) {
	tree := c.ID + ":"
	if c.Dir != "." {
		tree += c.Dir
	}
	said, err := gitOf(c.Repo).output(ctx, "ls-tree", "-r", "-z", "--full-tree", tree)
	if _, ok := errors.AsType[*gitError](err); ok {
		return nil, deploy.Hint(fmt.Errorf("%w: commit %.12s cannot be read: %w", deploy.ErrNotFound, c.ID, err),
			"if the clone is shallow or partial, run `git fetch --unshallow --refetch`")
	}
	if err != nil {
		return nil, err
	}
	var all []source
	for line := range strings.SplitSeq(said, "\x00") {
		meta, name, ok := strings.Cut(line, "\t")
		fields := strings.Fields(meta)
		if !ok || len(fields) != 3 {
			continue
		}
		if fields[1] == "commit" {
			return nil, deploy.Hint(fmt.Errorf("%w: %s is a git submodule, and the commit holds only its name", deploy.ErrBadInput, name),
				"take its files into the repository, or fetch them in a step")
		}
		all = append(all, source{name, fields[0], fields[2]})
	}
	return all, nil
}

func outside(clean string) bool {
	return clean == ".." || strings.HasPrefix(clean, "../") || strings.HasPrefix(clean, "/")
}

// below reports whether p is dir or lies in it.
func below(p, dir string) bool {
	return dir == "." || p == dir || strings.HasPrefix(p, dir+"/")
}

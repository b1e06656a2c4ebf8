package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

// SourcesConfig is what Sources need. Dir must be set.
type SourcesConfig struct {
	Dir  string        // its state: a copy of every repository that is watched
	User *process.User // who git runs as for remote repositories and copies; nil: the caller. Another one needs root
}

// Sources implements deploy.Sources over git.
//
// A copy is a bare repository below Dir, with nobody's hooks and a configuration that is written here alone. Whatever comes into it is
// checked by git as it comes (transfer.fsckObjects). A local repository is read by git under its owner's name, who so gives a pack of
// objects and nothing else; a remote one is read over https, or over ssh as far as the caller's keys need nobody to be asked. Every other
// transport is refused, since some of them run commands.
type Sources struct {
	config SourcesConfig

	mu     sync.Mutex
	copies map[string]*sync.Mutex // held while one is written; by path
	heads  map[string]localHead   // by repository and branch
	tags   map[string]localTags   // by repository and pattern
}

var _ deploy.Sources = (*Sources)(nil)

// How long git may take, where somebody else's machine or disk has a part in it.
const (
	localLook  = 20 * time.Second
	remoteLook = 30 * time.Second
	fetching   = 10 * time.Minute
)

// OpenSources makes the folder of the copies.
func OpenSources(c SourcesConfig) (*Sources, error) {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, err
	}
	c.Dir = dir
	if err := os.MkdirAll(dir, 0o711); err != nil {
		return nil, fmt.Errorf("open the copies of repositories: %w", spaced(err))
	}
	if c.User != nil {
		if at := unreachable(dir, c.User); at != "" {
			return nil, deploy.Hint(fmt.Errorf("%w: the user %d, who copies repositories, may not enter %s", deploy.ErrBadInput, c.User.UID, at),
				"give everybody the right to enter it (chmod o+x), or take another folder")
		}
	}
	return &Sources{config: c, copies: map[string]*sync.Mutex{}, heads: map[string]localHead{}, tags: map[string]localTags{}}, nil
}

// Find implements deploy.Sources.
func (s *Sources) Find(ctx context.Context, dir, remote string) (deploy.Origin, error) {
	ctx, cancel := context.WithTimeout(ctx, localLook)
	defer cancel()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return deploy.Origin{}, fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	}
	g := gitIn(dir)
	said, err := g.output(ctx, "rev-parse", "--path-format=absolute", "--git-common-dir", "--show-prefix")
	if err != nil {
		return deploy.Origin{}, fmt.Errorf("%s: %w", dir, err)
	}
	common, inside, _ := strings.Cut(strings.TrimSuffix(said, "\n"), "\n")
	o := deploy.Origin{URL: common, Dir: path.Clean(inside), Local: true}
	if remote == "" {
		remote = g.originURL(ctx)
	}
	if remote != "" {
		o.URL, o.Local = located(remote, topOf(dir, o.Dir))
	}
	if !o.Local {
		return o, nil
	}
	if whole, err := s.Repository(ctx, o.URL); err == nil {
		o.URL = whole // else it is not there now, and may come
	}
	return o, nil
}

// topOf is the root of the work tree in which dir is inside.
func topOf(dir, inside string) string {
	if inside == "." {
		return dir
	}
	return strings.TrimSuffix(dir, "/"+inside)
}

// originURL is where the repository was cloned from; "" where it was not.
func (g *git) originURL(ctx context.Context) string {
	said, err := g.output(ctx, "remote", "get-url", "origin")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(said)
}

// located reads what git takes for the place of a repository (git-fetch(1), GIT URLS): an URL, host:path of ssh, or a path, which
// may be relative to the work tree. A user's name and password are taken out of an https URL: they are not ours to keep.
func located(remote, top string) (where string, local bool) {
	if rest, ok := strings.CutPrefix(remote, "file://"); ok {
		if plain, err := url.PathUnescape(rest); err == nil {
			rest = plain
		}
		return rest, true
	}
	if u, err := url.Parse(remote); err == nil && strings.Contains(remote, "://") {
		if u.Scheme == "https" || u.Scheme == "http" {
			u.User = nil
		}
		return u.String(), false
	}
	before, _, colon := strings.Cut(remote, ":")
	if colon && !strings.Contains(before, "/") {
		return remote, false
	}
	if !filepath.IsAbs(remote) {
		remote = filepath.Join(top, remote)
	}
	return filepath.Clean(remote), true
}

// Repository implements deploy.Sources.
func (s *Sources) Repository(ctx context.Context, dir string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, localLook)
	defer cancel()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	}
	said, err := gitIn(dir).output(ctx, "rev-parse", "--path-format=absolute", "--git-common-dir")
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(strings.TrimSuffix(said, "\n"))
}

// Commit implements deploy.Sources.
func (s *Sources) Commit(ctx context.Context, o deploy.Origin, id string) (deploy.Commit, error) {
	ctx, cancel := context.WithTimeout(ctx, localLook)
	defer cancel()
	at := s.at(o)
	if !isObject(id) {
		return deploy.Commit{}, fmt.Errorf("%w: %q is not the name of a commit", deploy.ErrNotFound, id)
	}
	c := deploy.Commit{Repo: at, Dir: o.Dir}
	err := s.copied(at).describe(ctx, &c, id, false)
	if errors.Is(err, deploy.ErrBadInput) {
		return c, fmt.Errorf("%w: commit %.12s is not in the copy of its repository", deploy.ErrNotFound, id)
	}
	return c, err
}

// Changes implements deploy.Sources.
func (s *Sources) Changes(ctx context.Context, o deploy.Origin, before, after string) (deploy.Changes, error) {
	ctx, cancel := context.WithTimeout(ctx, localLook)
	defer cancel()
	g := s.copied(s.at(o))
	var of deploy.Changes
	var err error
	if of.Message, err = g.output(ctx, "log", "-1", "--format=%B", "--end-of-options", after, "--"); err != nil {
		return of, err
	}
	if !isObject(before) {
		of.Unknown = true
		return of, nil
	}
	if _, err := g.output(ctx, "cat-file", "-e", before+"^{commit}"); err != nil {
		of.Unknown, of.Forced = true, true // what came after it would have brought it
		return of, ctx.Err()
	}
	if _, err := g.output(ctx, "merge-base", "--is-ancestor", before, after); err != nil {
		if code(err) != 1 { // git-merge-base(1): 1 is no
			return of, err
		}
		of.Forced = true
	}
	said, err := g.output(ctx, "diff-tree", "-r", "-z", "--no-renames", "--name-only", "--no-commit-id", before, after, "--")
	if err != nil {
		return of, err
	}
	of.Files = slices.DeleteFunc(strings.Split(said, "\x00"), func(f string) bool { return f == "" })
	return of, nil
}

// isObject reports whether id is a whole object name of SHA-1 or SHA-256.
func isObject(id string) bool {
	_, err := hex.DecodeString(id)
	return err == nil && (len(id) == 40 || len(id) == 64)
}

// at is the copy of a repository.
func (s *Sources) at(o deploy.Origin) string {
	sum := sha256.Sum256([]byte(o.URL))
	return filepath.Join(s.config.Dir, hex.EncodeToString(sum[:12])+".git")
}

// copied runs git in a copy, as the one whom it belongs to.
func (s *Sources) copied(at string) *git { return s.ours(at, "--git-dir="+at) }

// ours runs git under our own name, or that of Config.User: with an environment that asks nobody anything.
func (s *Sources) ours(dir string, where ...string) *git {
	g := newGit(dir, where, dir)
	g.as, g.dir = nil, "/"
	home := os.Getenv("HOME")
	if u := s.config.User; u != nil {
		g.as, home = credential(u), "/nonexistent" // root's own configuration is none of its affair
	}
	g.args = append(g.args, quiet...)
	g.env = append(withoutHome(g.env), "HOME="+home, "GIT_ASKPASS=", "SSH_ASKPASS=", "GIT_CONFIG_GLOBAL="+globalConfig(home, s.config.User),
		"GIT_SSH_COMMAND=ssh -o BatchMode=yes -o ConnectTimeout=15", "GIT_ALLOW_PROTOCOL=https:ssh",
		"GIT_COMMITTER_NAME=Lotse", "GIT_COMMITTER_EMAIL=lotse@localhost")
	for _, name := range passedOn {
		if value, set := os.LookupEnv(name); set {
			g.env = append(g.env, name+"="+value)
		}
	}
	return g
}

// quiet keeps git from doing more than it is told.
var quiet = []string{"-c", "gc.auto=0", "-c", "maintenance.auto=false", "-c", "transfer.fsckObjects=true", "-c", "fetch.fsckObjects=true",
	"-c", "fetch.recurseSubmodules=false", "-c", "submodule.recurse=false", "-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60"}

// passedOn are variables by which this machine reaches others, and knows whom to trust.
var passedOn = []string{"http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY",
	"SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSL_CAINFO", "SSH_AUTH_SOCK"}

func withoutHome(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, "HOME=") })
}

// globalConfig is the configuration of whom git runs as: the caller's own, who may have set up how hosts are reached.
func globalConfig(home string, user *process.User) string {
	at := filepath.Join(home, ".gitconfig")
	if user != nil || home == "" {
		return os.DevNull
	}
	if _, err := os.Stat(at); errors.Is(err, fs.ErrNotExist) {
		at = filepath.Join(home, ".config", "git", "config")
	}
	return at
}

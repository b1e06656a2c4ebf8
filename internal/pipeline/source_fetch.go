package pipeline

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Head implements deploy.Sources.
func (s *Sources) Head(ctx context.Context, o deploy.Origin, branch string, token secret.Text) (string, error) {
	if (deploy.Push{Branch: branch}).Problem() != "" {
		return "", fmt.Errorf("%w: %q is not the name of a branch", deploy.ErrBadInput, branch)
	}
	if o.Local {
		ctx, cancel := context.WithTimeout(ctx, localLook)
		defer cancel()
		return s.headOf(ctx, o.URL, branch)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, remoteLook, errSlow(remoteLook.String()))
	defer cancel()
	said, err := s.remote(token).ended(ctx, "ls-remote", "--quiet", "--refs", "--", o.URL, "refs/heads/"+branch)
	if err != nil {
		return "", unread(err, o, token)
	}
	for line := range strings.Lines(said) {
		if id, name, _ := strings.Cut(strings.TrimSpace(line), "\t"); name == "refs/heads/"+branch && isObject(id) {
			return id, nil
		}
	}
	return "", nil
}

func errSlow(after string) error {
	return fmt.Errorf("%w: git was not done after %s", deploy.ErrUnavailable, after)
}

// remote runs git against a repository elsewhere. The token goes through the environment, which only root and git's own user can
// read: never into arguments, URLs or files. With one, redirects are not followed, so that nobody else is given it.
func (s *Sources) remote(token secret.Text) *git {
	g := s.ours(s.config.Dir)
	if token.Empty() {
		return g
	}
	user, password, both := strings.Cut(token.Reveal(), ":")
	if !both { // GitHub, GitLab and Gitea take any name beside a token
		user, password = "x-access-token", user
	}
	g.env = append(g.env, "GIT_CONFIG_COUNT=3",
		"GIT_CONFIG_KEY_0=http.extraHeader", "GIT_CONFIG_VALUE_0=Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte(user+":"+password)),
		"GIT_CONFIG_KEY_1=http.followRedirects", "GIT_CONFIG_VALUE_1=false",
		"GIT_CONFIG_KEY_2=credential.helper", "GIT_CONFIG_VALUE_2=")
	return g
}

// ended is output for git that talks to another machine: with its helpers it is ended when ctx is, and nobody waits for those.
func (g *git) ended(ctx context.Context, args ...string) (string, error) {
	cmd := g.command(ctx, args...)
	var out bytes.Buffer
	var said tailWriter
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.SysProcAttr.Setpgid = true
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 2 * time.Second
	err := cmd.Run()
	if err != nil {
		err = gitFailed(ctx, err, said.String())
	}
	return out.String(), err
}

// Fetch implements deploy.Sources.
func (s *Sources) Fetch(ctx context.Context, o deploy.Origin, branch string, token secret.Text) (deploy.Commit, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetching, errSlow(fetching.String()))
	defer cancel()
	head, err := s.Head(ctx, o, branch, token)
	if err != nil {
		return deploy.Commit{}, err
	}
	if head == "" {
		return deploy.Commit{}, fmt.Errorf("%w: there is no branch %s", deploy.ErrNotFound, branch)
	}
	return s.bring(ctx, o, "heads/"+branch, head, token)
}

// bring copies the commit to which a ref points, and keeps it under the same name. head says what the ref names; elsewhere it may have
// moved since.
func (s *Sources) bring(ctx context.Context, o deploy.Origin, ref, head string, token secret.Text) (c deploy.Commit, err error) {
	at := s.at(o)
	defer s.hold(at)()
	if err := s.makeCopy(ctx, at, head); err != nil {
		return deploy.Commit{}, err
	}
	if o.Local {
		err = away(s.take(ctx, at, o.URL, head))
	} else {
		head, err = s.fetch(ctx, at, o, ref, token)
	}
	if err != nil {
		return deploy.Commit{}, err
	}
	g := s.copied(at)
	// What a branch pointed to stays in its reflog, and so stays there when history is rewritten.
	if _, err := g.output(ctx, "update-ref", "--create-reflog", "-m", "pushed", "refs/"+ref, head); err != nil {
		return deploy.Commit{}, err
	}
	s.tidy(ctx, g)
	return s.Commit(ctx, o, head)
}

func (s *Sources) fetch(ctx context.Context, at string, o deploy.Origin, ref string, token secret.Text) (string, error) {
	g := s.remote(token)
	g.args = append(g.args, "--git-dir="+at)
	if _, err := g.ended(ctx, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--", o.URL,
		"+refs/"+ref+":refs/fetched/"+ref); err != nil {
		return "", unread(err, o, token)
	}
	said, err := s.copied(at).output(ctx, "rev-parse", "--verify", "refs/fetched/"+ref+"^{commit}")
	return strings.TrimSpace(said), err
}

// tidy packs what many small fetches have left. Nothing is lost when it is not done.
func (s *Sources) tidy(ctx context.Context, g *git) {
	g.args = append(g.args, "-c", "gc.auto=6700", "-c", "gc.autoDetach=false")
	_, _ = g.output(ctx, "gc", "--auto", "--quiet")
}

// hold lets one at a time write to a copy.
func (s *Sources) hold(at string) (release func()) {
	s.mu.Lock()
	lock := s.copies[at]
	if lock == nil {
		lock = new(sync.Mutex)
		s.copies[at] = lock
	}
	s.mu.Unlock()
	lock.Lock()
	return lock.Unlock
}

// makeCopy makes the bare repository, whole or not at all. Its object format is that of the commit.
func (s *Sources) makeCopy(ctx context.Context, at, head string) error {
	if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	aside := filepath.Join(s.config.Dir, "new-"+rand.Text())
	if err := os.Mkdir(aside, 0o700); err != nil {
		return spaced(err)
	}
	defer os.RemoveAll(aside) // it is gone when it was renamed
	if u := s.config.User; u != nil {
		if err := os.Chown(aside, int(u.UID), int(u.GID)); err != nil {
			return err
		}
	}
	format := "sha1"
	if len(head) == 64 {
		format = "sha256"
	}
	g := s.ours(aside)
	if _, err := g.output(ctx, "init", "--quiet", "--bare", "--template=", "--object-format="+format, "--", aside); err != nil {
		return spaced(err)
	}
	for _, kept := range [][2]string{{"core.logAllRefUpdates", "always"}, {"gc.reflogExpire", "never"}, {"gc.reflogExpireUnreachable", "never"}} {
		if _, err := g.output(ctx, "--git-dir="+aside, "config", kept[0], kept[1]); err != nil {
			return err
		}
	}
	return os.Rename(aside, at)
}

// asksWho is what git says to whom it cannot ask for a name.
const asksWho = "could not read username"

const wantsToken = "it asks who we are" //nolint:gosec // a sentence, no token

// troubles are what git says of a remote repository, and what a person makes of it.
var troubles = []struct{ said, why, hint string }{
	{asksWho, wantsToken, "set source.token in lotse.yaml to the name of a secret, and `lotse secrets set` it"},
	{asksWho, "it does not take the token", "see that the token still holds and may read the repository; `lotse secrets set` takes a new one"},
	{"authentication failed", "it does not take the token", "see that the token still holds and may read the repository; `lotse secrets set` takes a new one"},
	{"returned error: 401", "it does not take the token", "see that the token still holds and may read the repository; `lotse secrets set` takes a new one"},
	{"returned error: 403", "the token may not read it", "see that the token may read the repository; `lotse secrets set` takes a new one"},
	{"returned error: 301", "it has moved", "write its new address into source.remote, or `git remote set-url origin`, and `lotse deploy`"},
	{"returned error: 302", "it has moved", "write its new address into source.remote, or `git remote set-url origin`, and `lotse deploy`"},
	{"returned error: 308", "it has moved", "write its new address into source.remote, or `git remote set-url origin`, and `lotse deploy`"},
	{"not found", "there is no such repository, or it is a private one", "see source.remote and source.token in lotse.yaml"},
	{"not allowed", "it is to be reached over https, or ssh", "set source.remote in lotse.yaml to an address with https://, and `lotse deploy`"},
	{"permission denied (publickey", "ssh has no key that it takes", "ssh is used as far as it asks nobody; set source.remote to an address with https://, and source.token"},
	{"host key verification failed", "ssh does not know the host", "connect to it once as the user of Lotse, or set source.remote to an address with https://"},
}

// unread says why a remote repository cannot be read, without the token, and with what to do where that is known.
func unread(err error, o deploy.Origin, token secret.Text) error {
	refused, ok := errors.AsType[*gitError](err)
	if !ok {
		return away(err)
	}
	said := veiled(refused.said, o, token)
	for _, t := range troubles {
		if t.why == wantsToken && !token.Empty() {
			continue
		}
		if strings.Contains(strings.ToLower(said), t.said) {
			return deploy.Hint(fmt.Errorf("%w: it cannot be read: %s (git says: %s)", deploy.ErrUnavailable, t.why, said), t.hint)
		}
	}
	return fmt.Errorf("%w: it cannot be read: git says: %s", deploy.ErrUnavailable, said)
}

// veiled takes out of what git said what nobody is to read.
func veiled(said string, o deploy.Origin, token secret.Text) string {
	if !token.Empty() {
		said = strings.ReplaceAll(said, token.Reveal(), "***")
	}
	said = strings.ReplaceAll(strings.Join(strings.Fields(said), " "), o.URL, "the repository")
	if u, err := url.Parse(o.URL); err == nil && u.Host != "" {
		said = strings.ReplaceAll(said, u.Scheme+"://"+u.Host, "the host")
		said = strings.ReplaceAll(said, u.Hostname(), "the host")
	}
	return said
}

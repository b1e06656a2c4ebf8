package pipeline_test

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// smart serves a repository as hosts of git do, over TLS, to whoever knows the token.
type smart struct {
	*httptest.Server
	asked    atomic.Int64
	moved    atomic.Bool
	stalls   atomic.Bool
	password string
}

func serveGit(t *testing.T, root, password string) *smart {
	t.Helper()
	path := "/usr/lib/git-core/git-http-backend"
	if _, err := os.Stat(path); err != nil {
		t.Skip("NOT RUN: git-http-backend is not installed, so that no remote repository was read")
	}
	backend := &cgi.Handler{Path: path, Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"}}
	s := &smart{password: password}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		_, got, ok := r.BasicAuth()
		switch {
		case s.stalls.Load():
			<-r.Context().Done()
		case s.moved.Load() && strings.HasPrefix(r.URL.Path, "/origin.git"):
			http.Redirect(w, r, "/elsewhere.git"+strings.TrimPrefix(r.URL.Path, "/origin.git")+"?"+r.URL.RawQuery, http.StatusMovedPermanently)
		case s.password != "" && (!ok || got != s.password):
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			backend.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	ca := filepath.Join(shared(t), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("GIT_SSL_CAINFO", ca)
	return s
}

// A repository behind https that wants a token.
func TestRemote(t *testing.T) {
	r := newRepository(t)
	r.commit(map[string]string{"lotse.yaml": "app: shop"})
	const password = "sesame-4711-sesame"
	server := serveGit(t, filepath.Dir(r.bare()), password)
	dir := shared(t)
	s := openSources(t, dir)
	o, err := s.Find(t.Context(), r.dir, server.URL+"/origin.git")
	if err != nil || o.Local {
		t.Fatalf("found %+v, %v", o, err)
	}
	token := secret.New(password)
	if head, err := s.Head(t.Context(), o, "main", token); err != nil || head != r.head() {
		t.Fatalf("the head is %q, %v", head, err)
	}
	c, err := s.Fetch(t.Context(), o, "main", secret.New("ada:"+password))
	if err != nil || c.ID != r.head() {
		t.Fatalf("fetched %+v, %v", c, err)
	}
	r.commit(map[string]string{"a": "b"})
	r.git("push", "-q", "origin", "main")
	if c, err = s.Fetch(t.Context(), o, "main", token); err != nil || c.ID != r.head() {
		t.Errorf("after a push fetched %+v, %v", c, err)
	}
	if head, err := s.Head(t.Context(), o, "none", token); err != nil || head != "" {
		t.Errorf("a branch that is not there has the head %q, %v", head, err)
	}

	for name, wrong := range map[string]secret.Text{"no token": noToken, "another token": secret.New("wrong-token-0815")} {
		_, err := s.Head(t.Context(), o, "main", wrong)
		said := ""
		if err != nil {
			said = err.Error() + deploy.HintOf(err)
		}
		if !errors.Is(err, deploy.ErrUnavailable) || !strings.Contains(said, "token") || strings.Contains(said, "0815") || strings.Contains(said, server.URL) {
			t.Errorf("with %s it is %v (%s)", name, err, deploy.HintOf(err))
		}
	}
	server.moved.Store(true)
	if _, err := s.Head(t.Context(), o, "main", token); !errors.Is(err, deploy.ErrUnavailable) || !strings.Contains(err.Error(), "it has moved") {
		t.Errorf("a redirect was followed with a token: %v", err)
	}
	noSecretBelow(t, dir, password)
}

// A remote that does not answer ends with its time, and its helpers with it.
func TestStallingRemote(t *testing.T) {
	r := newRepository(t)
	r.commit(map[string]string{"lotse.yaml": "app: shop"})
	server := serveGit(t, filepath.Dir(r.bare()), "")
	s := openSources(t, shared(t))
	o, err := s.Find(t.Context(), r.dir, server.URL+"/origin.git")
	if err != nil {
		t.Fatal(err)
	}
	server.stalls.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	begun := time.Now()
	if _, err := s.Head(ctx, o, "main", noToken); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, deploy.ErrUnavailable) {
		t.Errorf("it is %v", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s to give up", took)
	}
	server.CloseClientConnections()
}

// What is neither https nor ssh is not spoken: some transports run commands.
func TestTransports(t *testing.T) {
	s := openSources(t, shared(t))
	mark := filepath.Join(shared(t), "ran")
	for _, remote := range []string{"ext::touch " + mark, "http://127.0.0.1:1/a.git", "git://127.0.0.1:1/a.git", "--upload-pack=touch " + mark} {
		o := deploy.Origin{URL: remote, Dir: "."}
		_, err := s.Head(t.Context(), o, "main", noToken)
		if !errors.Is(err, deploy.ErrUnavailable) {
			t.Errorf("%s is %v", remote, err)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a transport ran a command")
	}
	for _, branch := range []string{"", "a:b", "a..b", "-x", "a b", "a.lock", "*"} {
		if _, err := s.Head(t.Context(), deploy.Origin{URL: "https://127.0.0.1:1/"}, branch, noToken); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("the branch %q is %v", branch, err)
		}
	}
}

// noSecretBelow reads every file.
func noSecretBelow(t *testing.T, dir, secret string) {
	t.Helper()
	coded := base64.StdEncoding.EncodeToString([]byte("x-access-token:" + secret))
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if strings.Contains(string(data), secret) || strings.Contains(string(data), coded) {
			t.Errorf("%s holds the token", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

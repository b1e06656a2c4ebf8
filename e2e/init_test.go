package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// scaffold is an app as its own tool makes it for somebody who begins.
type scaffold struct {
	name string
	make string            // in an empty folder; it makes the folder `name`
	pack bool              // a person then runs npm install, which makes the lock file
	edit map[string]string // what that person writes before anything is committed
	says string            // what stands in the page of dev
}

const (
	createVite  = "create-vite@9.3.0" // Vite 8
	createVite7 = "create-vite@8.3.0" // Vite 7
	createNext  = "create-next-app@16.4.3"
)

const nextConfig = "import type { NextConfig } from \"next\";\n\nconst nextConfig: NextConfig = {%s};\n\nexport default nextConfig;\n"

// create-astro fetches its templates from a place of its own; these are the files of the one that it calls minimal.
const astroMinimal = `mkdir -p astro/src/pages astro/public && cd astro && cat >package.json <<'E'
{ "name": "astro", "type": "module", "version": "0.0.1", "scripts": { "dev": "astro dev", "build": "astro build", "preview": "astro preview", "astro": "astro" }, "dependencies": { "astro": "5.9.4" } }
E
cat >astro.config.mjs <<'E'
// @ts-check
import { defineConfig } from 'astro/config';

// https://astro.build/config
export default defineConfig({});
E
printf '{ "extends": "astro/tsconfigs/strict", "include": [".astro/types.d.ts", "**/*"], "exclude": ["dist"] }\n' >tsconfig.json
printf 'dist/\n.astro/\nnode_modules/\n.env\n' >.gitignore
printf -- '---\n---\n\n<html lang="en">\n<head><title>Astro</title></head>\n<body><h1>Astro</h1></body>\n</html>\n' >src/pages/index.astro`

// express-generator makes no .gitignore, and node_modules belongs into no commit.
const expressIgnores = "npx --yes express-generator@4.16.1 --no-view express && printf 'node_modules\\n' >express/.gitignore"

const goServer = `mkdir goserver && cd goserver && cat >go.mod <<'E'
module example.com/goserver

go 1.26
E
cat >main.go <<'E'
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "hello from Go") })
	http.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	log.Fatal(http.ListenAndServe(":"+port, nil))
}
E`

var lightScaffolds = []scaffold{
	{name: "vanilla", make: "npx --yes " + createVite + " vanilla --template vanilla --no-interactive", pack: true, says: `<div id="app">`},
	{name: "express", make: expressIgnores, pack: true, says: "Express"},
	{name: "astro", make: astroMinimal, says: "<h1>Astro</h1>"},
	{name: "goserver", make: goServer, says: "hello from Go"},
}

// heavyScaffolds take minutes where npm's cache is cold: `make prove` tries them.
var heavyScaffolds = []scaffold{
	{name: "react", make: "npx --yes " + createVite7 + " react --template react-ts --no-interactive", says: `<div id="root">`},
	{name: "standalone", make: "npx --yes " + createNext + " standalone --yes --empty --no-tailwind --skip-install --disable-git", says: "Hello",
		edit: map[string]string{"next.config.ts": fmt.Sprintf(nextConfig, ` output: "standalone" `)}},
	{name: "next", make: "npx --yes " + createNext + " next --yes --empty --no-tailwind --skip-install --disable-git", pack: true, says: "Hello"},
	{name: "exported", make: "npx --yes " + createNext + " exported --yes --empty --no-tailwind --skip-install --disable-git", pack: true, says: "Hello",
		edit: map[string]string{"next.config.ts": fmt.Sprintf(nextConfig, ` output: "export" `)}},
	{name: "vue", make: "npx --yes " + createVite + " vue --template vue-ts --no-interactive", pack: true, says: `<div id="app">`},
	{name: "svelte", make: "npx --yes " + createVite + " svelte --template svelte-ts --no-interactive", pack: true, says: `<div id="app">`},
}

// Apps as their tools make them, from an empty folder to an HTTPS address of dev, without a line written by hand for Lotse.
func TestInit(t *testing.T) {
	t.Parallel()
	all := lightScaffolds
	if proving() {
		all = append(all, heavyScaffolds...)
	} else {
		t.Logf("NOT RUN without LOTSE_PROVE=1: %d more scaffolds", len(heavyScaffolds))
	}
	registry(t)
	m := newMachine(t)
	warm(t, m)
	builds := make(chan struct{}, 2) // more pipelines at once would only wait for each other
	t.Run("of", func(t *testing.T) {
		for _, s := range all {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				builds <- struct{}{}
				built := sync.OnceFunc(func() { <-builds })
				defer built()
				m.in(t).carries(s, built)
			})
		}
	})
	keepWarm(t, m)
}

// carries does what the documents tell somebody who begins. It calls built once the pipeline is through.
func (m *machine) carries(s scaffold, built func()) {
	dir := m.scaffolded(s)
	m.git(dir, "init", "-q", "-b", "main")
	m.commit(dir, s.edit)
	said := m.must(dir, "init")
	file, err := os.ReadFile(filepath.Join(dir, "lotse.yaml"))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Logf("%s\n%s", said, file)
	m.must(dir, "check")
	m.commit(dir, nil)
	began := time.Now()
	id := strings.TrimSpace(m.must(dir, "deploy", "--detach"))
	m.settles(id, built)
	m.t.Logf("deployed in %s\n%s", time.Since(began).Round(100*time.Millisecond), m.must(dir, "show", id))
	host := "dev." + s.name + ".localhost"
	if page := m.signedIn(s.name+"/dev", host, "/"); !strings.Contains(page, s.says) {
		m.t.Errorf("%s does not say %q:\n%.2000s", host, s.says, page)
	}
	if s.name == "react" || s.name == "express" {
		m.installedOnce(dir)
	}
}

// settles waits until a rollout has settled. Packages that were never fetched here take their time.
func (m *machine) settles(id string, built func()) {
	m.t.Helper()
	m.await("the rollout ends", 12*time.Minute, func() bool {
		r, err := m.api.Rollout(m.t.Context(), id)
		if len(r.Steps) > 1 {
			built()
		}
		return err == nil && r.Outcome.Ended()
	})
	if r, err := m.api.Rollout(m.t.Context(), id); err != nil || r.Outcome != deploy.Settled {
		r := m.lotse(m.work, "follow", id)
		m.t.Fatalf("%v\n%s%s", err, r.out, r.err)
	}
}

// signedIn asks a private stage with its password. Without the password it says nothing of the app.
func (m *machine) signedIn(stage, host, path string) string {
	m.t.Helper()
	ask := func(password string) (int, string) {
		request, err := http.NewRequestWithContext(m.t.Context(), http.MethodGet, m.url(host)+path, nil)
		if err != nil {
			m.t.Fatal(err)
		}
		if password != "" {
			request.SetBasicAuth("somebody", password)
		}
		answer, err := m.client().Do(request)
		if err != nil {
			m.t.Fatal(err)
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			m.t.Fatal(err)
		}
		return answer.StatusCode, string(text)
	}
	if code, text := ask(""); code == http.StatusOK {
		m.t.Errorf("everybody may see %s: %.200s", host, text)
	}
	var given struct{ Password string }
	if err := json.Unmarshal([]byte(m.must(m.work, "password", "--stage", stage, "--json")), &given); err != nil {
		m.t.Fatal(err)
	}
	code, text := ask(given.Password)
	if code != http.StatusOK {
		m.t.Errorf("%s%s answers %d: %.500s", host, path, code, text)
	}
	return text
}

// installedOnce changes a file that the packages do not depend on, and sees that they are not installed again.
func (m *machine) installedOnce(dir string) {
	m.t.Helper()
	m.commit(dir, map[string]string{"NOTES.md": "a change\n"})
	id := strings.TrimSpace(m.must(dir, "deploy", "--detach"))
	var states []deploy.StepState
	m.await("the pipeline has begun", 2*time.Minute, func() bool {
		r, err := m.api.Rollout(m.t.Context(), id)
		for _, step := range r.Pipeline {
			if step.Name == "install" {
				states = append(states, step.State)
			}
		}
		return err == nil && len(states) > 0
	})
	if states[0] != deploy.StepCached {
		m.t.Errorf("the packages are installed again (%s), though nothing that the step reads has changed", states[0])
	}
	m.lotse(dir, "abort", id) // it may have ended
}

// cache is where what was fetched is kept between runs. git ignores it.
func cache(elem ...string) string {
	return filepath.Join(append([]string{"..", ".cache", "scaffolds"}, elem...)...)
}

// registry skips where the packages cannot be fetched, and says what that leaves unproven.
func registry(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("NOT RUN: npm is not installed, so that lotse init is not proven of real scaffolds")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	if said, err := exec.CommandContext(ctx, "npm", "view", createVite, "version").CombinedOutput(); err != nil {
		t.Skipf("NOT RUN: the registry of npm packages does not answer, so that lotse init is not proven of real scaffolds: %v\n%.500s", err, said)
	}
}

// scaffolded copies the app into a folder of its own below the machine's. Each is made once and kept by the command that made it.
func (m *machine) scaffolded(s scaffold) string {
	m.t.Helper()
	script := s.make
	if s.pack {
		script = "(" + script + ") && cd " + s.name + " && npm install --no-audit --no-fund && (npm ci --dry-run || rm package-lock.json); rm -rf node_modules"
	}
	kept, note := cache(s.name), cache(s.name+".made-by")
	if by, err := os.ReadFile(note); err != nil || string(by) != script {
		if err := errors.Join(os.RemoveAll(kept), os.MkdirAll(cache(), 0o755)); err != nil {
			m.t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(m.t.Context(), 3*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-euc", script)
		cmd.Dir, cmd.Env = cache(), append(os.Environ(), "CI=true", "NEXT_TELEMETRY_DISABLED=1")
		if said, err := cmd.CombinedOutput(); err != nil {
			m.t.Fatalf("%s: %v\n%s", script, err, said)
		}
		if err := os.WriteFile(note, []byte(script), 0o644); err != nil {
			m.t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(kept, "package-lock.json")); s.pack && err != nil {
		m.t.Logf("NOT RUN with a lock file: this registry lacks packages of other platforms, so that npm ci refuses what npm install has written")
	}
	dir := filepath.Join(m.work, "of-"+s.name)
	if err := os.CopyFS(dir, os.DirFS(kept)); err != nil {
		m.t.Fatal(err)
	}
	return dir
}

// warm gives the steps the packages that were fetched by an earlier run, and keepWarm keeps what this one has fetched.
func warm(t *testing.T, m *machine) {
	t.Helper()
	for name, at := range stepsCaches(m) {
		if _, err := os.Stat(cache(name)); err == nil {
			copyAll(t, cache(name), at)
		}
	}
}

func keepWarm(t *testing.T, m *machine) {
	t.Helper()
	for name, at := range stepsCaches(m) {
		if _, err := os.Stat(at); err == nil && !t.Failed() {
			copyAll(t, at, cache(name))
		}
	}
}

// stepsCaches are folders in the home of the steps, by the name under which they are kept.
func stepsCaches(m *machine) map[string]string {
	home := filepath.Join(m.state, "pipeline", "home")
	return map[string]string{"npm": filepath.Join(home, ".npm"), "go": filepath.Join(home, ".cache")}
}

// copyAll copies a folder for whoever owns the one that it comes into.
func copyAll(t *testing.T, from, to string) {
	t.Helper()
	into, err := os.Stat(filepath.Dir(to))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		t.Fatal(err)
	}
	said, err := exec.CommandContext(t.Context(), "cp", "-ru", from+"/.", to).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	giveAll(t, to, into)
}

func giveAll(t *testing.T, dir string, like os.FileInfo) {
	t.Helper()
	owner := like.Sys().(*syscall.Stat_t)
	err := filepath.WalkDir(dir, func(name string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, int(owner.Uid), int(owner.Gid))
	})
	if err != nil {
		t.Fatal(err)
	}
}

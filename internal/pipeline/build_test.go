package pipeline_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/deploy"
)

var siteFiles = map[string]string{
	"lotse.yaml": "app: demo\n", "web/index.html": strings.Repeat("<p>hello</p>\n", 50), "api/main.sh*": "#!/bin/sh\necho api\n",
	"db/1.sql": "create table t (id int);\n", "README.md": "read me\n",
}

// site is an app with one static site, one program, and steps that need each other.
func site() deploy.App {
	return deploy.App{
		Name: "demo",
		Pipeline: []deploy.StepSpec{
			{Name: "install", Run: "mkdir node_modules && echo dep > node_modules/dep && ln -s dep node_modules/link", In: "web", Reads: []string{"index.html"}, Makes: []string{"node_modules"}},
			{Name: "lint", Run: "test -s node_modules/dep; echo clean", In: "web", Reads: []string{"."}, Needs: []string{"install"}},
			{Name: "build", Run: "mkdir -p dist/assets; cp index.html dist/; cat node_modules/link > dist/assets/app-BfX3k9Qz.js", In: "web", Reads: []string{"."}, Makes: []string{"dist"}, Needs: []string{"install"}},
			{Name: "api", Run: "mkdir -p bin; cp api/main.sh bin/api", In: ".", Reads: []string{"api"}, Makes: []string{"bin/api"}},
		},
		Services: []deploy.Service{
			{Name: "web", Static: "web/dist", Fallback: "index.html", Path: "/"},
			{Name: "api", Command: "bin/api --port $PORT", Files: []string{"db"}, Path: "/api"},
		},
	}
}

func TestBuildMakesARelease(t *testing.T) {
	b := newBench(t)
	b.repo.commit(siteFiles)
	rel := b.must(site())
	got := b.content(rel)
	for name, want := range map[string]string{
		"web/dist/index.html": siteFiles["web/index.html"], "web/dist/assets/app-BfX3k9Qz.js": "dep\n", "bin/api*": siteFiles["api/main.sh*"], "db/1.sql": siteFiles["db/1.sql"],
	} {
		if got[name] != want {
			t.Errorf("%s holds %q, want %q", name, got[name], want)
		}
		delete(got, name)
	}
	for _, name := range []string{"web/dist/index.html.br", "web/dist/index.html.gz", ".lotse/static/web.json", deploy.LotseFile} {
		if got[name] == "" {
			t.Errorf("%s is not there, only %v", name, names(got))
		}
		delete(got, name)
	}
	if len(got) > 0 {
		t.Errorf("the release also holds %v", names(got))
	}
	if want := "install done lint done build done api done"; b.final(site()) != want {
		t.Errorf("steps ended %s, want %s", b.final(site()), want)
	}
	for step, states := range b.states {
		if want := []deploy.StepState{deploy.StepWaiting, deploy.StepRunning, deploy.StepDone}; !cmp.Equal(states, want) {
			t.Errorf("%s went %v", step, states)
		}
	}
	if !cmp.Equal(b.lines["lint"], []string{"clean"}) {
		t.Errorf("lint said %q", b.lines["lint"])
	}

	again := b.must(site())
	if want := "install cached lint cached build cached api cached"; b.final(site()) != want || again.ID != rel.ID {
		t.Errorf("the second run: %s, %s; want %s, %s", b.final(site()), again.ID, want, rel.ID)
	}
	loaded, err := b.Release(t.Context(), rel.ID)
	if err != nil || !cmp.Equal(loaded.Manifest, rel.Manifest) {
		t.Errorf("Release = %+v, %v", loaded, err)
	}
	if err := b.Verify(t.Context(), rel.ID); err != nil {
		t.Error(err)
	}
}

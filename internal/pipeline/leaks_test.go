package pipeline_test

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/pipeline"
	"github.com/lotse-eu/lotse/internal/secret"
)

// pat is a key that is made when it is needed.
func pat() string { return "gh" + "p_" + (rand.Text() + rand.Text())[:36] }

func (b *bench) leaksOf(rev, before string, known ...deploy.Setting) deploy.Leaks {
	b.t.Helper()
	c, err := b.Resolve(b.t.Context(), b.repo.dir, rev)
	if err != nil {
		b.t.Fatal(err)
	}
	l, err := b.Leaks(b.t.Context(), c, before, known)
	if err != nil {
		b.t.Fatal(err)
	}
	return l
}

func said(l deploy.Leaks) (all []string) {
	for _, one := range l.Found {
		all = append(all, one.String())
	}
	return all
}

func TestKeysInCommits(t *testing.T) {
	b := newBench(t)
	key := pat()
	b.repo.commit(map[string]string{"lotse.yaml": "app: shop\n", "a.txt": "one\ntwo\n"})
	clean := strings.TrimSpace(b.repo.git("rev-parse", "HEAD"))
	b.repo.commit(map[string]string{"deploy/a.sh": "#!/bin/sh\n\nexport T=" + key + "\n"})
	with := strings.TrimSpace(b.repo.git("rev-parse", "HEAD"))
	b.repo.git("rm", "-q", "deploy/a.sh")
	b.repo.commit(nil)

	first := b.leaksOf(clean, "")
	if len(first.Found) != 0 || first.Files != 2 || first.Read != 2 {
		t.Errorf("a clean commit: %+v", first)
	}
	l := b.leaksOf(with, clean)
	if got, want := said(l), []string{"deploy/a.sh:3:10: github-pat"}; len(got) != 1 || got[0] != want[0] {
		t.Errorf("found %q, want %q", got, want)
	}
	if l.Read != 1 {
		t.Errorf("%d of %d files were read again", l.Read, l.Files)
	}
	if strings.Contains(fmt.Sprintf("%+v", l), key[4:10]) {
		t.Error("a finding holds something of the key")
	}
	if again := b.leaksOf(with, clean); again.Read != 0 || len(again.Found) != 1 {
		t.Errorf("the second time: %+v", again)
	}
	// It came and went: whoever has the repository has it.
	if got, want := said(b.leaksOf("HEAD", clean)), "deploy/a.sh:3:10: github-pat, in the commit "+with[:8]; len(got) != 1 || got[0] != want {
		t.Errorf("found %q, want %q", got, want)
	}
	if got := said(b.leaksOf("HEAD", with)); len(got) != 0 {
		t.Errorf("what was before is told again: %q", got)
	}
	if got := said(b.leaksOf("HEAD", strings.Repeat("0", 40))); len(got) != 0 {
		t.Errorf("with an unknown commit before: %q", got)
	}
}

// What is set as a secret is found whatever the rules say of it, in every form; and in files that the rules leave out.
func TestKnownValuesInCommits(t *testing.T) {
	value := `correct horse/"` + rand.Text()[:6] + `"+ü=` + "\nsecond"
	asJSON, _ := json.Marshal(value)
	b := newBench(t)
	b.repo.commit(map[string]string{"lotse.yaml": "app: shop\n", "plain.md": "it is " + value, "base64.lock": base64.StdEncoding.EncodeToString([]byte("x" + value)),
		"package-lock.json": url.QueryEscape(value), "a.json": string(asJSON), "other.md": "correct horse"})
	known := deploy.Setting{Name: "PHRASE of prod", Value: secret.New(value)}
	got := said(b.leaksOf("HEAD", "", known, deploy.Setting{Name: "SHORT of dev", Value: secret.New("horse")}))
	want := []string{"a.json", "base64.lock", "package-lock.json", "plain.md"}
	if len(got) != len(want) {
		t.Fatalf("found %q", got)
	}
	for i, file := range want {
		if !strings.HasPrefix(got[i], file+":1:") || !strings.HasSuffix(got[i], "known-value (the value of PHRASE of prod)") {
			t.Errorf("found %q, want %s", got[i], file)
		}
	}
	// Another value: everything is looked at anew.
	if l := b.leaksOf("HEAD", "", deploy.Setting{Name: "P", Value: secret.New(rand.Text())}); len(l.Found) != 0 || l.Read != l.Files {
		t.Errorf("after a change: %+v", l)
	}
}

func TestKeysInAFolder(t *testing.T) {
	b := newBench(t)
	b.repo.commit(map[string]string{"lotse.yaml": "app: shop\n", ".gitignore": ".env\n"})
	b.repo.write(map[string]string{"new.sh": "T=" + pat(), ".env": "T=" + pat()})
	l, err := pipeline.LeaksInFolder(t.Context(), b.repo.dir)
	if got := said(l); err != nil || len(got) != 1 || got[0] != "new.sh:1:3: github-pat" {
		t.Errorf("found %q, %v", got, err)
	}
}

// The figures for 5,000 files, at first and when one has changed.
func TestHowLongKeysTake(t *testing.T) {
	if os.Getenv("LOTSE_PROVE") == "" {
		t.Skip("NOT RUN: LOTSE_PROVE is not set; how long 5,000 files take was not measured")
	}
	b := newBench(t)
	sample, err := filepath.Glob("../*/*.go")
	if err != nil || len(sample) == 0 {
		t.Fatal(err)
	}
	files, size := map[string]string{"lotse.yaml": "app: shop\n"}, 0
	for i := range 5_000 {
		data, err := os.ReadFile(sample[i%len(sample)])
		if err != nil {
			t.Fatal(err)
		}
		files[fmt.Sprintf("src/%d/%d.go", i%50, i)] = fmt.Sprintf("// %d\n%s", i, data)
		size += len(data)
	}
	b.repo.commit(files)
	known := deploy.Setting{Name: "K of prod", Value: secret.New(rand.Text())}
	began := time.Now()
	first := b.leaksOf("HEAD", "", known)
	took := time.Since(began)
	b.repo.commit(map[string]string{"src/0/0.go": "package a"})
	began = time.Now()
	second := b.leaksOf("HEAD", "", known)
	t.Logf("%d files, %.0f MB: %.1f s; with one changed %.3f s, %d read", first.Files, float64(size)/1e6, took.Seconds(), time.Since(began).Seconds(), second.Read)
	if second.Read != 1 {
		t.Errorf("%d files were read again", second.Read)
	}
}

package pipeline_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/leakstest"
	"github.com/lotse-eu/lotse/internal/pipeline"
	"github.com/lotse-eu/lotse/internal/process"
)

// What a step prints is in no log, no evidence and no live line, also where it came to know a secret by itself. Without the hiding, the
// same search finds it in each.
func TestStepsTellNoSecret(t *testing.T) {
	all := leakstest.Make()
	var plain []string
	for _, s := range all {
		plain = append(plain, s.Value)
	}
	var told bytes.Buffer
	leakstest.Tell(&told, plain)
	for _, hides := range []bool{true, false} {
		hider := &process.Hider{}
		if hides {
			hider.Know(leakstest.Values(all))
		}
		b := newBench(t, func(c *pipeline.Config) { c.Hider = hider })
		if err := os.WriteFile(filepath.Join(b.dir, "told"), told.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		app := deploy.App{Name: "shop", Pipeline: []deploy.StepSpec{{Name: "tell", Run: fmt.Sprintf("cat %s/told; exit 3", b.dir), In: ".", Timeout: 60e9}}}
		b.repo.commit(map[string]string{"lotse.yaml": "app: shop\n"})
		c, err := b.Resolve(t.Context(), b.repo.dir, "HEAD")
		if err != nil {
			t.Fatal(err)
		}
		live, evidence, logs := leakstest.NewFinder(all), leakstest.NewFinder(all), leakstest.NewFinder(all)
		_, err = b.Build(context.WithoutCancel(t.Context()), "run-1", app, c,
			func(e deploy.StepEvidence) { evidence.Answer("evidence", fmt.Sprintf("%+v", e)) },
			func(_, line string) { live.Answer("live", line) })
		evidence.Answer("the error", fmt.Sprint(err))
		if err := logs.Folder(filepath.Join(b.dir, "pipeline"), func(string) bool { return false }); err != nil {
			t.Fatal(err)
		}
		for where, f := range map[string]*leakstest.Finder{"live lines": live, "evidence": evidence, "files": logs} {
			if hides && len(f.Found) > 0 {
				t.Errorf("%s: %v", where, f.Found)
			}
			if !hides && len(f.Found) == 0 {
				t.Errorf("%s: without hiding, nothing is found in %d answers and %d files: the search would not notice", where, f.Answers, f.Files)
			}
		}
	}
}

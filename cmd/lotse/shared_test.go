package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/ledger"
	"github.com/lotse-eu/lotse/internal/share"
)

// Whoever tells people is given some seconds after a rollout has just ended, and none else.
func TestLastWords(t *testing.T) {
	for name, c := range map[string]struct {
		ended time.Duration // before the controller is asked to end; 0: nothing ended
		want  time.Duration
	}{"just ended": {time.Second, lastWords}, "long ago": {time.Hour, 0}, "never": {0, 0}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				book, err := ledger.Open(t.Context(), filepath.Join(t.TempDir(), "ledger.db"), ledger.Config{})
				if err != nil {
					t.Fatal(err)
				}
				defer book.Close()
				if c.ended > 0 {
					if _, err := book.Append(t.Context(), deploy.Event{Kind: deploy.KindSettled}); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(c.ended) //nolint:forbidigo // inside synctest, where this is how time passes
				ctx, cancel := context.WithCancel(t.Context())
				s := &sharing{Share: &share.Share{Config: share.Config{Clock: time.Now}}}
				longer := s.telling(ctx, book)
				begun := time.Now()
				cancel()
				<-longer.Done()
				if took := time.Since(begun); took != c.want {
					t.Errorf("it ended after %s", took)
				}
				if none := (*sharing)(nil).telling(ctx, book); !errors.Is(none.Err(), context.Canceled) {
					t.Error("a controller of its own is given more time")
				}
			})
		})
	}
}

// The address of a job is the one that people know, and holds nobody's name.
func TestJob(t *testing.T) {
	for want, env := range map[string]map[string]string{
		"https://github.com/ada/shop/actions/runs/41":  {"GITHUB_RUN_ID": "41", "GITHUB_REPOSITORY": "ada/shop"},
		"https://git.example/ada/shop/actions/runs/41": {"GITHUB_RUN_ID": "41", "GITHUB_REPOSITORY": "ada/shop", "GITHUB_SERVER_URL": "https://git.example"},
		"lotse-shop-deploy:7d1f":                       {"CODEBUILD_BUILD_ID": "lotse-shop-deploy:7d1f"},
		"a controller outside of CI":                   {"HOSTNAME": "adas-laptop", "USER": "ada"},
	} {
		if got := job(func(name string) string { return env[name] }); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

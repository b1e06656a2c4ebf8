package proxy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTableAndFencesSurviveARestart(t *testing.T) {
	h := newHarbour(t)
	full := site(7, "a", instance(t, says("a")))
	full.Redirects = map[string]string{"old.localhost": "https://" + host}
	full.Drain = 3
	full.Releases[0].Routes[0].Health = "/up"
	full.Releases = append(full.Releases, Release{ID: "s", Label: "s", Routes: []Route{{Prefix: "/", Service: "s",
		Static: staticDir(t, map[string]string{"index.html": "x"}, "index.html")}}})
	h.put(full)
	h.put(Site{Key: "gone", Fence: 9, Hosts: []string{"gone.localhost"}})
	if err := h.steer.Remove(t.Context(), "gone", 9); err != nil {
		t.Fatal(err)
	}
	if err := h.stop(); err != nil {
		t.Fatal(err)
	}
	h.start(nil)
	got, err := h.steer.Get(t.Context(), "shop/dev")
	if err != nil {
		t.Fatal(err)
	}
	full.Releases[0].Served = true // the proxy says so
	if diff := cmp.Diff(full, got); diff != "" {
		t.Errorf("the site after a restart (-put +got):\n%s", diff)
	}
	_, body := h.get(h.client("HTTP/1.1"), "https://"+host+"/")
	mustBe(t, "body", body, "a")
	mustErr(t, "old fence", h.steer.Put(t.Context(), site(6, "b", "127.0.0.1:1")), ErrFenced)
	mustErr(t, "old fence, removing", h.steer.Remove(t.Context(), "shop/dev", 6), ErrFenced)
	mustErr(t, "old fence of a removed site", h.steer.Put(t.Context(), Site{Key: "gone", Fence: 8}), ErrFenced)
	mustErr(t, "same fence", h.steer.Put(t.Context(), full), nil)
	sites, err := h.steer.Sites(t.Context())
	mustBe(t, "number of sites", len(sites), 1)
	mustErr(t, "Sites", err, nil)
}

// Whichever byte of the first file is damaged or missing, the second is used, and it is said.
func TestDamagedStateIsNeitherLostNorHidden(t *testing.T) {
	for name, damage := range map[string]func([]byte) []byte{
		"empty":     func([]byte) []byte { return nil },
		"truncated": func(b []byte) []byte { return b[:len(b)/2] },
		"one bit":   func(b []byte) []byte { b[len(b)*3/4] ^= 1; return b },
		"digest":    func(b []byte) []byte { b[10] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHarbour(t)
			h.put(site(7, "a", instance(t, says("a"))))
			h.stop()
			first, second := filepath.Join(h.cfg.StateDir, stateFile), filepath.Join(h.cfg.StateDir, stateCopy)
			spoil(t, first, damage)
			h.start(nil)
			_, body := h.get(h.client("HTTP/1.1"), "https://"+host+"/")
			mustBe(t, "body", body, "a")
			mustErr(t, "old fence", h.steer.Put(t.Context(), site(6, "b", "127.0.0.1:1")), ErrFenced)
			st, err := h.steer.Stats(t.Context())
			mustErr(t, "Stats", err, nil)
			mustSay(t, "notes", strings.Join(st.Notes, "\n"), "state.json was damaged")
			if _, err := os.Stat(first + ".damaged"); err != nil {
				t.Error(err)
			}
			h.stop()
			spoil(t, second, damage)
			_, err = New(h.cfg)
			mustErr(t, "both damaged", err, ErrDamaged)
		})
	}
}

func spoil(t *testing.T, path string, damage func([]byte) []byte) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, damage(data), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A table that cannot be kept is not served: after a restart it would be another.
func TestPutThatCannotBeKeptChangesNothing(t *testing.T) {
	h := newHarbour(t)
	h.put(site(1, "a", instance(t, says("a"))))
	moved := h.cfg.StateDir + "-away"
	if err := os.Rename(h.cfg.StateDir, moved); err != nil {
		t.Fatal(err)
	}
	if err := h.steer.Put(t.Context(), site(2, "b", "127.0.0.1:1")); err == nil {
		t.Error("Put answered although nothing was kept")
	}
	_, body := h.get(h.client("HTTP/1.1"), "https://"+host+"/")
	mustBe(t, "body", body, "a")
	if err := os.Rename(moved, h.cfg.StateDir); err != nil {
		t.Fatal(err)
	}
	got, _ := h.steer.Get(t.Context(), "shop/dev")
	mustBe(t, "fence", got.Fence, int64(1))
}

// Files that are gone at a restart spoil their own route only.
func TestRestoreWithoutFiles(t *testing.T) {
	h := newHarbour(t)
	s := site(1, "a", instance(t, says("a")))
	static := staticDir(t, map[string]string{"x.html": "x"}, "")
	s.Releases[0].Routes = append(s.Releases[0].Routes, Route{Prefix: "/files", Service: "files", Static: static})
	h.put(s)
	h.stop()
	if err := os.RemoveAll(static.Root); err != nil {
		t.Fatal(err)
	}
	h.start(nil)
	c := h.client("HTTP/1.1")
	_, body := h.get(c, "https://"+host+"/")
	mustBe(t, "body", body, "a")
	resp, _ := h.get(c, "https://"+host+"/files/x.html")
	mustBe(t, "status", resp.StatusCode, 503)
	st, _ := h.steer.Stats(t.Context())
	mustSay(t, "notes", strings.Join(st.Notes, "\n"), "the files of files in shop/dev cannot be read")
}

func TestClientTellsAbsenceFromCancel(t *testing.T) {
	c := NewClient(filepath.Join(t.TempDir(), "none"))
	mustErr(t, "Ping", c.Ping(t.Context()), ErrNoProxy)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := c.Ping(ctx)
	if !errors.Is(err, context.Canceled) || errors.Is(err, ErrNoProxy) {
		t.Errorf("Ping after a cancel: %v", err)
	}
}

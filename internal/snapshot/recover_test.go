package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
)

// alone is all that is left: a folder with one snapshot, and the file with the key.
func alone(t *testing.T) (root, key string, taken deploy.Snapshot) {
	t.Helper()
	name, url := database(t)
	execute(t, url.Reveal(), market)
	volume := t.TempDir()
	fill(t, volume)
	s, identity := store(t)
	taken = take(t, s, deploy.Data{Database: name, URL: url, Volumes: map[string]string{"uploads": volume}})
	key = filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("# a key of age\n"+identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s.c.Root, key, taken
}

// TestFromTheFolderAndTheKeyAlone comes back in a new cluster that is made for it.
func TestFromTheFolderAndTheKeyAlone(t *testing.T) {
	root, key, taken := alone(t)
	s, err := Open(Config{Root: root, Keys: KeyFile(key), Scratch: filepath.Join(shortFolder(t), "s")})
	if err != nil {
		t.Fatal(err)
	}
	cluster := postgres.Cluster{Dir: filepath.Join(shortFolder(t), "c")}
	t.Cleanup(func() { _ = cluster.Remove(context.Background()) })
	back, err := s.Recover(bounded(t), Recovery{Cluster: cluster, Name: "market", Data: deploy.Data{Volumes: map[string]string{"uploads": filepath.Join(t.TempDir(), "back")}}})
	if err != nil {
		t.Fatal(err)
	}
	if back.Snapshot.ID != taken.ID || ask[int](t, back.URL.Reveal(), "select count(*) from orders") != 500 {
		t.Errorf("%+v", back)
	}
	if err := back.Server.Stop(bounded(t)); err != nil {
		t.Fatal(err)
	}
	// A second time the folder is not empty.
	if _, err := s.Recover(bounded(t), Recovery{Cluster: cluster, Name: "market"}); !errors.Is(err, deploy.ErrRefused) {
		t.Error(err)
	}
	if _, err := s.Recover(bounded(t), Recovery{ID: "20200101", Cluster: cluster}); !errors.Is(err, deploy.ErrNotFound) {
		t.Error(err)
	}
}

// TestByHand runs the commands of the document.
func TestByHand(t *testing.T) {
	for _, name := range []string{"age", "zstd", "pg_restore"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("NOT RUN: %s is not installed: the commands of docs/snapshots.md by which a snapshot comes back by hand", name)
		}
	}
	_, key, taken := alone(t)
	_, url := database(t)
	text, err := os.ReadFile("../../docs/snapshots.md")
	if err != nil {
		t.Fatal(err)
	}
	_, byHand, _ := strings.Cut(string(text), "## By hand")
	script := "set -eu -o pipefail\n"
	for line := range strings.Lines(byHand) {
		if strings.HasPrefix(line, "    ") {
			script += line
		}
	}
	back := t.TempDir()
	cmd := exec.CommandContext(bounded(t), "bash", "-c", script)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "SNAPSHOT="+taken.Where, "KEY="+key, "URL="+url.Reveal(), "BACK="+back)
	out, err := cmd.Output()
	if err != nil {
		ended, _ := errors.AsType[*exec.ExitError](err)
		t.Fatalf("%v\n%s\n%s", err, ended.Stderr, script)
	}
	var d details
	if err := json.Unmarshal(out, &d); err != nil || len(d.Tables) != 5 {
		t.Errorf("%v\n%s", err, out)
	}
	if n := ask[int](t, url.Reveal(), "select count(*) from people"); n != 500 {
		t.Errorf("%d people came back", n)
	}
	if text, err := os.ReadFile(filepath.Join(back, "a", "b.txt")); err != nil || string(text) != "hello" {
		t.Error(string(text), err)
	}
}

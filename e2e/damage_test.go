package e2e_test

import (
	"bytes"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Bytes of a release that change in the depot after it was built are noticed before they are used. The rollout goes back, and
// the same commit, deployed again, makes the release anew.
func TestDamagedRelease(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	dir := m.repository(site("good\n"))
	m.must(dir, "deploy")
	const marked = "the page that will be damaged\n"
	m.commit(dir, map[string]string{"index.html": marked, "lotse.yaml": siteFile(copyPage, "watch: 0s, stable: 5s, drain: 1s")})
	id := strings.TrimSpace(m.must(dir, "deploy", "--detach"))
	m.await("the release is being asked for its health", time.Minute, func() bool {
		r, err := m.api.Rollout(t.Context(), id)
		return err == nil && slices.ContainsFunc(r.Steps, func(s deploy.Step) bool { return s.Name == "health" })
	})
	m.killController()
	if n := replaceBelow(t, filepath.Join(m.state, "depot"), marked, strings.ToUpper(marked)); n == 0 {
		t.Fatal("the page is nowhere in the depot")
	}
	m.serve()
	m.refused(1, []string{"rollout " + id + " went back at entry", "damaged: dist/index.html", "page/dev still serves release", "→ deploy the commit again"}, dir, "follow", id)
	m.serves("good\n")
	m.atRest()
	m.must(dir, "deploy")
	m.serves(marked)
}

// replaceBelow replaces bytes in all files below dir, and says in how many.
func replaceBelow(t *testing.T, dir, old, with string) (files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(raw, []byte(old)) {
			return err
		}
		files++
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt(bytes.ReplaceAll(raw, []byte(old), []byte(with)), 0)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// A ledger that is not what was written is said by whoever looks: at the event, where one was changed; where it is no ledger
// any more, the controller does not start. What serves goes on, and with the copy put back everything does.
func TestDamagedLedger(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	dir := m.repository(site("good\n"))
	m.must(dir, "deploy")
	history, err := m.api.History(t.Context(), "", "", 1)
	if err != nil || len(history) != 1 {
		t.Fatal(history, err)
	}
	m.stopController()
	file := filepath.Join(m.state, "ledger.db")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	put := func(raw []byte) {
		t.Helper()
		if err := os.WriteFile(file, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	put(bytes.ReplaceAll(whole, []byte(`"commit":"`+history[0].Commit[:4]), []byte(`"commit":"0000`)))
	m.refused(6, []string{"event 1: its hash does not match", "→ nothing was changed", "put back a copy from a backup"}, dir, "ledger", "verify")
	m.serves("good\n")
	m.serve()
	m.await("the controller says that the ledger is damaged", time.Minute, func() bool { return strings.Contains(m.said(), "the ledger is damaged") })
	m.serves("good\n")
	m.stopController()

	put(append(bytes.Repeat([]byte("x"), 200), whole[200:]...))
	for _, args := range [][]string{{"ledger", "verify"}, {"serve"}} {
		m.refused(6, []string{"damaged", "put back a copy from a backup"}, dir, args...)
	}
	m.serves("good\n")

	put(whole)
	m.serve()
	m.must(dir, "ledger", "verify")
	m.commit(dir, site("better\n"))
	m.must(dir, "deploy")
	m.serves("better\n")
}

// A disk that is too full is said before anything is built; one that a step fills, as the step's likely cause. With room again,
// the same controller goes on.
func TestFullDisk(t *testing.T) {
	for _, c := range []struct {
		folder, room, run string
		says              []string
	}{
		{"depot", "64m", copyPage, []string{"not enough disk space", "MiB are free and a build may need", "→ free some space"}},
		{"pipeline", "1100m", copyPage + " && fallocate -l 8G dist/big", []string{"failed in step site", "likely cause: the disk is full"}},
	} {
		t.Run(c.folder, func(t *testing.T) {
			m := newMachine(t)
			dir := m.repository(site("good\n"))
			m.must(dir, "deploy")
			m.stopController()
			disk := filepath.Join(m.state, c.folder)
			m.smallDisk(disk, c.room)
			m.serve()
			m.commit(dir, map[string]string{"index.html": "bad\n", "lotse.yaml": siteFile(c.run, noWaiting)})
			m.refused(1, c.says, dir, "deploy")
			m.serves("good\n")
			m.atRest()
			if err := unix.Mount("", disk, "", unix.MS_REMOUNT, "size=3g"); err != nil {
				t.Fatal(err)
			}
			m.commit(dir, site("better\n"))
			m.must(dir, "deploy")
			m.serves("better\n")
		})
	}
}

// smallDisk puts a disk of this size in the place of a folder of the machine, with all that is in it.
func (m *machine) smallDisk(dir, size string) {
	m.t.Helper()
	aside := dir + ".aside"
	m.command("mv", dir, aside)
	if err := os.Mkdir(dir, 0o700); err != nil {
		m.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0711,size="+size); err != nil {
		m.t.Skipf("NOT RUN: a full disk is not shown here, since no file system may be mounted (%v)", err)
	}
	m.t.Cleanup(func() {
		m.stopController() // it has files open there
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			m.t.Errorf("unmount %s: %v", dir, err)
		}
	})
	m.command("cp", "-a", aside+"/.", dir)
}

func (m *machine) command(argv ...string) {
	m.t.Helper()
	if out, err := exec.CommandContext(m.t.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
}

package local_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

// An instance gets the variables that are promised, and its settings, but not somebody else's PORT.
func TestEnvironment(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	o := m.up(t, e, 0, "env", web("good", 2))
	status, err := process.Inspect(m.instance(m.stages[0], "env", "web", 1))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", status.PID))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for kv := range strings.SplitSeq(string(raw), "\x00") {
		name, value, _ := strings.Cut(kv, "=")
		if _, twice := env[name]; twice && name != "" {
			t.Errorf("%s is set twice", name)
		}
		env[name] = value
	}
	home := filepath.Join(m.stageDir(m.stages[0]), "homes", "env.web.1")
	for name, want := range map[string]string{"HOME": home, "TMPDIR": home + "/tmp", "HOST": "127.0.0.1", "LOTSE_APP": "shop", "LOTSE_STAGE": "dev",
		"LOTSE_RELEASE": o.Release.ID.Short(), "LOTSE_SERVICE": "web", "LOTSE_INSTANCE": "1", "COLOUR": "#ff8800"} {
		if env[name] != want {
			t.Errorf("%s = %q, want %q", name, env[name], want)
		}
	}
	// As root, instances run as users who may not enter every folder of PATH; a shell would call what is not there forbidden.
	for _, dir := range filepath.SplitList(os.Getenv("PATH")) {
		enters := exec.Command("/bin/sh", "-c", "cd "+dir)
		if os.Getuid() == 0 {
			enters.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 61999, Gid: 61999}}
		}
		may := enters.Run() == nil
		if has := slices.Contains(filepath.SplitList(env["PATH"]), dir); has != may && (os.Getuid() == 0 || !has) {
			t.Errorf("PATH has %s: %v; its user may enter it: %v", dir, has, may)
		}
	}
	if env["PORT"] == "3000" || env["PORT"] == "" {
		t.Errorf("PORT = %q: a setting has replaced where requests come", env["PORT"])
	}
	for name := range env {
		if !slices.Contains([]string{"", "PATH", "HOME", "TMPDIR", "HOST", "PORT", "COLOUR", "SECRET_TOKEN", "PWD", "OLDPWD", "SHLVL", "_", "LOTSE_TREE"}, name) &&
			!strings.HasPrefix(name, "LOTSE_") {
			t.Errorf("%s is passed on from our own environment", name)
		}
	}
}

// As root, a stage's processes run as a user of the stage: they can write to their home and volumes, not to the release, and
// read nothing of another stage.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT PROVEN without root: that instances run as a user of their stage")
	}
	m := newMachine(t)
	e, other := m.open(t, m.stages[0]), m.open(t, m.stages[1])
	svc := web("good", 1)
	svc.Volumes = []deploy.VolumeMount{{Volume: "uploads", Path: "data/uploads"}}
	m.up(t, e, 0, "mine", svc)
	m.up(t, other, 1, "theirs", svc)
	mine, theirs := about(t, m, e, "mine"), about(t, m, other, "theirs")
	if mine.UID < 61184 || mine.UID > 65519 || theirs.UID < 61184 || mine.UID == theirs.UID {
		t.Errorf("users %d and %d", mine.UID, theirs.UID)
	}
	foreign := m.stageDir(m.stages[1])
	for script, ok := range map[string]bool{
		"echo x > $HOME/f && echo x > $TMPDIR/f":                     true,
		"echo x > data/uploads/f && cat data/uploads/f":              true,
		"cat tag && ! test -w app && ! test -w . && ! touch x":       true,
		"! cat " + foreign + "/homes/theirs.web.0/* 2>/dev/null":     true,
		"! ls " + foreign + "/releases 2>/dev/null":                  true,
		"! ls " + foreign + "/volumes/uploads 2>/dev/null":           true,
		"! ls " + m.stageDir(m.stages[0]) + "/instances 2>/dev/null": true,
		"test $(id -u) = 0": false,
		"kill -0 1":         false,
	} {
		if err := e.Task(within(t, patience), "mine", "probe", script, nil); (err == nil) != ok {
			t.Errorf("%s: %v", script, err)
		}
	}
	again := m.open(t, m.stages[0])
	m.up(t, again, 0, "again", svc)
	if about(t, m, again, "again").UID != mine.UID {
		t.Error("the stage's user has changed")
	}
}

// What is in a volume outlives releases, and a volume does not hide a file of the release.
func TestVolumes(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	svc := web("good", 1)
	svc.Volumes = []deploy.VolumeMount{{Volume: "uploads", Path: "data/uploads"}}
	m.up(t, e, 0, "one", svc)
	if err := e.Task(within(t, patience), "one", "write", "echo kept > data/uploads/file", nil); err != nil {
		t.Fatal(err)
	}
	if err := e.Stop(within(t, patience), 1, "one", 0); err != nil {
		t.Fatal(err)
	}
	m.up(t, e, 0, "two", svc)
	if err := e.Task(within(t, patience), "two", "read", "grep kept data/uploads/file", nil); err != nil {
		t.Error(err)
	}
	if err := e.Task(within(t, patience), "two", "other", "grep kept elsewhere/file", []deploy.VolumeMount{{Volume: "uploads", Path: "elsewhere"}}); err != nil {
		t.Error(err)
	}
	for name, mount := range map[string]deploy.VolumeMount{"file": {Volume: "uploads", Path: "tag"}, "out": {Volume: "uploads", Path: "../out"},
		"up": {Volume: "../up", Path: "data"}, "all": {Volume: "uploads", Path: "."}} {
		bad := svc
		bad.Volumes = []deploy.VolumeMount{mount}
		if err := e.Start(within(t, patience), 1, m.order(0, name, m.release(t, name, bad))); !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("a volume at %q: %v", mount.Path, err)
		}
	}
	if left := m.leftovers(t, m.stages[0], []deploy.Running{{Rollout: "two", Release: m.release(t, "two", svc).ID}}); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

// Two rollouts of one release share its folder, which stays as long as one of them does.
func TestReleaseOfTwo(t *testing.T) {
	m := newMachine(t)
	e := m.open(t, m.stages[0])
	r := m.release(t, "both", web("good", 1))
	for _, id := range []string{"one", "two"} {
		if err := e.Start(within(t, patience), 1, m.order(0, id, r)); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.Stop(within(t, patience), 1, "one", 0); err != nil {
		t.Fatal(err)
	}
	if err := e.Task(within(t, patience), "two", "look", "test -x app", nil); err != nil {
		t.Error(err)
	}
	if left := m.leftovers(t, m.stages[0], []deploy.Running{{Rollout: "two", Release: r.ID}}); len(left) > 0 {
		t.Errorf("left over: %q", left)
	}
}

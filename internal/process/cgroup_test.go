package process

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Where cgroups are made, and where limits may be passed on to them: nowhere that systemd puts processes.
func TestCgroupBase(t *testing.T) {
	for _, c := range []struct {
		own, base string
		root      bool
		limits    bool
	}{
		{"/system.slice/lotse.service/lotse-controller", "/system.slice/lotse.service", true, true},
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/lotse.service/lotse-controller", "/user.slice/user-1000.slice/user@1000.service/app.slice/lotse.service", false, true},
		{"/system.slice/lotse.service", "/", true, true}, // a systemd that does not know DelegateSubgroup=
		{"/user.slice/user-1000.slice/user@1000.service/app.slice/lotse.service", "/user.slice/user-1000.slice/user@1000.service/app.slice/lotse.service", false, false},
		{"/user.slice/user-0.slice/session-1.scope", "/", true, true},
		{"/", "/", true, true},
		{"/", "/", false, false},
	} {
		if base, limits := cgroupBase(c.own, c.root); base != c.base || limits != c.limits {
			t.Errorf("in %s, root %v: %s, %v", c.own, c.root, base, limits)
		}
	}
}

// A folder stands for the hierarchy: what is written where.
func TestLimitsArePassedOnOnlyWhereTheyMay(t *testing.T) {
	for _, limits := range []bool{true, false} {
		base := t.TempDir()
		if err := os.WriteFile(filepath.Join(base, "cgroup.controllers"), []byte("cpuset memory\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{base, filepath.Join(base, "lotse")} {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if home := makeHome(base, limits); home != filepath.Join(base, "lotse") {
			t.Fatalf("home is %q", home)
		}
		want := map[bool]string{true: "+memory", false: ""}[limits]
		for _, dir := range []string{base, filepath.Join(base, "lotse")} {
			if got, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control")); err != nil || string(got) != want {
				t.Errorf("limits %v: %q is written in %s, %v", limits, got, dir, err)
			}
		}
	}
}

// Where a process cannot be born in its cgroup, what it forks before it is moved there is moved as well.
func TestGather(t *testing.T) {
	home := needCgroup(t, "moving what was forked early")
	dir, _, err := makeCgroup(home, cgroupName("gather", t.TempDir()), Limits{})
	if err != nil || dir == "" {
		t.Fatalf("%q, %v", dir, err)
	}
	cmd := exec.Command("sh", "-c", "sleep 600 & sleep 600")
	cmd.Env = []string{"PATH=/usr/bin:/bin", markerName + "=gather-test"}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	cleanup := tree{cgroup: dir}
	t.Cleanup(func() {
		cleanup.kill()
		_ = cmd.Wait()
		cleanup.remove()
	})
	all := tree{marker: "gather-test"}
	eventually(t, "the shell and its children", func() bool { return len(all.members()) == 3 })
	l := &launch{cgroup: dir, env: []string{markerName + "=gather-test"}}
	if !l.gather(cmd.Process.Pid) || len(cgroupMembers(dir)) != 3 {
		t.Errorf("in the cgroup are %v", cgroupMembers(dir))
	}
}

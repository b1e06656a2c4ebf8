package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// fakeSystemd is a machine in a folder, with a script in the place of systemctl that keeps what it is asked, and whether the unit is
// enabled and runs.
type fakeSystemd struct {
	t    *testing.T
	root string
	*installer
	downs []string
}

const fakeSystemctl = `#!/bin/sh
dir=$(dirname "$0")
echo "$*" >> "$dir/asked"
if [ "$1" = --user ]; then shift; fi
test -e "$dir/refuses-$1" && { echo "Failed to $1: no."; exit 1; }
case $1 in
is-active) test -e "$dir/active" ;;
is-enabled) test -e "$dir/enabled" ;;
enable) touch "$dir/enabled" ;;
restart) touch "$dir/active" ;;
disable) rm -f "$dir/enabled" "$dir/active" ;;
daemon-reload) ;;
*) echo "Unknown command verb $1."; exit 1 ;;
esac
`

func newFakeSystemd(t *testing.T) *fakeSystemd {
	t.Helper()
	f := &fakeSystemd{t: t, root: t.TempDir()}
	f.write("bin/systemctl", fakeSystemctl, 0o755)
	f.write("home/build/lotse", "the program", 0o755)
	if err := os.MkdirAll(f.path("/run/systemd/system"), 0o755); err != nil {
		t.Fatal(err)
	}
	f.again(false)
	return f
}

// again is another run of the command, of the program at exe.
func (f *fakeSystemd) again(user bool) {
	tool := []string{f.path("bin/systemctl")}
	f.installer = &installer{root: f.root, exe: f.path("home/build/lotse"), binary: "/usr/local/bin/lotse", file: "/etc/systemd/system/lotse.service",
		controller: func() (int, error) { return 0, nil },
		ready:      func(context.Context) error { return nil },
		down:       func(_ context.Context, state string) error { f.downs = append(f.downs, state); return nil },
		make:       func() error { return nil }}
	if user {
		tool = append(tool, "--user")
		f.binary, f.file = "/home/somebody/.local/bin/lotse", "/home/somebody/.config/systemd/user/lotse.service"
	}
	f.unit = unit{user: user, binary: f.binary, state: "/var/lib/lotse", path: "/usr/bin:/bin"}
	f.systemctl = func(ctx context.Context, args ...string) error { return run(ctx, append(slices.Clone(tool), args...)) }
}

func (f *fakeSystemd) path(name string) string { return filepath.Join(f.root, name) }

func (f *fakeSystemd) write(name, text string, mode os.FileMode) {
	f.t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(f.path(name)), 0o755), os.WriteFile(f.path(name), []byte(text), mode)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fakeSystemd) read(name string) string {
	raw, err := os.ReadFile(f.path(name))
	if err != nil {
		return ""
	}
	return string(raw)
}

// asked are the changing orders to systemctl since the last look.
func (f *fakeSystemd) asked() []string {
	f.t.Helper()
	var orders []string
	for line := range strings.Lines(f.read("bin/asked")) {
		if line = strings.TrimSpace(line); !strings.Contains(line, "is-") {
			orders = append(orders, line)
		}
	}
	if err := os.Remove(f.path("bin/asked")); err != nil && !os.IsNotExist(err) {
		f.t.Fatal(err)
	}
	return orders
}

func (f *fakeSystemd) installs() []string {
	f.t.Helper()
	done, err := f.install(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return done.Done
}

func TestInstall(t *testing.T) {
	f := newFakeSystemd(t)
	done := f.installs()
	want := []string{"wrote /etc/systemd/system/lotse.service", "installed /usr/local/bin/lotse", "started lotse.service; from now on it starts with the machine"}
	if !slices.Equal(done, want) {
		t.Errorf("it says %q", done)
	}
	if got := f.asked(); !slices.Equal(got, []string{"daemon-reload", "enable lotse.service", "restart lotse.service"}) {
		t.Errorf("systemd was asked %q", got)
	}
	if info, err := os.Stat(f.path("/usr/local/bin/lotse")); err != nil || info.Mode().Perm() != 0o755 || f.read("/usr/local/bin/lotse") != "the program" {
		t.Errorf("the binary: %v, %v", info, err)
	}

	// A second time, also of the program that was installed, nothing is changed.
	for _, exe := range []string{"home/build/lotse", "/usr/local/bin/lotse"} {
		f.again(false)
		f.exe = f.path(exe)
		if done, asked := f.installs(), f.asked(); len(done)+len(asked) != 0 {
			t.Errorf("%s again: %q, %q", exe, done, asked)
		}
	}

	// A newer program takes the place of the old one, and is started.
	f.again(false)
	f.write("home/build/lotse", "the next program", 0o755)
	if done := f.installs(); len(done) != 3 || !strings.Contains(done[2], "again") || f.read("/usr/local/bin/lotse") != "the next program" {
		t.Errorf("of a newer program: %q", done)
	}
	if got := f.asked(); !slices.Equal(got, []string{"daemon-reload", "restart lotse.service"}) {
		t.Errorf("systemd was asked %q", got)
	}

	// One that was stopped and disabled runs again.
	f.again(false)
	if err := errors.Join(os.Remove(f.path("bin/active")), os.Remove(f.path("bin/enabled"))); err != nil {
		t.Fatal(err)
	}
	if done, asked := f.installs(), f.asked(); len(done) != 1 || !slices.Equal(asked, []string{"enable lotse.service", "restart lotse.service"}) {
		t.Errorf("after it was stopped: %q, %q", done, asked)
	}
}

func TestUninstall(t *testing.T) {
	f := newFakeSystemd(t)
	f.installs()
	f.asked()
	f.again(false)
	f.unit.state = "/elsewhere" // what was installed counts
	said, err := f.uninstall(t.Context())
	if err != nil || !slices.Equal(f.downs, []string{"/var/lib/lotse"}) || !slices.Equal(f.asked(), []string{"disable --now lotse.service", "daemon-reload"}) {
		t.Errorf("%v, ended %q", err, f.downs)
	}
	for _, name := range []string{"/usr/local/bin/lotse", "/etc/systemd/system/lotse.service"} {
		if _, err := os.Lstat(f.path(name)); !os.IsNotExist(err) {
			t.Errorf("%s is still there", name)
		}
	}
	if notes := strings.Join(said.Notes, "\n"); !strings.Contains(notes, "the data stays in /var/lib/lotse") || !strings.Contains(notes, "`rm -r /var/lib/lotse`") {
		t.Errorf("the notes are %q", notes)
	}
	if said, err := f.uninstall(t.Context()); err != nil || len(said.Done) != 0 {
		t.Errorf("a second time: %+v, %v", said, err)
	}
}

// What others have put there stays: a unit without our mark, a program that was there or was put there since.
func TestWhatIsNotOursStays(t *testing.T) {
	t.Run("unit", func(t *testing.T) {
		f := newFakeSystemd(t)
		f.write("/etc/systemd/system/lotse.service", "[Service]\nExecStart=/bin/other\n", 0o644)
		_, err := f.install(t.Context())
		_, err2 := f.uninstall(t.Context())
		if !errors.Is(err, deploy.ErrBadInput) || !errors.Is(err2, deploy.ErrBadInput) || !strings.Contains(f.read("/etc/systemd/system/lotse.service"), "other") {
			t.Errorf("%v, %v", err, err2)
		}
		if asked := f.asked(); len(asked) != 0 || f.read("/usr/local/bin/lotse") != "" {
			t.Errorf("something was done: %q", asked)
		}
	})
	t.Run("program that was there", func(t *testing.T) {
		f := newFakeSystemd(t)
		f.write("/usr/local/bin/lotse", "the program", 0o755)
		f.installs()
		if _, err := f.uninstall(t.Context()); err != nil || f.read("/usr/local/bin/lotse") != "the program" {
			t.Errorf("it was removed, %v", err)
		}
	})
	t.Run("program that has run from there", func(t *testing.T) {
		f := newFakeSystemd(t)
		f.write("/usr/local/bin/lotse", "the program", 0o755)
		f.exe = f.path("/usr/local/bin/lotse")
		f.installs()
		if _, err := f.uninstall(t.Context()); err != nil || f.read("/usr/local/bin/lotse") != "the program" {
			t.Errorf("it was removed, %v", err)
		}
	})
	t.Run("program that was put there since", func(t *testing.T) {
		f := newFakeSystemd(t)
		f.installs()
		f.write("/usr/local/bin/lotse", "by hand", 0o755)
		if said, err := f.uninstall(t.Context()); err != nil || f.read("/usr/local/bin/lotse") != "by hand" || !strings.Contains(said.Notes[0], "stays") {
			t.Errorf("%+v, %v", said, err)
		}
	})
}

// What cannot be is refused before anything is changed, with what to do.
func TestInstallRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		plant func(f *fakeSystemd)
		want  string
		hint  string
	}{
		"no systemd": {func(f *fakeSystemd) { os.RemoveAll(f.path("/run/systemd")) }, "does not run systemd", "lotse install --print"},
		"a controller by hand": {func(f *fakeSystemd) { f.controller = func() (int, error) { return 77, nil } },
			"runs without systemd (process 77)", "`kill 77`"},
		"another state folder": {func(f *fakeSystemd) { f.installs(); f.asked(); f.again(false); f.unit.state = "/other" },
			"with the state folder /var/lib/lotse", "lotse uninstall"},
	} {
		f := newFakeSystemd(t)
		c.plant(f)
		before := f.read("/etc/systemd/system/lotse.service")
		_, err := f.install(t.Context())
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(deploy.HintOf(err), c.hint) {
			t.Errorf("%s: %v (%s)", name, err, deploy.HintOf(err))
		}
		if asked := f.asked(); len(asked) != 0 || f.read("/etc/systemd/system/lotse.service") != before {
			t.Errorf("%s: something was done: %q", name, asked)
		}
	}
}

// What systemd says is told, and the next install goes on from there.
func TestInstallGoesOnAfterAFailure(t *testing.T) {
	f := newFakeSystemd(t)
	f.write("bin/refuses-restart", "", 0o600)
	_, err := f.install(t.Context())
	if err == nil || !strings.Contains(err.Error(), "Failed to restart: no.") || !strings.Contains(deploy.HintOf(err), "journalctl -u lotse") {
		t.Errorf("%v (%s)", err, deploy.HintOf(err))
	}
	if err := os.Remove(f.path("bin/refuses-restart")); err != nil {
		t.Fatal(err)
	}
	f.again(false)
	if done := f.installs(); len(done) != 1 || !strings.HasPrefix(done[0], "started") {
		t.Errorf("it says %q", done)
	}
	if _, err := f.uninstall(t.Context()); err != nil || f.read("/usr/local/bin/lotse") != "" {
		t.Errorf("what an install that failed has made is not taken away: %v", err)
	}
}

func TestInstallForAUser(t *testing.T) {
	f := newFakeSystemd(t)
	f.again(true)
	said, err := f.install(t.Context())
	if err != nil || !slices.Equal(f.asked(), []string{"--user daemon-reload", "--user enable lotse.service", "--user restart lotse.service"}) {
		t.Error(err)
	}
	if len(said.Notes) != 1 || !strings.Contains(said.Notes[0], "loginctl enable-linger") {
		t.Errorf("%q", said.Notes)
	}
	text := f.read("/home/somebody/.config/systemd/user/lotse.service")
	if !strings.Contains(text, "ExecStart=/home/somebody/.local/bin/lotse serve --state /var/lib/lotse --https 8443 --http 8080\n") || !strings.Contains(text, "WantedBy=default.target") {
		t.Errorf("the unit:\n%s", text)
	}
}

func TestUnitsAreRead(t *testing.T) {
	for _, u := range []unit{{state: "/var/lib/lotse", binary: "/usr/local/bin/lotse", digest: "sha256:aa"}, {state: "/srv/x"}} {
		got, ours := parseUnit(u.text())
		if !ours || got != (unit{state: u.state, binary: u.binary, digest: u.digest}) {
			t.Errorf("%+v became %+v, %v", u, got, ours)
		}
	}
	if strings.Contains(unit{}.text(), "{") {
		t.Errorf("something was not filled in:\n%s", unit{}.text())
	}
	for _, text := range []string{"", "[Unit]\n", "\n" + unit{state: "/x"}.text()} {
		if _, ours := parseUnit(text); ours {
			t.Errorf("%.20q is taken for ours", text)
		}
	}
	for _, state := range []string{"/a b", "relative", "/with%specifier", "/with\nline", `/quo"te`, "/$HOME"} {
		if (unit{binary: "/b", state: state}).problem() == nil {
			t.Errorf("the state folder %q is taken", state)
		}
	}
}

// Each setting of a unit is one that the machine's systemd knows, and the exposure that it works out stays small.
func TestUnitsWithSystemd(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("NOT RUN: that systemd takes the units, and how exposed the controller is: systemd-analyze is not installed")
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "lotse")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, most := range map[string]float64{"machine": 4, "user": 10} { // what a user's manager leaves out is the kernel's affair
		file := filepath.Join(dir, name, unitName)
		u := unit{user: name == "user", binary: program, state: "/var/lib/lotse", path: "/usr/bin:/bin"}
		if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(u.text()), 0o644)); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("systemd-analyze", "verify", file).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, unitName) && !strings.Contains(line, "DelegateSubgroup") { // of systemd 254
				t.Errorf("%s: %s", name, line)
			}
		}
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if exposure := exposed(t, file); exposure >= most {
			t.Errorf("%s: the exposure is %.1f, and shall be below %.1f", name, exposure, most)
		} else {
			t.Logf("%s: the exposure is %.1f", name, exposure)
		}
	}
}

func exposed(t *testing.T, file string) float64 {
	t.Helper()
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", file).CombinedOutput()
	found := regexp.MustCompile(`Overall exposure level for \S+: ([0-9.]+)`).FindSubmatch(out)
	if found == nil {
		t.Skipf("NOT RUN: how exposed the controller is: this systemd cannot say: %v\n%s", err, out)
	}
	figure, err := strconv.ParseFloat(string(found[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return figure
}

// Who may write into a folder of root's PATH is root.
func TestSafePath(t *testing.T) {
	dir := t.TempDir()
	own, open := filepath.Join(dir, "own"), filepath.Join(dir, "open")
	if err := errors.Join(os.Mkdir(own, 0o755), os.Mkdir(open, 0o755), os.Chmod(open, 0o777)); err != nil {
		t.Fatal(err)
	}
	path := strings.Join([]string{own, open, "relative", dir + "/gone", own, ""}, ":")
	if got := safePath(path, false); got != own+":"+open {
		t.Errorf("a user's PATH is %s", got)
	}
	want := own
	if os.Getuid() != 0 {
		want = "/usr/local/bin:/usr/bin:/bin" // own is not root's
	}
	if got := safePath(path, true); got != want {
		t.Errorf("root's PATH is %s", got)
	}
}

// A controller that systemd runs is ended by systemd.
func TestStopCommand(t *testing.T) {
	for groups, want := range map[string]string{
		"0::/system.slice/lotse.service/lotse-controller\n":                                           "systemctl stop lotse.service",
		"0::/system.slice/lotse.service\n":                                                            "systemctl stop lotse.service",
		"12:cpu:/\n1:name=systemd:/system.slice/lotse.service\n0::/\n":                                "systemctl stop lotse.service",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/lotse.service/lotse-controller\n": "systemctl --user stop lotse.service",
		"0::/user.slice/user-1000.slice/session-2.scope\n":                                            "",
		"0::/system.slice/not-lotse.service\n":                                                        "",
		"4:memory:/lotse.service\n0::/\n":                                                             "",
		"":                                                                                            "",
	} {
		if got := strings.Join(stopCommand(groups), " "); got != want {
			t.Errorf("%q: %q", groups, got)
		}
	}
	if command := fmt.Sprint(stopCommand("nonsense")); command != "[]" {
		t.Error(command)
	}
}

package plane_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/awsfake/plane"
)

// A launch runs the hooks in order and where the platform runs them, then the processes, then postdeploy.
func TestLaunchDeploysTheBundle(t *testing.T) {
	p := open(t, plane.Options{})
	o := options(t, "i-1", files{
		"Procfile":                          "web: exec SELF\nclock: echo clock ${PORT-without}; sleep 60\n",
		".platform/hooks/prebuild/02_later": "#!/bin/sh\necho second $PWD >> /var/log/hooks\n",
		".platform/hooks/prebuild/01_first": "#!/bin/sh\necho first $GREETING >> /var/log/hooks\nmount -t efs fs-1:/ '/mnt/a b'\ncurl -fsSo ca.pem https://ca.example/x.pem\n",
		".platform/hooks/predeploy/01_x":    "#!/bin/sh\n[ -e /var/app/current ] && echo too early\necho third $PWD; ls ca.pem >> /var/log/hooks\n",
		".platform/hooks/postdeploy/01_x":   "#!/bin/sh\necho fourth $PWD >> /var/log/hooks\n",
		".lotse/front.json":                 `{"volumes":{"uploads":"/var/lib/lotse/volumes/uploads"}}`,
	})
	o.Downloads = map[string][]byte{"https://ca.example/x.pem": []byte("a certificate")}
	i := launch(t, p, o)
	raw, _ := os.ReadFile(filepath.Join(i.Folder(), "var/log/hooks"))
	staging, current := filepath.Join(i.Folder(), "var/app/staging"), filepath.Join(i.Folder(), "var/app/current")
	want := "first moin $HOME 'x'\nsecond " + staging + "\nca.pem\nfourth " + current + "\n"
	if string(raw) != want {
		t.Errorf("hooks wrote\n%swant\n%s", raw, want)
	}
	if raw, _ := os.ReadFile(filepath.Join(current, "ca.pem")); string(raw) != "a certificate" {
		t.Errorf("curl wrote %q", raw)
	}
	if asked := i.Asked(); len(asked) != 2 || asked[0] != "mount -t efs fs-1:/ /mnt/a b" {
		t.Errorf("stand-ins were asked %q", asked)
	}
	if raw, _ := os.ReadFile(filepath.Join(current, ".lotse/front.json")); !strings.Contains(string(raw), i.Folder()+"/var/lib/lotse/volumes/uploads") {
		t.Errorf("paths are %s", raw)
	}
	eventually(t, "the app is well", func() bool { return i.Health().Status == "Ok" })
	eventually(t, "the second process", func() bool {
		return slices.ContainsFunc(i.Lines(), func(l plane.Line) bool {
			return l.File == "clock.stdout.log" && l.Text == "clock without" && !l.Time.IsZero()
		})
	})
	if _, err := os.Stat(staging); err == nil {
		t.Error("staging is still there")
	}
}

// A hook that fails fails the launch with its status and output; nothing after it runs.
func TestHookThatFails(t *testing.T) {
	for name, script := range map[string]string{"01_fails": "#!/bin/sh\necho the disk is full >&2\nexit 7\n", "01_plain": "echo not executable"} {
		t.Run(name, func(t *testing.T) {
			p := open(t, plane.Options{})
			i, err := p.Launch(t.Context(), options(t, "i-1", files{
				".platform/hooks/predeploy/" + name:  script,
				".platform/hooks/predeploy/02_after": "#!/bin/sh\ntouch /var/log/after\n",
			}))
			var failed *plane.LaunchError
			if !errors.As(err, &failed) || failed.Step != "predeploy" || !strings.HasSuffix(failed.Hook, name) {
				t.Fatalf("launch says %v", err)
			}
			if name == "01_fails" && (failed.Code != 7 || failed.Output != "the disk is full\n") {
				t.Errorf("status %d, output %q", failed.Code, failed.Output)
			}
			if _, err := os.Stat(filepath.Join(i.Folder(), "var/log/after")); err == nil {
				t.Error("the next hook ran")
			}
			if h := i.Health(); h.Status != "Severe" || h.Color != "Red" || !strings.Contains(h.Causes[0], name) {
				t.Errorf("health is %+v", h)
			}
			if strings.Contains(text(i.Lines()), "app listens") {
				t.Error("the app was started")
			}
		})
	}
}

func text(lines []plane.Line) string {
	var all strings.Builder
	for _, l := range lines {
		all.WriteString(l.String() + "\n")
	}
	return all.String()
}

// Hooks like those of Lotse's bundles: they mount once, fetch RDS's certificates, and write where the platform's paths are.
func TestHooksOfLotse(t *testing.T) {
	p := open(t, plane.Options{})
	mount := "mountpoint -q /var/lib/lotse/volumes || { dnf install -y amazon-efs-utils; mount -t efs -o tls fs-1:/ /var/lib/lotse/volumes; }\n"
	o := options(t, "i-1", files{
		".platform/hooks/prebuild/00":  "#!/bin/sh\nset -eu\nmkdir -p /var/lib/lotse/volumes\nchown webapp: /var/lib/lotse/volumes\n" + mount + mount,
		".platform/hooks/prebuild/10":  "#!/bin/sh\ncurl -fsS --retry 5 -o /var/lib/lotse/rds.pem https://truststore.pki.rds.amazonaws.com/eu-central-1/eu-central-1-bundle.pem\n",
		".platform/hooks/predeploy/10": "#!/bin/sh\nset -eu\ncd /var/app/staging\ngrep -q CERTIFICATE \"${DATABASE##*=}\"\n",
	})
	o.Environment["DATABASE"] = "postgres://db/?sslmode=verify-full&sslrootcert=/var/lib/lotse/rds.pem"
	i := launch(t, p, o)
	if asked := i.Asked(); len(asked) != 6 || !strings.HasPrefix(asked[3], "mount -t efs") {
		t.Errorf("stand-ins were asked %q, want one mount", asked)
	}
	if raw, _ := os.ReadFile(filepath.Join(i.Folder(), "var/lib/lotse/rds.pem")); string(raw) != string(p.AuthorityPEM()) {
		t.Errorf("the certificates are %q", raw)
	}
	o.ID, o.Bundle = "i-2", bundle(t, files{".platform/hooks/prebuild/10": "#!/bin/sh\ncurl -fsS https://elsewhere.example/\n"})
	var failed *plane.LaunchError
	if _, err := p.Launch(t.Context(), o); !errors.As(err, &failed) || failed.Code != 6 {
		t.Errorf("a download that nobody foresaw: %v", err)
	}
}

func TestCancelledLaunchEndsTheHook(t *testing.T) {
	p := open(t, plane.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	o := options(t, "i-1", files{".platform/hooks/prebuild/01_long": "#!/bin/sh\nsleep 600 & sleep 600\n"})
	o.OnLine = func(l plane.Line) {
		if strings.Contains(l.Text, "01_long") {
			cancel()
		}
	}
	i, err := p.Launch(ctx, o)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("launch says %v", err)
	}
	i.Stop(t.Context())
	if left := running(t, i.Folder()); len(left) > 0 {
		t.Errorf("%d processes are left", len(left))
	}
}

// running are the processes that work below a folder.
func running(t *testing.T, folder string) []string {
	t.Helper()
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	var left []string
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, folder) {
			left = append(left, link)
		}
	}
	return left
}

func TestBundlesThatAreRefused(t *testing.T) {
	for name, more := range map[string]files{
		"path escape":        {"../../escaped": "x"},
		"absolute path":      {"/etc/escaped": "x"},
		"link escape":        {"link": "->../../.."},
		"absolute link":      {"link": "->/etc"},
		"no web":             {"Procfile": "clock: date"},
		"web is not first":   {"Procfile": "clock: date\nweb: date"},
		"no command":         {"Procfile": "web:"},
		"not a Procfile":     {"Procfile": "start the app"},
		"file through link":  {"a": "->.", "a/../../b": "x"},
		"Procfile is a link": {"Procfile": "->/etc/passwd"},
	} {
		t.Run(name, func(t *testing.T) {
			p := open(t, plane.Options{})
			i, err := p.Launch(t.Context(), options(t, "i-1", more))
			if !errors.Is(err, plane.ErrBundle) {
				t.Errorf("launch says %v", err)
			}
			if _, err := os.Stat(filepath.Join(i.Folder(), "var/escaped")); err == nil {
				t.Error("a file was written outside")
			}
		})
	}
	p := open(t, plane.Options{})
	o := options(t, "i-1", nil)
	if err := os.WriteFile(o.Bundle, []byte("no archive"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Launch(t.Context(), o); !errors.Is(err, plane.ErrBundle) {
		t.Errorf("launch says %v", err)
	}
}

func TestLinksWithinTheBundleStay(t *testing.T) {
	p := open(t, plane.Options{})
	o := options(t, "i-1", files{"a/real": "content", "b/link": "->../a/real"})
	raw, err := os.ReadFile(o.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	o.Bundle, o.Archive = "", raw
	i := launch(t, p, o)
	if out, err := i.Exec(t.Context(), "cat /var/app/current/b/link"); err != nil || out.Stdout != "content" {
		t.Errorf("%+v, %v", out, err)
	}
}

// A process that ends is started again, as systemd does; one that ends again and again is given up.
func TestProcessesAreRestarted(t *testing.T) {
	p := open(t, plane.Options{})
	i := launch(t, p, options(t, "i-1", nil))
	eventually(t, "the app is well", func() bool { return i.Health().Status == "Ok" })
	i.Kill()
	eventually(t, "the app was started twice", func() bool { return strings.Count(text(i.Lines()), "app listens") == 2 })
	eventually(t, "the app is well again", func() bool { return i.Health().Status == "Ok" })

	o := options(t, "i-2", nil)
	o.Environment["APP"], o.Patience = "crash", time.Millisecond
	crashing := launch(t, p, o)
	eventually(t, "it is given up", func() bool { return strings.Contains(text(crashing.Lines()), "repeated too quickly") })
	if n := strings.Count(text(crashing.Lines()), "cannot find the module"); n != 5 {
		t.Errorf("it was started %d times, systemd starts it 5 times in 10 s", n)
	}
	eventually(t, "health is severe", func() bool { return crashing.Health().Status == "Severe" })
}

// Stop sends SIGTERM, waits, and leaves nothing: neither what does not hear nor what left its session.
func TestStop(t *testing.T) {
	p := open(t, plane.Options{})
	o := options(t, "i-1", nil)
	o.Environment["APP"], o.Grace = "leaver", 300*time.Millisecond
	i := launch(t, p, o)
	var child int
	eventually(t, "the child", func() bool {
		for _, l := range i.Lines() {
			if pid, ok := strings.CutPrefix(l.Text, "child "); ok {
				child, _ = strconv.Atoi(pid)
			}
		}
		return child != 0
	})
	i.Stop(t.Context())
	if !strings.Contains(text(i.Lines()), "app ends") {
		t.Error("the app did not get SIGTERM")
	}
	if raw, err := os.ReadFile("/proc/" + strconv.Itoa(child) + "/stat"); err == nil && !strings.Contains(string(raw), ") Z ") {
		t.Error("the child is left")
	}
	if left := running(t, i.Folder()); len(left) > 0 {
		t.Errorf("%d processes are left", len(left))
	}
	if _, err := i.Exec(t.Context(), "true"); !errors.Is(err, plane.ErrGone) {
		t.Errorf("exec says %v", err)
	}
	if h := i.Health(); h.Status != "NoData" {
		t.Errorf("health is %+v", h)
	}
	i.Stop(t.Context())
}

func TestExec(t *testing.T) {
	p := open(t, plane.Options{})
	i := launch(t, p, options(t, "i-1", files{".lotse/bin/tool": "#!/bin/sh\necho \"$GREETING $1\"; echo bad >&2; exit 3\n"}))
	out, err := i.Exec(t.Context(), "/var/app/current/.lotse/bin/tool status")
	if err != nil || out != (plane.Output{Stdout: "moin $HOME 'x' status\n", Stderr: "bad\n", Code: 3}) {
		t.Errorf("%+v, %v", out, err)
	}
	out, _ = i.Exec(t.Context(), "cd /var/app/current/ && pwd && kill -9 $$")
	if out.Stdout != filepath.Join(i.Folder(), "var/app/current")+"\n" || out.Code != 128+9 {
		t.Errorf("%+v", out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := i.Exec(ctx, "sleep 600 & sleep 600"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("exec says %v", err)
	}

	o := options(t, "i-2", nil)
	o.BareExec = true
	bare := launch(t, p, o)
	out, err = bare.Exec(t.Context(), `echo "$GREETING"; grep GREETING /opt/elasticbeanstalk/deployment/env`)
	if err != nil || out.Stdout != "\nGREETING=moin $HOME 'x'\n" {
		t.Errorf("%+v, %v", out, err)
	}
}

// Nothing of this machine's environment reaches the app.
func TestEnvironmentIsClean(t *testing.T) {
	t.Setenv("SECRET_OF_THE_MACHINE", "x")
	p := open(t, plane.Options{})
	i := launch(t, p, options(t, "i-1", nil))
	out, err := i.Exec(t.Context(), "env")
	if err != nil || strings.Contains(out.Stdout, "SECRET_OF_THE_MACHINE") || !strings.Contains(out.Stdout, "RELEASE=i-1") {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestFreezeLeaveBreak(t *testing.T) {
	p := open(t, plane.Options{})
	o := options(t, "i-1", nil)
	o.Health.Timeout = 200 * time.Millisecond
	i := launch(t, p, o)
	becomes := func(status, cause string) {
		t.Helper()
		eventually(t, status+" "+cause, func() bool {
			h := i.Health()
			return h.Status == status && (cause == "" || strings.Contains(h.Causes[0], cause))
		})
	}
	becomes("Ok", "")
	i.Freeze()
	becomes("Severe", "Target.Timeout")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := i.Exec(ctx, "true"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a frozen instance runs a command: %v", err)
	}
	i.Thaw()
	becomes("Ok", "")
	i.Break()
	becomes("Severe", "Target.FailedHealthChecks")
	i.Mend()
	becomes("Ok", "")
	i.Leave()
	becomes("NoData", "")
	i.Return()
	becomes("Ok", "")
	i.Restart(t.Context())
	becomes("Ok", "")
	if n := strings.Count(text(i.Lines()), "app ends"); n != 1 {
		t.Errorf("%d processes ended by SIGTERM, want the restarted one", n)
	}
}

// Lines stand in the file as they are streamed: time, host and process before the text.
func TestLinesInFiles(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	p := open(t, plane.Options{Clock: func() time.Time { return now }})
	i := launch(t, p, options(t, "i-1", nil))
	var raw []byte
	eventually(t, "a line", func() bool {
		raw, _ = os.ReadFile(filepath.Join(i.Folder(), "var/log", plane.WebLog))
		return len(raw) > 0
	})
	if tail := i.Tail(1); !strings.Contains(tail, "/var/log/web.stdout.log\n----------------------------------------\n"+string(raw)) || strings.Contains(tail, "Starting deployment") {
		t.Errorf("the tail is %s", tail)
	}
	if !strings.HasPrefix(string(raw), "Mar  4 05:06:07 i-1 web[") || !strings.HasSuffix(string(raw), "]: app listens\n") {
		t.Errorf("the file has %q", raw)
	}
}

func TestUID(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: to become another user takes root")
	}
	folder, err := os.MkdirTemp("/var/tmp", "plane-uid-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	p := open(t, plane.Options{Folder: folder})
	o := options(t, "i-1", files{"Procfile": "web: id -u > made; sleep 60\n"})
	o.UID = 65534
	i := launch(t, p, o)
	eventually(t, "the app wrote who it is", func() bool {
		raw, _ := os.ReadFile(filepath.Join(i.Folder(), "var/app/current/made"))
		return string(raw) == "65534\n"
	})
}

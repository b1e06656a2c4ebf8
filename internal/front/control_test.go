package front

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// A drain lets go of what is long, and loses nothing of what comes meanwhile and afterwards.
func TestDrain(t *testing.T) {
	s := sail(t, specOf(web("good")))
	s.healthy()
	dialer := websocket.Dialer{NetDialContext: s.dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	socket, _, err := dialer.Dial("wss://"+host+"/socket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	until(t, "it is counted", func() bool { return s.status().InFlight == 1 })
	hammer := load.Start(within(t), load.Plan{URL: "https://" + host, TLS: &tls.Config{InsecureSkipVerify: true}, Dial: s.dial, Gets: 2, Pause: 20 * time.Millisecond})
	if err := hammer.Await(within(t), 20); err != nil {
		t.Fatal(err)
	}
	goodbye := make(chan error, 1)
	go func() {
		_, _, err := socket.ReadMessage()
		goodbye <- err
	}()
	begun := time.Now()
	done, err := s.client().Drain(within(t), 20*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	mustBe(t, "cut", done.Cut, 0)
	mustBe(t, "finished some", done.Finished > 0, true)
	if took := time.Since(begun); took > 15*time.Second {
		t.Errorf("it took %s", took)
	}
	if err := <-goodbye; !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("the websocket ended with %v, want 1001", err)
	}
	if err := hammer.Await(within(t), 20); err != nil {
		t.Fatal(err)
	}
	report := hammer.Stop()
	mustBe(t, "failed", report.Failed, 0)
	code, _ := s.health()
	mustBe(t, "health after it", code, 200)
	done, err = s.client().Drain(within(t), time.Hour)
	mustBe(t, "a drain of nothing", fmt.Sprint(done, err), fmt.Sprint(proxy.Drained{}, error(nil)))
}

func TestTasks(t *testing.T) {
	s := sail(t, specOf(web("good")))
	run := func(task Task) (lines string, code int, err error) {
		var all []string
		exit, err := s.client().Task(within(t), task, func(l string) { all = append(all, l) })
		return strings.Join(all, "\n"), exit.Code, err
	}
	lines, code, err := run(Task{Name: "count", Command: []string{"echo out; echo err >&2; pwd; exit 3"}})
	where, _ := filepath.EvalSymlinks(s.dir)
	mustBe(t, "a shell's task", fmt.Sprint(lines, " ", code, err), fmt.Sprint("out\nerr\n", where, " ", 3, error(nil)))
	mustSay(t, "the front's output", s.out.String(), `"service":"count","text":"err"`)
	lines, code, err = run(Task{Name: "argv", Command: []string{"/bin/echo", "a  b", "$HOME"}})
	mustBe(t, "a program with arguments", fmt.Sprint(lines, code, err), "a  b $HOME0 <nil>")
	if _, _, err = run(Task{Name: "late", Command: []string{"sleep 600"}, Timeout: 50 * time.Millisecond}); !errors.Is(err, ErrLate) {
		t.Errorf("a late task: %v", err)
	}
	if _, _, err = run(Task{Name: "gone", Command: []string{"/does/not", "exist"}}); err == nil {
		t.Error("a program that is not there has run")
	}
	if _, _, err = run(Task{Command: []string{"true"}}); err == nil {
		t.Error("a task without a name has run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = s.client().Task(ctx, Task{Name: "cancelled", Command: []string{"echo begun; sleep 600"}}, func(string) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled task: %v", err)
	}
	until(t, "nothing of the tasks is left", func() bool {
		left, _ := filepath.Glob(s.folder().at("homes", "task-*"))
		return len(left) == 0
	})
}

// A task does not outlive the front, and the front waits for its end.
func TestTaskAtTheEnd(t *testing.T) {
	s := sail(t, specOf(web("good")))
	ended := make(chan error, 1)
	begun := make(chan struct{}, 1)
	client := s.client()
	go func() {
		_, err := client.Task(within(t), Task{Name: "long", Command: []string{"echo begun; sleep 600"}}, func(string) { begun <- struct{}{} })
		ended <- err
	}()
	<-begun
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("the task ended well")
	}
	if _, err := Find(within(t), s.dir, s.env); !errors.Is(err, deploy.ErrUnavailable) || deploy.HintOf(err) == "" {
		t.Errorf("a front that is gone is found: %v", err)
	}
}

// Whoever knows the release's folder finds its front, and nobody else's.
func TestFindingAFront(t *testing.T) {
	tmp, err := os.MkdirTemp("", "fr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) }) // after the fronts have ended
	mine := func(rollout string) *ship {
		spec := specOf(web("good"))
		spec.Rollout = rollout
		s := &ship{t: t, dir: release(t, spec), env: append(environ(t), "LOTSE_RUN=", "TMPDIR="+tmp), out: &buffer{}, errs: &buffer{}}
		s.begin()
		return s
	}
	a, b := mine("a"), mine("b")
	link := filepath.Join(t.TempDir(), "current")
	if err := os.Symlink(a.dir, link); err != nil {
		t.Fatal(err)
	}
	mustBe(t, "a", a.status().Rollout, "a")
	mustBe(t, "b", b.status().Rollout, "b")
	through := &ship{t: t, dir: link, env: a.env}
	mustBe(t, "through a link", through.status().Rollout, "a")
	info, err := os.Stat(string(a.folder()))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("its folder: %v, %v", info.Mode(), err)
	}
	refused(t, a.dir, a.env, deploy.ErrBusy, "another front")
	mustBe(t, "a after that", a.status().Rollout, "a")
}

// A folder that somebody else has put where ours would be is not used, and not asked.
func TestTrapsInTheWay(t *testing.T) {
	dir := release(t, specOf(web("good")))
	tmp, err := os.MkdirTemp("", "fr")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	trap := filepath.Join(tmp, "run")
	elsewhere := filepath.Join(tmp, "elsewhere")
	if err := errors.Join(os.Mkdir(elsewhere, 0o700), os.Symlink(elsewhere, trap)); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, append(environ(t), "LOTSE_RUN="+trap), deploy.ErrBadInput, "somebody else")
	mustBe(t, "trusted through a link", folder(trap).trusted(), false)
	if err := os.Chmod(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	mustBe(t, "trusted though others may enter", folder(elsewhere).trusted(), false)
	if os.Geteuid() == 0 {
		if err := errors.Join(os.Remove(trap), os.Mkdir(trap, 0o700), os.Chown(trap, 65534, 65534)); err != nil {
			t.Fatal(err)
		}
		refused(t, dir, append(environ(t), "LOTSE_RUN="+trap), deploy.ErrBadInput, "somebody else")
	}
	refused(t, dir, append(environ(t), "LOTSE_RUN=/tmp/"+strings.Repeat("x", 100)), deploy.ErrBadInput, "bytes")
}

func TestVolumes(t *testing.T) {
	volumes := t.TempDir()
	service := web("good")
	service.Volumes = []deploy.VolumeMount{{Volume: "uploads", Path: "data/uploads"}}
	spec := specOf(service)
	spec.Volumes = map[string]string{"uploads": filepath.Join(volumes, "away"), "cache": filepath.Join(volumes, "cache")}
	spec.Mounts = []deploy.VolumeMount{{Volume: "cache", Path: "cache"}}
	refused(t, release(t, spec), environ(t), deploy.ErrUnavailable, "cache", "has no folder")
	for _, name := range []string{"away", "cache"} {
		if err := os.Mkdir(filepath.Join(volumes, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	blocked := release(t, spec)
	write(t, filepath.Join(blocked, "data/uploads/mine"), "x", 0o644)
	refused(t, blocked, environ(t), deploy.ErrBadInput, "has something at data/uploads already")
	s := sail(t, spec)
	if _, err := s.client().Task(within(t), Task{Name: "t", Command: []string{"echo kept > data/uploads/file"}}, func(l string) { t.Error(l) }); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(filepath.Join(volumes, "away/file"))
	mustBe(t, "what was kept", fmt.Sprint(string(kept), err), "kept\n<nil>")
	s.begin() // the links are there already
	below := t.TempDir()
	refused(t, release(t, spec), environ(t, "LOTSE_VOLUMES="+below), deploy.ErrUnavailable, filepath.Join(below, "cache"))
}

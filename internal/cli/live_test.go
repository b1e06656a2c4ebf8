package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// terminal is a pseudo-terminal with a command in it, and what a person sees of it.
type terminal struct {
	t     *testing.T
	main  *os.File
	line  *os.File // the command's side
	cmd   *exec.Cmd
	ended chan error

	mu   sync.Mutex
	raw  bytes.Buffer
	see  *screen
	news chan struct{}
}

const columns, rows = 80, 30

// inTerminal starts `lotse` in a terminal of its own.
func inTerminal(t *testing.T, state string, env []string, args ...string) *terminal {
	t.Helper()
	p := &terminal{t: t, ended: make(chan error, 1), see: newScreen(columns, rows), news: make(chan struct{}, 1)}
	var err error
	if p.main, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Skipf("NOT PROVEN: the live tree, since there is no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { p.main.Close() })
	p.line = lineOf(t, p.main)
	if err := unix.IoctlSetWinsize(int(p.main.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns}); err != nil {
		t.Fatal(err)
	}
	p.cmd = exec.Command("lotse", args...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = p.line, p.line, p.line
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "LOTSE_STATE=" + state, "TERM=xterm-256color", "TZ=UTC"}, env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read()
	go func() { p.ended <- p.cmd.Wait() }()
	return p
}

func lineOf(t *testing.T, main *os.File) *os.File {
	if err := unix.IoctlSetPointerInt(int(main.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(main.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	line, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { line.Close() })
	return line
}

func (p *terminal) read() {
	var rest []byte
	for buf := make([]byte, 4096); ; {
		n, err := p.main.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		p.raw.Write(buf[:n])
		rest = p.see.write(append(rest, buf[:n]...))
		p.mu.Unlock()
		select {
		case p.news <- struct{}{}:
		default:
		}
	}
}

// wrote is all that the program has written.
func (p *terminal) wrote() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.raw.String()
}

func (p *terminal) sees() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.see.text()
}

// until waits until a person sees this.
func (p *terminal) until(text string) {
	p.t.Helper()
	limit := time.After(30 * time.Second)
	for !strings.Contains(p.sees(), text) {
		select {
		case <-p.news:
		case <-limit:
			p.t.Fatalf("%q does not appear:\n%s\n%q", text, p.sees(), p.wrote())
		}
	}
}

func (p *terminal) types(keys string) {
	if _, err := p.main.WriteString(keys); err != nil {
		p.t.Error(err)
	}
}

func (p *terminal) exits(code int) {
	p.t.Helper()
	select {
	case <-p.ended:
		if got := p.cmd.ProcessState.ExitCode(); got != code {
			p.t.Errorf("exit code %d, not %d:\n%s", got, code, p.sees())
		}
	case <-time.After(30 * time.Second):
		p.cmd.Process.Kill()
		p.t.Fatalf("it does not end:\n%s", p.sees())
	}
}

// leftAsFound checks what a shell needs after a command: a line discipline that edits and echoes, and a cursor.
func (p *terminal) leftAsFound() {
	p.t.Helper()
	mode, err := unix.IoctlGetTermios(int(p.line.Fd()), unix.TCGETS)
	if err != nil || mode.Lflag&(unix.ICANON|unix.ECHO|unix.ISIG) != unix.ICANON|unix.ECHO|unix.ISIG {
		p.t.Errorf("the terminal was left raw (%v)", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.see.hidden {
		p.t.Error("the cursor is gone")
	}
	if p.see.cleared > 0 {
		p.t.Errorf("the whole screen was erased %d times", p.see.cleared)
	}
	if len(p.see.strange) > 0 {
		p.t.Errorf("sequences that this test's terminal does not know: %q", p.see.strange)
	}
}

// inHarbour is a controller with one rollout on its way.
func inHarbour(t *testing.T, script string) (h *harbour, state string, stop func()) {
	h, err := newHarbour(script)
	if err != nil {
		t.Fatal(err)
	}
	state = t.TempDir()
	if stop, err = h.serve(filepath.Join(state, "lotse.sock")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	h.tell("k3v7q2xa", deploy.Update{Rollout: &deploy.Rollout{ID: "k3v7q2xa", Stage: deploy.StageRef{App: "whatsgonow", Stage: "dev"}, Commit: "1a2b3c4d5e6f",
		Outcome: deploy.Going, Pipeline: []deploy.StepEvidence{{Name: "test", State: deploy.StepRunning}}, Steps: []deploy.Step{{Name: "build", Began: time.Now()}}}})
	return h, state, stop
}

func settle(h *harbour) {
	h.tell("k3v7q2xa", deploy.Update{Rollout: &deploy.Rollout{ID: "k3v7q2xa", Stage: deploy.StageRef{App: "whatsgonow", Stage: "dev"}, Commit: "1a2b3c4d5e6f",
		Outcome: deploy.Settled, Began: noon, Ended: noon.Add(70 * time.Second), URL: "https://dev.whatsgonow.localhost:8443", Release: "sha256:3f2a9c1b77de00",
		Pipeline: []deploy.StepEvidence{{Name: "test", State: deploy.StepDone, Duration: 3 * time.Second}},
		Steps:    []deploy.Step{{Name: "build", Ended: true, Took: 4 * time.Second}, {Name: "settle", Ended: true, Took: time.Second}}}})
}

// The tree is drawn as it goes, with the latest line of output; what is left on the screen is the tree, the release, the address.
func TestLiveTree(t *testing.T) {
	h, state, _ := inHarbour(t, `{}`)
	p := inTerminal(t, state, nil, "deploy")
	p.until("test")
	p.until("· settle")
	h.tell("k3v7q2xa", deploy.Update{Output: &deploy.Output{Step: "test", Line: "\x1b[2J\x1b[31mok  internal/market, and more than fits into the width of this terminal, which has eighty columns"}})
	p.until("ok  internal/market")
	p.until("Ctrl-C detaches")
	p.types("typed in between")
	h.tell("k3v7q2xa", deploy.Update{Output: &deploy.Output{Step: "test", Line: "ok  internal/store"}})
	p.until("ok  internal/store") // the kernel has delivered what was typed: it would echo what comes after the end
	settle(h)
	p.exits(0)
	want := `whatsgonow/dev: rollout k3v7q2xa of commit 1a2b3c4d
✓ build          4.0 s
  ✓ test         3.0 s
✓ settle         1.0 s
whatsgonow/dev serves release 3f2a9c1b77de after 70.0 s
  https://dev.whatsgonow.localhost:8443`
	p.until("localhost:8443")
	if got := p.sees(); got != want {
		t.Errorf("what is left on the screen:\n%s\n%q", got, p.wrote())
	}
	p.leftAsFound()
	if !strings.Contains(p.wrote(), "\x1b[32m") {
		t.Error("there is no colour")
	}
}

// Ctrl-C detaches, says how to come back, leaves the terminal as it was; the rollout goes on, and can be followed again.
func TestLiveDetach(t *testing.T) {
	h, state, _ := inHarbour(t, `{}`)
	p := inTerminal(t, state, []string{"NO_COLOR=1"}, "deploy")
	p.until("Ctrl-C detaches")
	p.types("\x03")
	p.exits(130)
	p.until("`lotse abort k3v7q2xa` ends it")
	for _, want := range []string{"› build", "lotse: detached; rollout k3v7q2xa goes on", "`lotse follow k3v7q2xa` comes back to it"} {
		if !strings.Contains(p.sees(), want) {
			t.Errorf("nobody sees %q:\n%s", want, p.sees())
		}
	}
	p.leftAsFound()
	if raw := p.wrote(); strings.Contains(raw, "\x1b[32m") || strings.Contains(raw, "\x1b[33m") {
		t.Errorf("there is colour, against NO_COLOR: %q", raw)
	}
	if slices.Contains(h.askedFor(), "abort k3v7q2xa") {
		t.Error("the rollout was aborted")
	}
	settle(h)
	again := inTerminal(t, state, nil, "follow", "k3v7q2xa")
	again.exits(0)
	again.until("serves release 3f2a9c1b77de")
}

// A controller that goes away is said below the tree; SIGTERM detaches as Ctrl-C does.
func TestLiveLost(t *testing.T) {
	_, state, stop := inHarbour(t, `{}`)
	p := inTerminal(t, state, nil, "follow", "k3v7q2xa")
	p.until("Ctrl-C detaches")
	stop()
	p.until("the controller went away; trying to reach it again")
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.exits(130)
	p.until("detached; rollout k3v7q2xa goes on")
	p.leftAsFound()
}

// In CI, and on terminals that cannot be drawn on, there are lines alone.
func TestNoTricksWhereTheyAreNotWanted(t *testing.T) {
	for _, env := range []string{"CI=true", "TERM=dumb"} {
		h, state, _ := inHarbour(t, `{}`)
		p := inTerminal(t, state, []string{env}, "deploy")
		p.until("build/test: begun")
		settle(h)
		p.exits(0)
		p.until("localhost:8443")
		if raw := p.wrote(); strings.Contains(raw, "\x1b") {
			t.Errorf("%s: %q", env, raw)
		}
	}
}

// A table that does not fit becomes a list.
func TestNarrowTables(t *testing.T) {
	_, state, _ := inHarbour(t, `{"Stages": [{"stage": {"app": "whatsgonow", "stage": "dev"}, "url": "https://dev.whatsgonow.localhost"}]}`)
	p := inTerminal(t, state, nil, "status")
	p.exits(0)
	p.until("release  nothing")
	if want := "stage    whatsgonow/dev\naddress  https://dev.whatsgonow.localhost\nrelease  nothing"; p.sees() != want {
		t.Errorf("\n%s", p.sees())
	}
}

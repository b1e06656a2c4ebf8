package plane

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// systemd's defaults for a unit with Restart=always, which is what the platform makes of a line of the Procfile.
const (
	restartAfter = 100 * time.Millisecond
	startLimit   = 5
	startWithin  = 10 * time.Second
)

// entry is a line of a Procfile.
type entry struct{ name, command string }

// procfile reads a Procfile. A bundle without one, with a line that is none, or with the name "web" anywhere but first is ErrBundle.
func procfile(file string) ([]entry, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: it has no Procfile", ErrBundle)
	}
	form := regexp.MustCompile(`^([A-Za-z0-9_-]+):\s*(\S.*)$`)
	var entries []entry
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		m := form.FindStringSubmatch(line)
		if m == nil {
			return nil, fmt.Errorf("%w: a line of the Procfile is not a name, a colon and a command", ErrBundle)
		}
		entries = append(entries, entry{m[1], m[2]})
	}
	if len(entries) == 0 || entries[0].name != "web" {
		return nil, fmt.Errorf("%w: the first process of the Procfile is not web", ErrBundle)
	}
	return entries, nil
}

// unit keeps one process of the Procfile running, as systemd does.
type unit struct {
	i *Instance
	entry
	env []string

	mu     sync.Mutex
	pid    int // 0: does not run
	failed bool
	starts []time.Time
	halt   context.CancelFunc // ends the restarts, not the process
	over   chan struct{}      // closed when nothing of run is left; nil: it never ran
}

// start begins to run the unit; the life of the process is not bound to any context.
func (u *unit) start() {
	ctx, halt := context.WithCancel(context.Background())
	over := make(chan struct{})
	u.mu.Lock()
	u.halt, u.over, u.failed, u.starts = halt, over, false, nil
	u.mu.Unlock()
	go func() {
		defer close(over)
		u.run(ctx)
	}()
}

// stop ends the restarts. It returns a channel that is closed when the process is gone, which is for the caller to see to.
func (u *unit) stop() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.halt()
	return u.over
}

func (u *unit) run(ctx context.Context) {
	for ctx.Err() == nil {
		if !u.mayStart() {
			u.i.engine("ERROR", fmt.Sprintf("%s.service: Start request repeated too quickly.", u.name))
			return
		}
		code := u.once(ctx)
		if ctx.Err() != nil {
			return
		}
		u.i.engine("WARN", fmt.Sprintf("%s.service: Main process exited, %s", u.name, code))
		timer := time.NewTimer(restartAfter)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}

// mayStart counts a start and refuses one too many within the time.
func (u *unit) mayStart() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	u.starts = slices.DeleteFunc(u.starts, func(t time.Time) bool { return now.Sub(t) > startWithin })
	if len(u.starts) >= startLimit {
		u.failed = true
		return false
	}
	u.starts = append(u.starts, now)
	return true
}

// once runs the process to its end and says how it ended.
func (u *unit) once(ctx context.Context) string {
	from, to, err := os.Pipe()
	if err != nil {
		return err.Error()
	}
	cmd := exec.Command("/bin/sh", "-c", u.command) //nolint:noctx // its life is that of the unit
	cmd.Dir, cmd.Env = u.i.current(), u.env
	cmd.Stdout, cmd.Stderr = to, to
	cmd.SysProcAttr = u.i.attributes()
	runtime.LockOSThread() // or a thread that ends would take the process with it
	defer runtime.UnlockOSThread()
	if err = ctx.Err(); err == nil {
		err = cmd.Start()
	}
	to.Close()
	if err != nil {
		from.Close()
		return err.Error()
	}
	u.setPID(cmd.Process.Pid)
	read := make(chan struct{})
	go func() {
		defer close(read)
		pid := cmd.Process.Pid
		w := &lineWriter{line: func(text string) {
			u.i.journal.add(Line{Instance: u.i.o.ID, File: u.name + ".stdout.log", Process: u.name, PID: pid, Text: text})
		}}
		_, _ = io.Copy(w, from) // until every process that holds the pipe is gone
		w.close()
		from.Close()
	}()
	_ = cmd.Wait() // the state says more
	u.setPID(0)
	select {
	case <-read:
	case <-time.After(time.Second): // a child that outlived it goes on writing
	}
	return cmd.ProcessState.String()
}

func (u *unit) setPID(pid int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.pid = pid
}

// attributes of a process: a group of its own, and the user of the options where the caller may become that. It ends with the
// test's own process, or rather with the thread that started it (prctl(2)).
func (i *Instance) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if i.o.UID != 0 && os.Geteuid() == 0 {
		a.Credential = &syscall.Credential{Uid: uint32(i.o.UID), Gid: uint32(i.o.UID)}
	}
	return a
}

// environment is what every command of the instance gets: what the platform sets, then the properties of the environment.
// Nothing of this machine's own environment but the PATH goes in.
func (i *Instance) environment(port bool, path ...string) []string {
	set := map[string]string{
		"PATH": strings.Join(append(path, cmp.Or(os.Getenv("PATH"), "/usr/local/bin:/usr/bin:/bin")), ":"),
		"LANG": "C.UTF-8", "HOME": filepath.Join(i.folder, "home"), "TMPDIR": filepath.Join(i.folder, "tmp"),
		"HOST": "127.0.0.1", "LOTSE_FRONT_HOST": "127.0.0.1", mark: i.real,
	}
	maps.Copy(set, i.o.Environment)
	delete(set, "PORT")
	if port {
		set["PORT"] = fmt.Sprint(i.port)
	}
	var all []string
	for name, value := range set {
		all = append(all, name+"="+value)
	}
	slices.Sort(all)
	return all
}

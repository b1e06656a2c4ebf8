package plane

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// InstanceOptions of an instance.
type InstanceOptions struct {
	ID          string            // as i-0123456789abcdef0; unique in the Plane
	Bundle      string            // the ZIP file
	Archive     []byte            // the ZIP itself, where Bundle is empty
	Environment map[string]string // properties and resolved secrets
	Health      HealthCheck       // for enhanced health, beside what a target group asks
	Grace       time.Duration     // between SIGTERM and SIGKILL, default 90 s as systemd's
	Patience    time.Duration     // for how long health is Pending before the first good check, default 10 s
	UID         int               // of the Procfile's processes where the caller is root; 0: the caller. Must be able to enter Options.Folder
	BareExec    bool              // Exec has no properties, as Run Command on the real platform; they stand in /opt/elasticbeanstalk/deployment/env
	Downloads   map[string][]byte // what curl and wget of the hooks get, by URL
	StandIns    map[string]string // more programs for hooks, or other ones: name -> lines of sh
	OnLine      func(Line)        // told of each line of the logs, in order; must not call the Instance
}

// Instance is one machine of an environment.
type Instance struct {
	o       InstanceOptions
	plane   *Plane
	folder  string // stands for /
	real    string // the same without links, as the kernel tells it
	port    int
	paths   *regexp.Regexp
	journal *journal
	life    context.Context // until it is stopped
	end     context.CancelFunc

	mu      sync.Mutex
	running []*unit
	holder  net.Listener // of the port, until the processes start
	conns   map[net.Conn]struct{}
	away    bool // packets to it are lost
	gone    bool
	frozen  bool
	cause   string // why the launch failed
	started bool   // the launch is over and went well
	verdict verdict
	since   time.Time // of the launch
	began   time.Time // of the checks, by the real clock
	good    int       // checks in all
	bad     int       // checks in a row
}

// Launch makes an instance and deploys the bundle on it: it unpacks, runs the prebuild and predeploy hooks in staging, starts
// the Procfile's processes in current and runs the postdeploy hooks. It does not wait for health. What goes wrong on the
// instance is a *LaunchError, and the instance is returned beside it; any other error comes without an instance. When ctx
// ends, the hook that runs is killed.
func (p *Plane) Launch(ctx context.Context, o InstanceOptions) (*Instance, error) {
	i, err := p.newInstance(o)
	if err != nil {
		return nil, err
	}
	return i, i.launch(ctx)
}

// newInstance makes an instance on which nothing runs yet.
func (p *Plane) newInstance(o InstanceOptions) (*Instance, error) {
	o.Grace, o.Patience, o.Health = cmp.Or(o.Grace, 90*time.Second), cmp.Or(o.Patience, 10*time.Second), o.Health.withDefaults()
	i := &Instance{o: o, plane: p, folder: filepath.Join(p.o.Folder, o.ID), paths: pathsOf(), conns: map[net.Conn]struct{}{}, since: p.o.Clock()}
	i.o.Environment = map[string]string{}
	for name, value := range o.Environment {
		i.o.Environment[name] = i.place(value)
	}
	if err := i.prepare(); err != nil {
		return nil, fmt.Errorf("launch %s: %w", o.ID, err)
	}
	i.life, i.end = context.WithCancel(context.Background())
	p.onClose(i.kill)
	return i, nil
}

// launch deploys the bundle and begins to ask for health.
func (i *Instance) launch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(i.life, cancel)()
	if err := i.deploy(ctx); err != nil {
		i.setCause(err)
		return err
	}
	go i.watch(i.life)
	return nil
}

// prepare makes the folders and finds a port.
func (i *Instance) prepare() error {
	if !filepath.IsLocal(i.o.ID) || strings.ContainsRune(i.o.ID, '/') {
		return fmt.Errorf("the id %q is not a name", i.o.ID)
	}
	if err := os.Mkdir(i.folder, 0o755); err != nil {
		return err
	}
	var err error
	if i.real, err = filepath.EvalSymlinks(i.folder); err != nil {
		return err
	}
	for _, dir := range []string{i.staging(), i.path("/var/log"), i.path("/var/lib/lotse"), i.path("/opt/elasticbeanstalk/deployment"), i.path("/etc/pki"), i.path("/home"), i.path("/tmp")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	i.journal = &journal{folder: i.path("/var/log"), clock: i.plane.o.Clock, onLine: i.o.OnLine}
	if err := i.holdPort(); err != nil {
		return err
	}
	return i.standIns()
}

// holdPort takes a port that is free and that no outgoing connection gets by itself (Linux takes those from 32768 on), and
// keeps it until the processes start. Between then and their listening somebody else may take it; nobody looks for it.
func (i *Instance) holdPort() error {
	const from, to, tries = 20000, 32768, 100
	var err error
	for range tries {
		i.port = from + rand.IntN(to-from) //nolint:gosec // a port, not a secret
		if i.holder, err = net.Listen("tcp", i.address()); err == nil {
			return nil
		}
	}
	return err
}

func (i *Instance) letPort() {
	if i.holder != nil {
		i.holder.Close()
		i.holder = nil
	}
}

func (i *Instance) path(p string) string { return filepath.Join(i.folder, p) }
func (i *Instance) staging() string      { return i.path("/var/app/staging") }
func (i *Instance) current() string      { return i.path("/var/app/current") }

func (i *Instance) deploy(ctx context.Context) error {
	i.engine("INFO", "Starting deployment")
	var entries []entry
	err := errors.Join(i.unpackBundle(), i.placeFiles(i.staging()), i.writeEnvironment())
	if err == nil {
		entries, err = procfile(filepath.Join(i.staging(), "Procfile"))
	}
	if err != nil {
		i.engine("ERROR", err.Error())
		return &LaunchError{i.o.ID, "unpack", "", -1, "", err}
	}
	for _, step := range []string{"prebuild", "predeploy"} {
		if err := i.hooks(ctx, step, i.staging()); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Rename(i.staging(), i.current()), i.own()); err != nil {
		return &LaunchError{i.o.ID, "start", "", -1, "", err}
	}
	if err := i.begin(entries); err != nil {
		return &LaunchError{i.o.ID, "start", "", -1, "", err}
	}
	if err := i.hooks(ctx, "postdeploy", i.current()); err != nil {
		return err
	}
	i.engine("INFO", "Instance deployment completed successfully.")
	i.mu.Lock()
	defer i.mu.Unlock()
	i.started = true
	return nil
}

// writeEnvironment writes the file from which the platform's units read the properties.
func (i *Instance) writeEnvironment() error {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(i.o.Environment)) {
		fmt.Fprintf(&text, "%s=%s\n", name, i.o.Environment[name])
	}
	return os.WriteFile(i.path("/opt/elasticbeanstalk/deployment/env"), []byte(text.String()), 0o600)
}

// own gives the app's folder to the user of its processes, as the platform gives it to webapp.
func (i *Instance) own() error {
	if i.attributes().Credential == nil {
		return nil
	}
	root, err := os.OpenRoot(i.folder)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, dir := range []string{"var/app/current", "var/lib/lotse", "home", "tmp"} {
		err = errors.Join(err, fs.WalkDir(root.FS(), dir, func(name string, _ fs.DirEntry, err error) error {
			return errors.Join(err, root.Lchown(name, i.o.UID, i.o.UID))
		}))
	}
	return err
}

// begin starts a unit for each entry of the Procfile; only web gets a PORT.
func (i *Instance) begin(entries []entry) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.gone {
		return ErrGone
	}
	i.letPort()
	for at, e := range entries {
		u := &unit{i: i, entry: entry{e.name, i.place(e.command)}, env: i.environment(at == 0)}
		i.running = append(i.running, u)
		u.start()
	}
	return nil
}

// ID is what was given.
func (i *Instance) ID() string { return i.o.ID }

// Port is the loopback port that stands for 5000.
func (i *Instance) Port() int { return i.port }

// Folder is what stands for the instance's file system: Folder()/var/app/current is the app.
func (i *Instance) Folder() string { return i.folder }

// Lines are the lines of every log so far, oldest first.
func (i *Instance) Lines() []Line { return i.journal.all() }

func (i *Instance) engine(level, text string) {
	i.journal.add(Line{Instance: i.o.ID, File: EngineLog, Text: "[" + level + "] " + text})
}

// units are the pids of the Procfile's processes that run.
func (i *Instance) units() []int {
	i.mu.Lock()
	defer i.mu.Unlock()
	var pids []int
	for _, u := range i.running {
		u.mu.Lock()
		if u.pid != 0 {
			pids = append(pids, u.pid)
		}
		u.mu.Unlock()
	}
	return pids
}

// Stop ends the instance as the shutdown of a machine does: SIGTERM to every process, the grace (at most until ctx ends),
// SIGKILL. When it returns nothing of it runs. Its folder stays. Twice is fine.
func (i *Instance) Stop(ctx context.Context) {
	halted := i.halt()
	i.signal(syscall.SIGTERM)
	i.Thaw() // a frozen process hears SIGTERM only then; a machine that is gone is not frozen
	grace, cancel := context.WithTimeout(ctx, i.o.Grace)
	defer cancel()
	_ = i.await(grace, halted) // what is left is killed
	i.kill()
}

// halt ends restarts and checks; nothing reaches the instance any more but what is connected.
func (i *Instance) halt() []<-chan struct{} {
	i.end()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.gone = true
	i.letPort()
	var ends []<-chan struct{}
	for _, u := range i.running {
		ends = append(ends, u.stop())
	}
	return ends
}

// await returns nil when the units have ended and nothing else is left, or ctx's error when that ends before.
func (i *Instance) await(ctx context.Context, ends []<-chan struct{}) error {
	for _, end := range ends {
		select {
		case <-end:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	tick := time.NewTicker(50 * time.Millisecond) // each look reads all of /proc
	defer tick.Stop()
	for len(i.processes()) > 0 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// kill ends everything at once.
func (i *Instance) kill() {
	i.wipe(i.halt())
	i.cut()
}

// wipe kills until nothing is left: what was just being made is found the next time. It gives up after 10 s, which only a
// process in an uninterruptible wait can bring about.
func (i *Instance) wipe(ends []<-chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for ctx.Err() == nil {
		i.signal(syscall.SIGKILL)
		short, done := context.WithTimeout(ctx, 100*time.Millisecond)
		err := i.await(short, ends)
		done()
		if err == nil {
			return
		}
	}
}

// Output is what a command of Exec wrote, and its exit status (128 + signal where it was killed). Run Command keeps the first
// 24,000 characters of the one and 8,000 of the other; here is all.
type Output struct {
	Stdout, Stderr string
	Code           int
}

// Exec runs a line of sh in the app's folder, with the environment of the app (InstanceOptions.BareExec: without). Its
// whole process group ends with ctx. A command that fails is no error; ErrGone is one, and ctx's.
func (i *Instance) Exec(ctx context.Context, command string) (Output, error) {
	if err := i.reachable(ctx, true); err != nil {
		return Output{}, fmt.Errorf("run a command on %s: %w", i.o.ID, err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", i.place(command))
	cmd.Dir, cmd.Env = i.current(), i.environment(false)
	if i.o.BareExec {
		cmd.Env = slices.DeleteFunc(cmd.Env, func(set string) bool {
			name, _, _ := strings.Cut(set, "=")
			_, property := i.o.Environment[name]
			return property && name != "PATH" && name != "HOME"
		})
	}
	if _, err := os.Stat(cmd.Dir); err != nil {
		cmd.Dir = i.folder // the deployment did not come so far
	}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	groupEndsWith(cmd)
	err := cmd.Run()
	if ctx.Err() != nil {
		return Output{}, fmt.Errorf("run a command on %s: %w", i.o.ID, ctx.Err())
	}
	if cmd.ProcessState == nil {
		return Output{}, fmt.Errorf("run a command on %s: %w", i.o.ID, err)
	}
	code := cmd.ProcessState.ExitCode()
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal())
	}
	return Output{stdout.String(), stderr.String(), code}, nil
}

// address is where the web process listens.
func (i *Instance) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(i.port)) }

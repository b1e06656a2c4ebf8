package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// Process is what is to be run in the foreground for a cluster, by whoever keeps processes.
type Process struct {
	Argv []string
	Env  []string // the whole environment; it holds no secret
	Dir  string
	User *User // nil: as the caller

	// Interrupt ends it within a second or so, with its connections closed and all data on disk (a "fast" shutdown). It goes
	// to the first process alone. SIGTERM instead would wait for every client to leave.
	Interrupt syscall.Signal
}

// Command says what to run. Init must have been called. It removes pid files of a boot or a server that is gone, and finds out
// whether the server could start: ErrNotMade, ErrPortTaken. While the cluster runs it returns what is running.
func (c Cluster) Command() (Process, error) {
	owner, err := c.owner()
	if err != nil {
		return Process{}, err
	}
	if _, err := os.Stat(filepath.Join(c.data(), "PG_VERSION")); err != nil {
		return Process{}, fmt.Errorf("%w: %s: %w", ErrNotMade, c.Dir, err)
	}
	b, err := c.binaries()
	if err != nil {
		return Process{}, err
	}
	if len(processesIn(c.data())) == 0 {
		err = errors.Join(c.removeStale(), c.portFree())
	}
	if err != nil {
		return Process{}, err
	}
	p := Process{Argv: []string{filepath.Join(b.Dir, "postgres"), "-D", c.data()}, Env: c.env(), Dir: c.Dir, Interrupt: syscall.SIGINT}
	if os.Geteuid() == 0 {
		p.User = &owner
	}
	return p, nil
}

// removeStale removes pid files when nothing runs in the cluster. PostgreSQL does so itself, unless another process of the
// same user has been given the pid meanwhile, as happens after a reboot: then it would refuse to start for ever.
func (c Cluster) removeStale() error {
	var all error
	for _, path := range []string{c.pidFile(), filepath.Join(c.socketDir(), ".s.PGSQL."+strconv.Itoa(c.port())+".lock")} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			all = errors.Join(all, err)
		}
	}
	return all
}

func (c Cluster) portFree() error {
	if c.Port == 0 {
		return nil
	}
	l, err := net.Listen("tcp4", c.address())
	if errors.Is(err, syscall.EADDRINUSE) {
		if holder := holderOf(c.Port); holder != "" {
			return &hinted{fmt.Errorf("port %d on 127.0.0.1: %w by %s", c.Port, ErrPortTaken, holder), "end it, or move it to another port"}
		}
		return &hinted{fmt.Errorf("port %d on 127.0.0.1: %w", c.Port, ErrPortTaken), fmt.Sprintf("see who has it with: sudo ss -ltnp 'sport = :%d'", c.Port)}
	}
	if err != nil {
		return err
	}
	return l.Close()
}

func (c Cluster) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Port)) }
func (c Cluster) pidFile() string { return filepath.Join(c.data(), "postmaster.pid") }

// PID returns the server's process id, or ErrNotRunning. A pid file alone proves nothing: the process must be in the cluster.
func (c Cluster) PID() (int, error) {
	text, err := os.ReadFile(c.pidFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || !runsIn(pid, c.data()) {
		return 0, fmt.Errorf("%w: %s", ErrNotRunning, c.Dir)
	}
	return pid, nil
}

// runsIn reports whether the process is a PostgreSQL that has its working directory in the cluster, which is where it puts
// itself. A zombie has none. A person's shell may stand there too, and is not ours.
func runsIn(pid int, data string) bool {
	proc := filepath.Join("/proc", strconv.Itoa(pid))
	link, err := os.Readlink(filepath.Join(proc, "cwd"))
	if errors.Is(err, fs.ErrNotExist) && !onLinux() {
		return syscall.Kill(pid, 0) == nil
	}
	if err != nil || link != resolved(data) {
		return false
	}
	program, err := os.Readlink(filepath.Join(proc, "exe")) // "… (deleted)" after an upgrade
	return err == nil && strings.HasPrefix(filepath.Base(program), "postgres")
}

// processesIn returns the server and what a killed server left.
func processesIn(data string) (pids []int) {
	entries, _ := os.ReadDir("/proc") // Linux alone has it
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && runsIn(pid, data) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func onLinux() bool {
	_, err := os.Stat("/proc/self")
	return err == nil
}

func resolved(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	return path
}

// Stop ends the server, whoever started it, and returns when nothing of it runs; connections are closed, all data is on disk.
// Whoever keeps the process must have been told before, or it would be started again. A cluster that does not run is fine. A cancel
// leaves it stopping.
func (c Cluster) Stop(ctx context.Context) error { return c.end(ctx, syscall.SIGINT) }

func (c Cluster) end(ctx context.Context, signal syscall.Signal) error {
	pid, err := c.PID()
	if errors.Is(err, ErrNotRunning) {
		return c.endOrphans(ctx)
	}
	if err != nil {
		return err
	}
	// The handle is of the process that had the pid when it was opened; asked again, it is known to be ours.
	process, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	defer func() { _ = process.Release() }() // a handle: nothing can be lost
	if runsIn(pid, c.data()) {
		if err := process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop the cluster in %s: %w", c.Dir, err)
		}
	}
	err = poll(ctx, func() (bool, error) { return !runsIn(pid, c.data()) && len(processesIn(c.data())) == 0, nil })
	if err != nil {
		return fmt.Errorf("stop the cluster in %s: %w", c.Dir, err)
	}
	return nil
}

// endOrphans ends what a killed server left behind: such processes end by themselves, but not before their statement does.
func (c Cluster) endOrphans(ctx context.Context) error {
	return poll(ctx, func() (bool, error) {
		pids := processesIn(c.data())
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGQUIT) // one that is gone meanwhile is what we want
		}
		return len(pids) == 0, nil
	})
}

// Remove ends the server without care for its data, and removes the whole folder. A folder that is not there is fine; one that
// holds no cluster is ErrNotMade and stays.
func (c Cluster) Remove(ctx context.Context) error {
	if _, err := os.Lstat(c.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := c.checkPath(); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Join(c.Dir, "key")); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNotMade, c.Dir, err)
	}
	if _, err := c.owner(); err != nil {
		return err
	}
	if err := c.end(ctx, syscall.SIGQUIT); err != nil {
		return err
	}
	return os.RemoveAll(c.Dir)
}

// Server is a cluster that runs as a child of this process.
type Server struct {
	cluster Cluster
	process *os.Process
	ended   chan struct{}
	err     error // set before ended is closed
}

// Start runs the cluster as a child and returns when it is ready: for tests and short work; what has to outlive this process
// is run by Command. ErrRunning when it runs already. ErrEnded, with its last output, when it cannot. Output goes to log; nil:
// nowhere. After an error or a cancel nothing runs.
func (c Cluster) Start(ctx context.Context, log io.Writer) (*Server, error) {
	if err := c.Init(ctx); err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, filepath.Join(c.Dir, "lock")) // or two would take each other for orphans
	if err != nil {
		return nil, err
	}
	defer unlock()
	if pid, err := c.PID(); err == nil {
		return nil, fmt.Errorf("%w: pid %d", ErrRunning, pid)
	}
	if err := c.endOrphans(ctx); err != nil {
		return nil, err
	}
	p, err := c.Command()
	if err != nil {
		return nil, err
	}
	s, last, err := c.spawn(p, log)
	if err != nil {
		return nil, err
	}
	if err := s.awaitReady(ctx, last); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Server) awaitReady(ctx context.Context, last *tail) error {
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // a server that has ended is not waited for
		select {
		case <-s.ended:
			cancel()
		case <-waiting.Done():
		}
	}()
	err := s.cluster.Await(waiting)
	if err == nil {
		return nil
	}
	select {
	case <-s.ended:
		return fmt.Errorf("%w: %w; its last output:\n  %s", ErrEnded, s.err, strings.Join(last.lines(), "\n  "))
	default:
		_ = s.process.Signal(syscall.SIGQUIT) // it may have ended meanwhile
		<-s.ended
		return err
	}
}

func (c Cluster) spawn(p Process, log io.Writer) (*Server, *tail, error) {
	if log == nil {
		log = io.Discard
	}
	// Not the context of the caller: it bounds the start, not the life.
	cmd := c.as(context.Background(), orZero(p.User), p.Argv...)
	last := &tail{}
	out := io.MultiWriter(last, log)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	s := &Server{cluster: c, process: cmd.Process, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		s.err = cmd.Wait()
	}()
	return s, last, nil
}

func orZero(u *User) User {
	if u == nil {
		return User{}
	}
	return *u
}

// Stop ends the server as Cluster.Stop does.
func (s *Server) Stop(ctx context.Context) error {
	if err := s.cluster.Stop(ctx); err != nil {
		return err
	}
	select {
	case <-s.ended:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Ended is closed when the server has ended, for whatever reason.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// tail keeps the last lines of output.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailBytes = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-tailBytes):]
	return len(p), nil
}

func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return lastLines(string(t.text), 10)
}

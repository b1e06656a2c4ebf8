package process

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// launch says how the one process is executed that is the root of a tree.
type launch struct {
	spec       *Spec
	output     *os.File       // becomes stdout and stderr
	passed     []*os.File     // become fd 3, 4, …
	env        []string       // added to that of the spec
	cgroup     string         // its directory; emptied by start when the process could not be put there
	withParent syscall.Signal // sent to the process when the thread that started it ends; 0 never
}

// umaskOfChildren lets others read and nobody else write.
const umaskOfChildren = 0o022

// start executes the process. The calling goroutine must be locked to its thread and must never unlock it: the thread is
// changed in ways that other goroutines must not meet, and ends with the goroutine.
func (l *launch) start() (identity, error) {
	if err := prepareThread(); err != nil {
		return identity{}, err
	}
	path, err := lookPath(l.spec.Command[0], l.spec.Dir, l.spec.Env)
	if err != nil {
		return identity{}, l.failed(err)
	}
	attr, closeAttr, err := l.attributes()
	if err != nil {
		return identity{}, err
	}
	defer closeAttr()
	pid, err := syscall.ForkExec(path, l.spec.Command, attr)
	if err != nil && attr.Sys.UseCgroupFD && notIntoCgroup(err) {
		// The process is then outside of its cgroup for an instant, before it is moved.
		attr.Sys.UseCgroupFD = false
		pid, err = syscall.ForkExec(path, l.spec.Command, attr)
		if err == nil && !l.gather(pid) {
			l.cgroup = ""
		}
	}
	if err != nil {
		return identity{}, l.failed(err)
	}
	id, err := identify(pid)
	runtime.KeepAlive(l.passed)
	return id, err
}

// gather moves a process into its cgroup, and then what it has forked before that. What is forked from then on is born there.
func (l *launch) gather(pid int) bool {
	move := func(pid int) error {
		return os.WriteFile(filepath.Join(l.cgroup, "cgroup.procs"), fmt.Append(nil, pid), 0)
	}
	if move(pid) != nil {
		return false
	}
	early := tree{marker: l.marker()}
	for range 10 { // a fork that is under way while we look is seen at the next look
		inside := cgroupMembers(l.cgroup)
		outside := slices.DeleteFunc(early.members(), func(id identity) bool { return slices.Contains(inside, id) })
		if len(outside) == 0 {
			break
		}
		for _, id := range outside {
			_ = move(id.PID) // gone, which is as good
		}
	}
	return true
}

// marker is the value of the marker that the process is given, or nothing.
func (l *launch) marker() string {
	for _, entry := range l.env {
		if value, ok := strings.CutPrefix(entry, markerName+"="); ok {
			return value
		}
	}
	return ""
}

// notIntoCgroup knows the answers of clone3 in sandboxes that forbid it, and of cgroups that take no process.
func notIntoCgroup(err error) bool {
	answers := []error{unix.ENOSYS, unix.EPERM, unix.EACCES, unix.EBUSY, unix.EOPNOTSUPP}
	return slices.ContainsFunc(answers, func(answer error) bool { return errors.Is(err, answer) })
}

func (l *launch) failed(err error) error {
	who := ""
	if u := l.spec.User; u != nil {
		who = fmt.Sprintf(" as user %d, group %d", u.UID, u.GID)
	}
	return fmt.Errorf("%w: %s in %s%s: %w", ErrCannotStart, l.spec.Command[0], orHere(l.spec.Dir), who, err)
}

func orHere(dir string) string {
	if dir == "" {
		return "the caller's directory"
	}
	return dir
}

func (l *launch) attributes() (*syscall.ProcAttr, func(), error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	opened := []*os.File{null}
	closeAll := func() {
		for _, f := range opened {
			f.Close()
		}
	}
	attr := &syscall.ProcAttr{
		Dir:   l.spec.Dir,
		Env:   append(ownEnv(l.spec.Env), l.env...),
		Files: []uintptr{fdOf(null), fdOf(l.output), fdOf(l.output)},
		Sys:   &syscall.SysProcAttr{Setsid: true, Pdeathsig: l.withParent},
	}
	for _, f := range l.passed {
		attr.Files = append(attr.Files, fdOf(f))
	}
	if u := l.spec.User; u != nil && (os.Geteuid() == 0 || int(u.UID) != os.Geteuid() || int(u.GID) != os.Getegid()) {
		// Groups is empty on purpose: that is setgroups(0). It needs root, as another user does anyway.
		attr.Sys.Credential = &syscall.Credential{Uid: u.UID, Gid: u.GID}
	}
	if l.cgroup != "" {
		dir, err := os.Open(l.cgroup)
		if err != nil {
			closeAll()
			return nil, nil, fmt.Errorf("open the cgroup: %w", err)
		}
		opened = append(opened, dir)
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, int(fdOf(dir))
	}
	return attr, closeAll, nil
}

// ownEnv leaves out what only a keeper may say: a caller that is itself kept may hand on its own environment.
func ownEnv(env []string) []string {
	own := make([]string, 0, len(env)+3)
	for _, entry := range env {
		switch name, _, _ := strings.Cut(entry, "="); name {
		case markerName, "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID":
		default:
			own = append(own, entry)
		}
	}
	return own
}

// prepareThread gives the calling thread what syscall.ForkExec cannot give the child: no_new_privs, a umask, and no file
// that somebody has opened without close-on-exec. The first two are those of this thread alone.
func prepareThread() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("separate the umask: %w", err)
	}
	unix.Umask(umaskOfChildren)
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return closeOnExec()
	}
	return nil
}

// closeOnExec does what close_range does on kernels and in sandboxes that do not have it.
func closeOnExec() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list the open files: %w", err)
	}
	for _, e := range entries {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// fdOf returns the number of an open file. Unlike File.Fd it leaves the file non-blocking, which for a listener is a property
// that it shares with whoever else holds it.
func fdOf(f *os.File) uintptr {
	var number uintptr
	conn, err := f.SyscallConn()
	if err != nil {
		return ^uintptr(0)
	}
	_ = conn.Control(func(fd uintptr) { number = fd }) // fails for a closed file only, which no caller has
	return number
}

// lookPath finds a program as execvp(3) does, in the PATH of the environment that it will have.
func lookPath(name, dir string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	path := "/usr/local/bin:/usr/bin:/bin"
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, "PATH="); ok {
			path = value
		}
	}
	for _, in := range filepath.SplitList(path) {
		candidate := filepath.Join(in, name)
		at := candidate
		if !filepath.IsAbs(at) {
			at = filepath.Join(dir, at)
		}
		if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return at, nil
		}
	}
	return "", fmt.Errorf("not found in PATH %s", path)
}

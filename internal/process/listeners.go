package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// firstPassed is the first file descriptor of those that are passed on (sd_listen_fds(3)).
const firstPassed = 3

// Inherited returns the listeners that the keeper has passed on, in the order of Spec.Listen, or none when there are none. The
// protocol is that of sd_listen_fds(3), so that it also works under systemd. Call it once, at the start.
func Inherited() ([]net.Listener, error) {
	files, err := inheritedFiles()
	if err != nil {
		return nil, err
	}
	var listeners []net.Listener
	for _, f := range files {
		l, err := net.FileListener(f) // works on a copy
		f.Close()
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			return nil, fmt.Errorf("take the inherited %s: %w", f.Name(), err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func inheritedFiles() ([]*os.File, error) {
	count := os.Getenv("LISTEN_FDS")
	if count == "" {
		return nil, nil
	}
	if pid := os.Getenv("LISTEN_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil, nil // meant for a parent of ours
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 || n > maxListeners {
		return nil, fmt.Errorf("LISTEN_FDS is %q, which is not a count", count)
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	files := make([]*os.File, n)
	for i := range files {
		fd := firstPassed + i
		unix.CloseOnExec(fd)
		name := "listener " + strconv.Itoa(i)
		if i < len(names) && names[i] != "" {
			name = names[i]
		}
		files[i] = os.NewFile(uintptr(fd), name)
	}
	return files, nil
}

// maxListeners is how many files one message can carry (SCM_MAX_FD of Linux).
const maxListeners = 253

// ShareListeners gives copies of files, which must be those of Spec.Listen in their order, to whoever connects to the unix
// socket and is this user or root: to a new keeper, which then holds them again. It runs inside the kept process until ctx
// ends, and then returns nil. The socket is 0600, replaces a stale one, and is removed at the end. The path may be longer than
// the 108 bytes that a socket address holds, though not its last part. The files stay the caller's.
func ShareListeners(ctx context.Context, socket string, files []*os.File) error {
	if len(files) > maxListeners {
		return fmt.Errorf("share %d listeners: %d at most", len(files), maxListeners)
	}
	short, done, err := shortPath(socket)
	if err != nil {
		return fmt.Errorf("share the listeners: %w", err)
	}
	defer done()
	if err := os.Remove(socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("share the listeners: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return fmt.Errorf("share the listeners: %w", err)
	}
	defer l.Close()
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(socket, 0o600); err != nil {
		return fmt.Errorf("share the listeners: %w", err)
	}
	ours, err := os.Lstat(socket)
	if err != nil {
		return fmt.Errorf("share the listeners: %w", err)
	}
	defer func() {
		if now, err := os.Lstat(socket); err == nil && os.SameFile(ours, now) { // it may be a successor's by now
			os.Remove(socket)
		}
	}()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("share the listeners: %w", err)
		}
		_ = give(conn, files) // the other side sees that it got nothing, and asks again
		conn.Close()
	}
}

// give sends the files over one connection.
func give(conn *net.UnixConn, files []*os.File) error {
	if err := samePerson(conn); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(fdOf(f))
	}
	_, _, err := conn.WriteMsgUnix([]byte{byte(len(files))}, unix.UnixRights(fds...), nil)
	return err
}

// samePerson lets in root and the user that we are.
func samePerson(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err = errors.Join(err, credErr); err != nil {
		return err
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d may not have the listeners", cred.Uid)
	}
	return nil
}

// takeListeners asks the process at the other side of socket for its listeners, and checks that they are those of addresses.
func takeListeners(socket string, addresses []string) ([]*os.File, error) {
	short, done, err := shortPath(socket)
	if err != nil {
		return nil, err
	}
	defer done()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: short, Net: "unix"})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return nil, err
	}
	files, err := receive(conn)
	if err == nil && len(files) != len(addresses) {
		err = fmt.Errorf("got %d listeners, want %d", len(files), len(addresses))
	}
	for i := 0; err == nil && i < len(files); i++ {
		err = listensOn(files[i], addresses[i])
	}
	if err != nil {
		closeFiles(files)
		return nil, err
	}
	return files, nil
}

func receive(conn *net.UnixConn) ([]*os.File, error) {
	count, control := make([]byte, 1), make([]byte, unix.CmsgSpace(4*maxListeners))
	_, n, _, _, err := conn.ReadMsgUnix(count, control)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "listener"))
		}
	}
	return files, nil
}

// listensOn checks that f is a listener of that address, as far as the address says: port 0 and an empty host fit any.
func listensOn(f *os.File, address string) error {
	l, err := net.FileListener(f) // a copy
	if err != nil {
		return err
	}
	defer l.Close()
	got, ok := l.Addr().(*net.TCPAddr)
	want, err := net.ResolveTCPAddr("tcp", strings.TrimPrefix(address, "tcp://"))
	if err != nil || !ok {
		return fmt.Errorf("%s is not a TCP address", address)
	}
	if want.Port != 0 && got.Port != want.Port || want.IP != nil && !want.IP.IsUnspecified() && !want.IP.Equal(got.IP) {
		return fmt.Errorf("got another listener than %s", address)
	}
	return nil
}

// listenAll opens every address.
func listenAll(ctx context.Context, addresses []string) ([]*os.File, error) {
	var files []*os.File
	for _, address := range addresses {
		f, err := listen(ctx, address)
		if err != nil {
			closeFiles(files)
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func listen(ctx context.Context, address string) (*os.File, error) {
	host, ok := strings.CutPrefix(address, "tcp://")
	if !ok {
		return nil, fmt.Errorf("%w: %s does not begin with tcp://", ErrListen, address)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", host)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrListen, err)
	}
	defer l.Close() // File is a copy
	return l.(*net.TCPListener).File()
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// shortPath names a socket by its directory's file descriptor, since a socket address holds 108 bytes; the name alone may have
// some 80. done closes the directory.
func shortPath(path string) (short string, done func(), err error) {
	if len(path) < 104 {
		return path, func() {}, nil
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), func() { dir.Close() }, nil
}

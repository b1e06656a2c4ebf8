package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

const (
	headerTime = 10 * time.Second
	endingTime = 5 * time.Second // for requests under way when the server is ended; streams end at once
)

// Serve answers on a unix socket until ctx ends, which is no error. Who lives on the socket is never replaced (deploy.ErrBusy,
// naming it); what a dead process left is.
func (s *Server) Serve(ctx context.Context, socket string) error {
	l, err := Listen(socket)
	if err != nil {
		return err
	}
	return s.ServeOn(ctx, l)
}

// ServeOn answers on l until ctx ends, which is no error, and closes l. A server serves once: when it ends it cuts its streams, so
// that who listens to them asks the next controller.
func (s *Server) ServeOn(ctx context.Context, l net.Listener) error {
	defer l.Close()
	defer s.end()
	server := &http.Server{Handler: s, ReadHeaderTimeout: headerTime}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("the socket %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	s.end()
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), endingTime)
	defer cancel()
	if server.Shutdown(limited) != nil {
		server.Close()
	}
	<-ended //nolint:errcheck // http.ErrServerClosed
	return nil
}

// Listen takes a unix socket of mode 0600 for this process. A lock beside it says who has it: the kernel frees it when its
// process ends, however that ends, and it orders two that start at once. Closing the listener removes the socket.
func Listen(socket string) (net.Listener, error) {
	if err := fits(socket); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return nil, err
	}
	lock, err := takeLock(socket)
	if err != nil {
		return nil, err
	}
	l, err := listen(socket)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &locked{Listener: l, socket: socket, lock: lock}, nil
}

type locked struct {
	net.Listener
	socket string
	lock   *os.File
}

// Close removes the socket while its lock is still held, so that it is never another's. The lock's file stays: who removes a lock
// may remove the one that somebody has just taken.
func (l *locked) Close() error {
	err := l.Listener.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return errors.Join(err, os.Remove(l.socket), l.lock.Close())
}

func takeLock(socket string) (*os.File, error) {
	lock, err := os.OpenFile(socket+".lock", os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		lock.Close()
		return nil, heldBy(socket)
	}
	return lock, nil
}

// listen binds under another name first: the socket has its mode before anybody can find it.
func listen(socket string) (net.Listener, error) {
	if c, err := net.Dial("unix", socket); err == nil {
		c.Close()
		return nil, heldBy(socket)
	}
	switch info, err := os.Lstat(socket); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, deploy.Hint(fmt.Errorf("%w: %s is there and is not a socket", deploy.ErrBadInput, socket), "move it away, or choose another state folder")
	}
	aside := socket + ".n"
	if err := os.Remove(aside); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", aside)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(aside, 0o600), os.Rename(aside, socket)); err != nil {
		l.Close()
		os.Remove(aside)
		return nil, err
	}
	return l, nil
}

func heldBy(socket string) error {
	return deploy.Hint(fmt.Errorf("%w: %s is held by %s", deploy.ErrBusy, socket, holder(socket)),
		"one controller runs per state folder: end that one, or choose another folder with --state")
}

// holder names the process that listens, as the kernel knows it (unix(7), SO_PEERCRED).
func holder(socket string) string {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return "a process that is just starting or ending"
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return "another process"
	}
	var peer *syscall.Ucred
	gone := raw.Control(func(fd uintptr) {
		peer, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if gone != nil || err != nil || peer == nil {
		return "another process"
	}
	name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", peer.Pid)) // without it, the number has to do
	return strings.TrimSpace(fmt.Sprintf("process %d %s", peer.Pid, strings.TrimSpace(string(name))))
}

// fits is asked before the kernel is, which says only "invalid argument" (unix(7): sun_path has 108 bytes, with a zero).
func fits(socket string) error {
	const most = 107 - len(".n")
	if len(socket) <= most {
		return nil
	}
	return deploy.Hint(fmt.Errorf("%w: the path of the socket has %d bytes, and a unix socket takes %d: %s", deploy.ErrBadInput, len(socket), most, socket),
		"choose a state folder with a shorter path (--state)")
}

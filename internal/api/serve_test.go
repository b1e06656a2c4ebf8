package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func TestSocketIsItsOwnersAlone(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0)) // the mode must not depend on it
	socket := socketOf(t)
	defer serving(t, newFake(), socket)()
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// Who lives on the socket stays there, and is named.
func TestTheLivingAreNotReplaced(t *testing.T) {
	socket := socketOf(t)
	defer serving(t, newFake(), socket)()
	_, err := Listen(socket)
	name, _ := os.ReadFile("/proc/self/comm")
	holder := fmt.Sprintf("held by process %d %s", os.Getpid(), strings.TrimSpace(string(name)))
	if !errors.Is(err, deploy.ErrBusy) || !strings.Contains(err.Error(), holder) || deploy.HintOf(err) == "" {
		t.Errorf("%v, want %s", err, holder)
	}
	if _, err := NewClient(socket).Ping(t.Context()); err != nil {
		t.Errorf("the one who lived there does not answer any more: %v", err)
	}
}

// Somebody who listens there and knows nothing of the lock is alive too.
func TestTheLivingWithoutALockAreNotReplaced(t *testing.T) {
	socket := socketOf(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Listen(socket); !errors.Is(err, deploy.ErrBusy) {
		t.Error(err)
	}
	if _, err := os.Stat(socket); err != nil {
		t.Error(err)
	}
}

// One that is just starting has the lock and no socket yet.
func TestTheStartingAreNotReplaced(t *testing.T) {
	socket := socketOf(t)
	lock, err := os.Create(socket + ".lock")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_SH); err != nil { // keeps out who wants it alone, as Listen must
		t.Fatal(err)
	}
	if _, err := Listen(socket); !errors.Is(err, deploy.ErrBusy) || !strings.Contains(err.Error(), "starting or ending") {
		t.Error(err)
	}
}

// What a dead process left is replaced: its socket, a half made one, its lock's file.
func TestTheDeadAreReplaced(t *testing.T) {
	socket := socketOf(t)
	for _, name := range []string{socket, socket + ".n"} {
		l, err := net.Listen("unix", name)
		if err != nil {
			t.Fatal(err)
		}
		l.(*net.UnixListener).SetUnlinkOnClose(false)
		l.Close()
	}
	if err := os.WriteFile(socket+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stop := serving(t, newFake(), socket)
	if _, err := NewClient(socket).Ping(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a server that ended left its socket: %v", err)
	}
	serving(t, newFake(), socket)()
}

// Of many that start at once, one wins; nobody takes the socket of another.
func TestOneOfManyWins(t *testing.T) {
	socket := socketOf(t)
	won := make(chan net.Listener, 20)
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if l, err := Listen(socket); err == nil {
				won <- l
			} else if !errors.Is(err, deploy.ErrBusy) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	close(won)
	if len(won) != 1 {
		t.Errorf("%d have the socket", len(won))
	}
	for l := range won {
		l.Close()
	}
}

func TestWhatIsNoSocketIsNotReplaced(t *testing.T) {
	socket := socketOf(t)
	if err := os.WriteFile(socket, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(socket); !errors.Is(err, deploy.ErrBadInput) || deploy.HintOf(err) == "" {
		t.Error(err)
	}
	if kept, _ := os.ReadFile(socket); string(kept) != "mine" {
		t.Errorf("the file holds %q", kept)
	}
}

func TestPathsThatAreTooLong(t *testing.T) {
	socket := "/tmp/" + strings.Repeat("x", 120)
	_, err := Listen(socket)
	_, asked := NewClient(socket).Ping(t.Context())
	for _, err := range []error{err, asked} {
		if !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(deploy.HintOf(err), "--state") {
			t.Error(err)
		}
	}
}

// Nobody there: which socket, and what to do.
func TestNoController(t *testing.T) {
	socket := socketOf(t)
	_, err := NewClient(socket).Status(t.Context())
	if !errors.Is(err, deploy.ErrUnavailable) || deploy.HintOf(err) != "start it with `lotse serve`" || !strings.Contains(err.Error(), socket) {
		t.Errorf("%v; %s", err, deploy.HintOf(err))
	}
}

// A socket of another user is told from none.
func TestControllerOfAnotherUser(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may open every socket: NOT PROVEN here that another user's is told from none; run as an ordinary user")
	}
	socket := socketOf(t)
	defer serving(t, newFake(), socket)()
	if err := os.Chmod(socket, 0); err != nil {
		t.Fatal(err)
	}
	_, err := NewClient(socket).Status(t.Context())
	if !errors.Is(err, deploy.ErrUnavailable) || !strings.Contains(err.Error(), "another user") {
		t.Error(err)
	}
}

// A controller that hangs up on a request says neither yes nor no, and the client says so.
func TestControllerThatHangsUp(t *testing.T) {
	socket := socketOf(t)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			c.Read(make([]byte, 1))
			c.Close()
		}
	}()
	_, err = NewClient(socket).Deploy(t.Context(), deploy.Request{})
	if !errors.Is(err, deploy.ErrUnavailable) || !strings.Contains(deploy.HintOf(err), "`lotse status`") {
		t.Errorf("%v; %s", err, deploy.HintOf(err))
	}
}

// Ending the server lets a request under way finish.
func TestRequestsUnderWayFinish(t *testing.T) {
	slow := &slowDeploy{fake: newFake(), begun: make(chan struct{}), goOn: make(chan struct{})}
	socket := socketOf(t)
	stop := serving(t, slow, socket)
	answered := make(chan error, 1)
	go func() { _, err := NewClient(socket).Deploy(t.Context(), deploy.Request{}); answered <- err }()
	<-slow.begun
	go stop()
	for { // until nobody new is let in
		if _, err := NewClient(socket).Ping(t.Context()); err != nil {
			break
		}
	}
	close(slow.goOn)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	stop()
}

type slowDeploy struct {
	*fake
	begun, goOn chan struct{}
}

func (s *slowDeploy) Deploy(ctx context.Context, _ deploy.Request) (string, error) {
	close(s.begun)
	<-s.goOn
	return "aaaa", ctx.Err()
}

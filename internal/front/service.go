package front

import (
	"context"
	"errors"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
)

const (
	backoffFirst = 100 * time.Millisecond // after the second end in a row
	backoffMost  = 10 * time.Second
	backoffReset = 10 * time.Second // a process that was up so long has started well
)

// backoff is the pause before a process is started again that has ended too soon so many times in a row.
func backoff(quick int) time.Duration {
	if quick == 0 {
		return 0
	}
	return min(backoffFirst<<min(quick-1, 10), backoffMost)
}

// service is one service of the release on this instance.
type service struct {
	deploy.Service
	front *Front
	port  atomic.Int64 // 0 for a worker, and before the first start

	mu       sync.Mutex
	since    time.Time // of the process that runs, or ran last
	running  bool
	restarts int
	life     int           // goes up when a process begins and when it ends, so that no answer is taken for one of another
	cause    error         // why it is not healthy; nil: it is
	turned   chan struct{} // closed when life goes up
}

func newService(f *Front, s deploy.Service) *service {
	return &service{Service: s, front: f, since: f.clock(), cause: errNotYet, turned: make(chan struct{})}
}

var errNotYet = errors.New("has not answered yet")

func (s *service) address() string {
	return net.JoinHostPort("127.0.0.1", strconv.FormatInt(s.port.Load(), 10))
}

// keep runs the service until ctx ends, again and again.
func (s *service) keep(ctx context.Context) {
	for quick := 0; ; quick++ {
		begun := time.Now()
		exit, err := s.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) >= backoffReset {
			quick = 0
		}
		pause := backoff(quick)
		s.ended(exit, err)
		s.front.log.Warn("a service ended", "service", s.Name, "how", s.whyNot().Error(), "again", pause)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

func (s *service) run(ctx context.Context) (process.Exit, error) {
	home, err := s.front.folder.home(s.Name)
	if err != nil {
		return process.Exit{}, err
	}
	port := ""
	if !s.Worker() {
		if err := s.front.settlePort(s); err != nil {
			return process.Exit{}, err
		}
		port = strconv.FormatInt(s.port.Load(), 10)
	}
	spec := s.front.process(s.Name, []string{"/bin/sh", "-c", "exec " + s.Command}, home, port)
	spec.Limits = process.Limits{MemoryBytes: s.Memory, CPUs: s.CPUs}
	s.began()
	return process.Run(ctx, spec, func(text string) { s.front.out.say(s.front.clock(), s.Name, text) })
}

func (s *service) began() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life > 0 {
		s.restarts++
	}
	s.running, s.since, s.cause = true, s.front.clock(), errNotYet
	s.turn()
}

func (s *service) ended(exit process.Exit, err error) {
	if err == nil {
		err = errors.New("ended with " + exit.String())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.cause = false, err
	s.turn()
}

// turn begins another life. Under mu.
func (s *service) turn() {
	s.life++
	close(s.turned)
	s.turned = make(chan struct{})
}

func (s *service) whyNot() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cause
}

// freePort finds a port on loopback where nobody listens now. Between this and the service's own bind somebody else may take it: then
// the service ends, and is started again on another.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, syscall.EADDRNOTAVAIL
	}
	return addr.Port, nil
}

func isFree(port int) bool {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

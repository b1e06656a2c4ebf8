package front

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

const (
	askEvery    = time.Second            // a service that is healthy
	askAgain    = 100 * time.Millisecond // one that is not
	askTimeout  = 5 * time.Second
	workerStays = time.Second // a worker has come up when it has stayed so long
)

// watch asks the service until ctx ends. Whoever wants to know its health is told the last answer: a path that everybody may ask for
// must not be a way to make the app work.
func (s *service) watch(ctx context.Context) {
	for {
		s.mu.Lock()
		life, running, since, turned := s.life, s.running, s.since, s.turned
		s.mu.Unlock()
		pause := askEvery
		if running {
			if err := s.ask(ctx, since); !s.answered(life, err) || err != nil {
				pause = askAgain
			}
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-turned:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// answered keeps the answer, unless the process that gave it is gone.
func (s *service) answered(life int, err error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life != life {
		return false
	}
	s.cause = err
	return true
}

// ask puts one question to the service. Nil is a good answer.
func (s *service) ask(ctx context.Context, since time.Time) error {
	if s.Worker() {
		if up := s.front.clock().Sub(since); up < workerStays {
			return fmt.Errorf("has been up for %.1f s only", up.Seconds())
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var err error
	if s.Health == "" {
		err = dial(ctx, s.address())
	} else {
		err = s.get(ctx)
	}
	var bad *answerError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &bad):
		return bad
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("does not listen on its PORT (%d)", s.port.Load())
	case ctx.Err() != nil:
		return fmt.Errorf("did not answer within %s", askTimeout)
	}
	return errors.New("broke the connection off")
}

func dial(ctx context.Context, address string) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return conn.Close()
}

// get asks the health path as the proxy would, so that an app that looks at its host name answers.
func (s *service) get(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address()+s.Health, nil)
	if err != nil {
		return err
	}
	host := hostOf(s.front.spec.Host)
	req.Host = host
	req.Header.Set("X-Forwarded-Proto", "https")
	req.Header.Set("X-Forwarded-Host", host)
	req.Header.Set("User-Agent", "lotse")
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 == 2 {
		return err
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	// Masked before it is cut: the beginning of a secret is one, too.
	line = s.front.mask.String(strings.ToValidUTF8(line, ""))
	return &answerError{path: s.Health, status: resp.StatusCode, line: strings.ToValidUTF8(line[:min(len(line), 200)], "")}
}

// answerError is a health path that does not answer 2xx.
type answerError struct {
	path, line string
	status     int
}

// Error leaves out what the app has said: everybody may read it.
func (b *answerError) Error() string { return fmt.Sprintf("answers %s with %d", b.path, b.status) }

// ServiceStatus is one service of a running front.
type ServiceStatus struct {
	Name     string    `json:"name"`
	Healthy  bool      `json:"healthy"`
	Cause    string    `json:"cause,omitempty"` // why it is not, masked; it may hold the first line of what the app answered
	Restarts int       `json:"restarts"`
	Since    time.Time `json:"since"` // when its process was started; of files, when the front was
}

// Status is what a front says of itself.
type Status struct {
	Release  deploy.Digest   `json:"release"`
	Rollout  string          `json:"rollout"`
	Services []ServiceStatus `json:"services"` // as in the Spec
	InFlight int64           `json:"inFlight"` // requests, websockets and event streams
}

func (s *service) status() ServiceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := ServiceStatus{Name: s.Name, Healthy: s.cause == nil, Restarts: s.restarts, Since: s.since.UTC()}
	if s.cause != nil {
		st.Cause = s.cause.Error()
	}
	if bad, ok := errors.AsType[*answerError](s.cause); ok && bad.line != "" {
		st.Cause += ": " + bad.line
	}
	return st
}

func (f *Front) status() Status {
	st := Status{Release: f.spec.Release, Rollout: f.spec.Rollout}
	for _, s := range f.services {
		st.Services = append(st.Services, s.status())
	}
	for _, s := range f.proxy.Stats().Services {
		st.InFlight += s.InFlight
	}
	return st
}

// unwell is what /.lotse/health says of a service.
type unwell struct {
	Name  string `json:"name"`
	Cause string `json:"cause"`
}

// ServeHTTP answers /.lotse/health: 200 when every service does, else 503 with those that do not.
func (f *Front) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	answer := struct {
		Healthy  bool     `json:"healthy"`
		Ending   bool     `json:"ending,omitempty"`
		Services []unwell `json:"services,omitempty"`
	}{Ending: f.ending.Load()}
	for _, s := range f.services {
		if err := s.whyNot(); err != nil {
			answer.Services = append(answer.Services, unwell{s.Name, err.Error()})
		}
	}
	answer.Healthy = len(answer.Services) == 0 && !answer.Ending
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Lotse-Release", f.spec.Release.Short())
	if !answer.Healthy {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(answer) // who asked may be gone
}

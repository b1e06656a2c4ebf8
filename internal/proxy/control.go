package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const controlBody = 16 << 20

// control is the socket by which the proxy is steered. Who may open it may steer: it is 0600 from its first instant.
type control struct {
	s    *Server
	http *http.Server // nil: not steered
	path string

	mu   sync.Mutex
	l    net.Listener
	info os.FileInfo // of our socket, to tell it from a successor's
	over bool
	lost chan error // a renewed socket failed
}

func (s *Server) listenControl() (*control, error) {
	c := &control{s: s, path: s.cfg.Control, lost: make(chan error, 1)}
	if c.path == "" {
		return c, nil
	}
	c.http = &http.Server{Handler: s.withReach(s.controlHandler(c)), ReadHeaderTimeout: headerTimeout}
	return c, c.listen()
}

// listen binds aside, where nobody else can look, and renames: a successor takes the name over without a gap.
func (c *control) listen() error {
	dir, err := os.MkdirTemp(filepath.Dir(c.path), ".c")
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	defer os.RemoveAll(dir)
	aside := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: aside, Net: "unix"})
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(aside, 0o600)
	if err == nil {
		err = os.Rename(aside, c.path)
	}
	if err == nil {
		c.info, err = os.Stat(c.path)
	}
	if err != nil {
		l.Close()
		return fmt.Errorf("control socket: %w", err)
	}
	c.l = l
	return nil
}

func (c *control) serve(ctx context.Context) error {
	if c.http == nil {
		<-ctx.Done()
		return nil
	}
	go c.accept(c.l)
	select {
	case err := <-c.lost:
		return fmt.Errorf("control socket: %w", err)
	case <-ctx.Done():
		return nil
	}
}

func (c *control) accept(l net.Listener) {
	if err := c.http.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
		c.lost <- err
	}
}

// renew takes the name back from a successor that has failed.
func (c *control) renew() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if info, err := os.Lstat(c.path); c.over || err == nil && os.SameFile(info, c.info) {
		return nil
	}
	before := c.l
	if err := c.listen(); err != nil {
		return err
	}
	go c.accept(c.l)
	return before.Close()
}

// close takes the socket away, unless a successor has put its own there.
func (c *control) close() {
	if c.http == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	if info, err := os.Lstat(c.path); err == nil && os.SameFile(info, c.info) {
		os.Remove(c.path)
	}
	c.http.Close()
}

func (s *Server) controlHandler(c *control) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, r *http.Request) { reply(w, s.pong(), nil) })
	mux.HandleFunc("POST /succeed", func(w http.ResponseWriter, r *http.Request) { s.succeeded(c, w, r) })
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) { reply(w, s.stats(), nil) })
	mux.HandleFunc("GET /samples", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		from, err := time.Parse(time.RFC3339Nano, q.Get("from"))
		to, err2 := time.Parse(time.RFC3339Nano, q.Get("to"))
		if err = errors.Join(err, err2); err != nil {
			err = fmt.Errorf("%w: %w", ErrInvalid, err)
		}
		reply(w, s.Samples(q.Get("key"), from, to), err)
	})
	mux.HandleFunc("GET /sites", func(w http.ResponseWriter, r *http.Request) { reply(w, s.listSites(), nil) })
	mux.HandleFunc("GET /site", func(w http.ResponseWriter, r *http.Request) {
		site, err := s.get(r.URL.Query().Get("key"))
		reply(w, site, err)
	})
	mux.HandleFunc("PUT /site", func(w http.ResponseWriter, r *http.Request) {
		var site Site
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, controlBody)).Decode(&site)
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrInvalid, err)
		} else {
			err = s.put(site)
		}
		reply(w, struct{}{}, err)
	})
	mux.HandleFunc("DELETE /site", func(w http.ResponseWriter, r *http.Request) {
		fence, err := strconv.ParseInt(r.URL.Query().Get("fence"), 10, 64)
		if err == nil {
			err = s.remove(r.URL.Query().Get("key"), fence)
		}
		reply(w, struct{}{}, err)
	})
	mux.HandleFunc("GET /closure", func(w http.ResponseWriter, r *http.Request) {
		c, err := s.closure(r.URL.Query().Get("key"))
		reply(w, c, err)
	})
	mux.HandleFunc("PUT /hold", closing(s.hold))
	mux.HandleFunc("PUT /maintenance", closing(s.maintain))
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		timeout, err := time.ParseDuration(q.Get("timeout"))
		var done Drained
		if err == nil {
			done, err = s.drain(r.Context(), q.Get("key"), q.Get("release"), timeout)
		}
		reply(w, done, err)
	})
	return mux
}

// closing takes what is to be in force; null ends it.
func closing[T any](do func(key string, fence int64, to *T) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		fence, err := strconv.ParseInt(r.URL.Query().Get("fence"), 10, 64)
		var to *T
		if err == nil {
			err = json.NewDecoder(http.MaxBytesReader(w, r.Body, controlBody)).Decode(&to)
		}
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrInvalid, err)
		} else {
			err = do(r.URL.Query().Get("key"), fence, to)
		}
		reply(w, struct{}{}, err)
	}
}

func (s *Server) listSites() []Site {
	sites := []Site{}
	for _, live := range s.table.Load().sites {
		sites = append(sites, live.Site)
	}
	slices.SortFunc(sites, func(a, b Site) int { return strings.Compare(a.Key, b.Key) })
	return sites
}

// answer is what goes over the socket: a value, or an error with the name of its sentinel.
type answer struct {
	Value json.RawMessage `json:"value,omitempty"`
	Kind  string          `json:"kind,omitempty"`
	Error string          `json:"error,omitempty"`
}

func sentinels() map[string]error {
	return map[string]error{"fenced": ErrFenced, "invalid": ErrInvalid, "host-taken": ErrHostTaken, "unknown": ErrUnknown,
		"serving": ErrServing, "damaged": ErrDamaged, "newer": ErrNewer, "moved": errMoved}
}

func reply(w http.ResponseWriter, value any, err error) {
	var a answer
	if err != nil {
		a.Error = err.Error()
		for kind, sentinel := range sentinels() {
			if errors.Is(err, sentinel) {
				a.Kind = kind
			}
		}
	} else if a.Value, err = json.Marshal(value); err != nil {
		a.Error = err.Error()
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a)
}

func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNABORTED)
}

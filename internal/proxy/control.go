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
	"syscall"
	"time"
)

const controlBody = 16 << 20

// control is the socket by which the proxy is steered. Who may open it may steer: it is 0600 from its first instant.
type control struct {
	s    *Server
	l    net.Listener
	http *http.Server
	path string
	info os.FileInfo // of our socket, to tell it from a successor's
}

// listenControl binds aside, where nobody else can look, and renames: a successor takes the name over without a gap.
func (s *Server) listenControl() (*control, error) {
	c := &control{s: s, path: s.cfg.Control}
	if c.path == "" {
		return c, nil
	}
	dir, err := os.MkdirTemp(filepath.Dir(c.path), ".c")
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	defer os.RemoveAll(dir)
	aside := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: aside, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
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
		return nil, fmt.Errorf("control socket: %w", err)
	}
	c.l = l
	c.http = &http.Server{Handler: s.withReach(s.controlHandler()), ReadHeaderTimeout: headerTimeout}
	return c, nil
}

func (c *control) serve(ctx context.Context) error {
	if c.l == nil {
		<-ctx.Done()
		return nil
	}
	if err := c.http.Serve(c.l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// close takes the socket away, unless a successor has put its own there.
func (c *control) close() {
	if c.l == nil {
		return
	}
	if info, err := os.Lstat(c.path); err == nil && os.SameFile(info, c.info) {
		os.Remove(c.path)
	}
	c.http.Close()
}

func (s *Server) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ping", func(w http.ResponseWriter, r *http.Request) { reply(w, struct{}{}, nil) })
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, r *http.Request) { reply(w, s.stats(), nil) })
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
		"serving": ErrServing, "damaged": ErrDamaged}
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

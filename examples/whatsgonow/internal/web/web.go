// Package web speaks HTTP: JSON in and out, problem+json (RFC 9457) for what went wrong,
// one event stream. It decides nothing about transports; it lets the store do things in
// the name of whoever is signed in, and says plainly what came of it.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"whatsgonow/internal/password"
	"whatsgonow/internal/photo"
	"whatsgonow/internal/store"
)

const (
	mostJSON  = 64 << 10
	mostPhoto = 5 << 20
)

// A Server answers /api. Its fields are set before Handler is called.
type Server struct {
	Store     *store.Store
	Photos    *photo.Shelf
	Passwords *password.Keeper
	Log       *slog.Logger
	Now       func() time.Time

	Release, Stage string // shown by /api/health
	Heartbeat      time.Duration

	streams streams
}

// Handler returns the routes, with everything around them that all of them need.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	route := func(pattern string, h handler) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := h(w, r); err != nil {
				s.fail(w, r, err)
			}
		})
	}
	route("GET /api/health", s.health)

	route("POST /api/account", s.register)
	route("DELETE /api/account", s.signedIn(s.erase))
	route("GET /api/session", s.session)
	route("POST /api/session", s.signIn)
	route("DELETE /api/session", s.signOut)

	route("GET /api/transports", s.find)
	route("POST /api/transports", s.signedIn(s.post))
	route("GET /api/transports/{id}", s.look)
	route("POST /api/transports/{id}/offers", s.signedIn(s.propose))
	route("POST /api/transports/{id}/{verb}", s.signedIn(s.act))
	route("POST /api/offers/{id}/{verb}", s.signedIn(s.answer))
	route("GET /api/mine", s.signedIn(s.mine))

	route("POST /api/uploads", s.upload)
	route("GET /api/uploads/{id}", s.photo)

	route("GET /api/events", s.signedIn(s.events))
	route("/api/", func(http.ResponseWriter, *http.Request) error { return store.ErrNotFound })

	sameOrigin := http.NewCrossOriginProtection()
	sameOrigin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, errCrossOrigin)
	}))
	return s.logged(guarded(sameOrigin.Handler(mux)))
}

// A handler writes an answer, or returns an error and has written nothing.
type handler func(http.ResponseWriter, *http.Request) error

// guarded sets the headers that keep an answer from being taken for something else.
func guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// logged writes a line per request: the pattern that matched, never the path or the
// query, which say who looks at what and goes where.
func (s *Server) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(seen, r)
		s.Log.LogAttrs(context.WithoutCancel(r.Context()), slog.LevelInfo, "request",
			slog.String("endpoint", r.Pattern),
			slog.Int("status", seen.status),
			slog.Float64("ms", float64(time.Since(began).Microseconds())/1000))
	})
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (s *Server) health(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	answer := struct {
		Status  string `json:"status"`
		Release string `json:"release,omitempty"`
		Stage   string `json:"stage,omitempty"`
	}{"ok", s.Release, s.Stage}
	status := http.StatusOK
	if err := s.Store.Ready(ctx); err != nil {
		status, answer.Status = http.StatusServiceUnavailable, "the database does not answer"
	}
	return write(w, status, answer)
}

func write(w http.ResponseWriter, status int, answer any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // who hung up does not want to hear of it
	return nil
}

// read takes the one JSON object that a request carries.
func read(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, mostJSON))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		_, err = d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
	}
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return err
	}
	return errBadJSON
}

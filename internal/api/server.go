package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Server serves a Service. It is an http.Handler, safe for concurrent use.
type Server struct {
	service Service
	version string
	log     *slog.Logger
	mux     *http.ServeMux
	hide    func(string) string

	ending context.Context // ends when streams are to be cut so that their clients go to the next controller
	end    context.CancelFunc
}

// NewServer makes a server of s. version is Lotse's, for people and for Ping.
func NewServer(s Service, version string, log *slog.Logger) *Server {
	server := &Server{service: s, version: version, log: log, mux: http.NewServeMux(), hide: func(text string) string { return text }}
	server.ending, server.end = context.WithCancel(context.Background())
	for pattern, h := range map[string]handler{
		"POST /v1/rollouts":                 server.deploy,
		"POST /v1/promotions":               server.move(s.Promote),
		"POST /v1/rollbacks":                server.move(s.Rollback),
		"POST /v1/redeploys":                server.move(s.Redeploy),
		"GET /v1/rollouts":                  server.history,
		"GET /v1/rollouts/{id}":             server.rollout,
		"POST /v1/rollouts/{id}/abort":      server.abort,
		"POST /v1/rollouts/{id}/resume":     server.resume,
		"GET /v1/rollouts/{id}/record":      server.record,
		"POST /v1/approvals":                server.approve,
		"POST /v1/freezes":                  server.frost(s.Freeze),
		"POST /v1/thaws":                    server.frost(s.Thaw),
		"POST /v1/plans":                    server.plan,
		"GET /v1/dora":                      server.dora,
		"POST /v1/ends":                     server.endStage,
		"POST /v1/holds":                    server.closing(s.Hold),
		"POST /v1/maintenances":             server.closing(s.Maintain),
		"POST /v1/contracts":                server.contract,
		"GET /v1/rollouts/{id}/updates":     server.follow,
		"GET /v1/stages":                    server.status,
		"GET /v1/stages/{app}/{stage}/logs": server.logs,
		"GET /v1/releases/{digest}":         server.release,
		"POST /v1/names":                    server.names,
		"POST /v1/pushes":                   server.pushed,
		"POST /v1/notices/test":             server.testNotices,

		"POST /v1/snapshots":      server.withData(dataJob(Data.TakeSnapshot)),
		"GET /v1/snapshots":       server.withData(listSnapshots),
		"POST /v1/drills":         server.withData(dataJob(Data.Drill)),
		"POST /v1/restores":       server.withData(dataJob(Data.Restore)),
		"POST /v1/copies":         server.withData(dataJob(Data.CopyData)),
		"GET /v1/people":          server.withData(findPeople),
		"POST /v1/forgets":        server.withData(forget),
		"GET /v1/data":            server.withData(dataStatus),
		"GET /v1/data/jobs/{job}": server.followData,

		"POST /v1/apps/{app}/stages/{stage}/variables":             server.withVariables(setVariables),
		"GET /v1/apps/{app}/stages/{stage}/variables":              server.withVariables(listVariables),
		"DELETE /v1/apps/{app}/stages/{stage}/variables":           server.withVariables(removeVariables),
		"POST /v1/apps/{app}/stages/{stage}/variables/change":      server.withSecrets(changeVariables),
		"POST /v1/apps/{app}/stages/{stage}/variables/values":      server.withSecrets(readVariables),
		"POST /v1/apps/{app}/stages/{stage}/variables/comparison":  server.withSecrets(compareVariables),
		"GET /v1/apps/{app}/stages/{stage}/variables/versions":     server.withSecrets(variableVersions),
		"POST /v1/apps/{app}/stages/{stage}/variables/revocations": server.withSecrets(revokeVersions),
		"GET /v1/recipients":                          server.withSecrets(listRecipients),
		"POST /v1/recipients":                         server.withSecrets(changeRecipients(addRecipient)),
		"DELETE /v1/recipients":                       server.withSecrets(changeRecipients(removeRecipient)),
		"POST /v1/recipients/rotation":                server.withSecrets(changeRecipients(rotateKey)),
		"PUT /v1/apps/{app}/stages/{stage}/home":      server.settle,
		"GET /v1/apps/{app}/stages/{stage}/password":  server.withVariables(password),
		"POST /v1/apps/{app}/stages/{stage}/password": server.withVariables(newPassword),
	} {
		server.mux.HandleFunc(pattern, server.whenReady(h))
	}
	server.mux.HandleFunc("GET /v1/ping", server.answering(server.ping))
	server.mux.HandleFunc("/", server.answering(server.unknown))
	return server
}

// Hiding makes errors go through hide before they travel. It must be called before the first request.
func (s *Server) Hiding(hide func(string) string) *Server {
	s.hide = hide
	return s
}

// wire is the form in which err travels, without what is hidden. Details whose form that breaks stay here.
func (s *Server) wire(err error) *Error {
	wire := *Wire(err)
	wire.Message, wire.Hint = s.hide(wire.Message), s.hide(wire.Hint)
	if wire.Details = json.RawMessage(s.hide(string(wire.Details))); !json.Valid(wire.Details) {
		wire.Details = nil
	}
	return &wire
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Lotse-Version", s.version)
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	s.mux.ServeHTTP(w, r)
}

// handler answers one request: a value to be sent as JSON, or an error. One that streams has sent its answer itself, and
// returns errSent.
type handler func(w http.ResponseWriter, r *http.Request) (any, error)

var errSent = errors.New("the answer was sent already")

// whenReady holds requests until the service has taken up what was unfinished, so that a client need not try again.
func (s *Server) whenReady(h handler) http.HandlerFunc {
	return s.answering(func(w http.ResponseWriter, r *http.Request) (any, error) {
		select {
		case <-s.service.Ready():
			return h(w, r)
		case <-r.Context().Done():
			return nil, r.Context().Err()
		case <-s.ending.Done():
			return nil, fmt.Errorf("%w: the controller is being ended", deploy.ErrUnavailable)
		}
	})
}

func (s *Server) answering(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		answer, err := h(w, r)
		switch {
		case errors.Is(err, errSent):
		case err != nil:
			wire := s.wire(err)
			s.log.Debug("a request was refused", "method", r.Method, "path", r.URL.Path, "code", wire.Code)
			s.send(w, statusOf(wire.Code), errorReply{wire})
		default:
			s.send(w, http.StatusOK, answer)
		}
	}
}

func (s *Server) send(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		s.log.Error("an answer could not be written down", "error", err)
		status = http.StatusInternalServerError
		body = []byte(`{"error":{"code":"internal","message":"the answer could not be written down; see the controller's log"}}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // there is nobody left to tell
}

func (s *Server) deploy(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q deploy.Request
	if err := read(r, &q); err != nil {
		return nil, err
	}
	id, err := s.service.Deploy(r.Context(), q)
	return deployReply{id}, err
}

// move asks for a release that is there already.
func (s *Server) move(ask func(context.Context, deploy.Move) (string, error)) handler {
	return func(_ http.ResponseWriter, r *http.Request) (any, error) {
		var q deploy.Move
		if err := read(r, &q); err != nil {
			return nil, err
		}
		id, err := ask(r.Context(), q)
		return deployReply{id}, err
	}
}

func (s *Server) abort(_ http.ResponseWriter, r *http.Request) (any, error) {
	return nothing{}, s.service.Abort(r.Context(), r.PathValue("id"))
}

func (s *Server) endStage(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q endRequest
	if err := read(r, &q); err != nil {
		return nil, err
	}
	return nothing{}, s.service.End(r.Context(), q.Stage, q.By)
}

// closing keeps requests from a stage, or lets them in again.
func (s *Server) closing(do func(context.Context, deploy.Closing) (deploy.Closed, error)) handler {
	return func(_ http.ResponseWriter, r *http.Request) (any, error) {
		var q deploy.Closing
		if err := read(r, &q); err != nil {
			return nil, err
		}
		now, err := do(r.Context(), q)
		return closedReply{now}, err
	}
}

func (s *Server) contract(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q deploy.Contracting
	if err := read(r, &q); err != nil {
		return nil, err
	}
	return nothing{}, s.service.Contract(r.Context(), q)
}

func (s *Server) status(_ http.ResponseWriter, r *http.Request) (any, error) {
	stages, err := s.service.Status(r.Context())
	return stagesReply{stages}, err
}

func (s *Server) history(_ http.ResponseWriter, r *http.Request) (any, error) {
	q, err := queryOf(r, "app", "stage", "limit")
	if err != nil {
		return nil, err
	}
	limit, err := q.number("limit")
	if err != nil {
		return nil, err
	}
	rollouts, err := s.service.History(r.Context(), q["app"], q["stage"], limit)
	return rolloutsReply{rollouts}, err
}

func (s *Server) rollout(_ http.ResponseWriter, r *http.Request) (any, error) {
	rollout, err := s.service.Rollout(r.Context(), r.PathValue("id"))
	return rolloutReply{rollout}, err
}

func (s *Server) release(_ http.ResponseWriter, r *http.Request) (any, error) {
	release, err := s.service.Release(r.Context(), deploy.Digest(r.PathValue("digest")))
	return releaseReply{release}, err
}

func (s *Server) names(_ http.ResponseWriter, r *http.Request) (any, error) {
	var q namesBody
	if err := read(r, &q); err != nil {
		return nil, err
	}
	if known, ok := s.service.(Names); ok {
		return namesReply{known.Names(r.Context(), q.IDs)}, nil
	}
	return namesReply{}, nil
}

func (s *Server) ping(http.ResponseWriter, *http.Request) (any, error) {
	return Pong{Version: s.version, PID: os.Getpid()}, nil
}

func (s *Server) unknown(_ http.ResponseWriter, r *http.Request) (any, error) {
	return nil, deploy.Hint(fmt.Errorf("%w: the controller (version %s) does not know %s %s", deploy.ErrUnsupported, s.version, r.Method, r.URL.Path),
		"the command and the controller are of different versions: start `lotse serve` again")
}

// read takes the one JSON value that a body is. What is not known is refused, rather than not done.
func read(r *http.Request, into any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("there is something after the JSON value")
		}
	}
	if err != nil {
		return fmt.Errorf("%w: the request's body: %w", deploy.ErrBadInput, err)
	}
	return nil
}

// query is the part of a URL after the question mark, each name once.
type query map[string]string

func queryOf(r *http.Request, known ...string) (query, error) {
	q := query{}
	for name, values := range r.URL.Query() {
		if !slices.Contains(known, name) || len(values) > 1 {
			return nil, fmt.Errorf("%w: the query %q is not known, or stands there twice", deploy.ErrBadInput, name)
		}
		q[name] = values[0]
	}
	return q, nil
}

func (q query) number(name string) (int, error) {
	if q[name] == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(q[name])
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%w: %s must be a number from 0 up, not %q", deploy.ErrBadInput, name, q[name])
	}
	return n, nil
}

// moment reads a time in RFC 3339; left out it is zero.
func (q query) moment(name string) (time.Time, error) {
	if q[name] == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339Nano, q[name])
	if err != nil {
		return at, fmt.Errorf("%w: %s must be a time as in RFC 3339, not %q", deploy.ErrBadInput, name, q[name])
	}
	return at, nil
}

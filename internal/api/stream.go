package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/lotse-eu/lotse/internal/deploy"
)

func (s *Server) follow(w http.ResponseWriter, r *http.Request) (any, error) {
	id := r.PathValue("id")
	return s.stream(w, r, func(ctx context.Context, yield func(any) error) error {
		return s.service.Follow(ctx, id, func(u deploy.Update) error { return yield(u) })
	})
}

func (s *Server) logs(w http.ResponseWriter, r *http.Request) (any, error) {
	q, err := queryOf(r, "rollout", "service", "lines", "since", "follow")
	if err != nil {
		return nil, err
	}
	lines, err := q.number("lines")
	if err != nil {
		return nil, err
	}
	since, err := q.moment("since")
	if err != nil {
		return nil, err
	}
	if q["follow"] != "" && q["follow"] != "true" {
		return nil, fmt.Errorf("%w: follow is true or left out, not %q", deploy.ErrBadInput, q["follow"])
	}
	stage := deploy.StageRef{App: r.PathValue("app"), Stage: r.PathValue("stage")}
	wanted := deploy.LogQuery{Rollout: q["rollout"], Service: q["service"], Lines: lines, Since: since, Follow: q["follow"] != ""}
	return s.stream(w, r, func(ctx context.Context, yield func(any) error) error {
		var broken error
		err := s.service.Logs(ctx, stage, wanted, func(l deploy.LogLine) bool {
			broken = yield(l)
			return broken == nil
		})
		return errors.Join(broken, err)
	})
}

// stream sends items as they come, and flushes each. Until the first, an error can still be answered as any other.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, produce func(context.Context, func(any) error) error) (any, error) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.ending, cancel)()
	out := &streamWriter{to: w, flush: http.NewResponseController(w).Flush}
	err := produce(ctx, out.item)
	switch {
	case ctx.Err() != nil:
		return nil, out.cut() // no end: a client that still listens asks the next controller
	case err != nil && !out.begun:
		return nil, err
	case err != nil:
		_ = out.write(frame{Error: s.wire(err)}) // there is nobody left to tell
	default:
		_ = out.write(frame{End: true})
	}
	return nil, errSent
}

type streamWriter struct {
	to    http.ResponseWriter
	flush func() error
	begun bool
}

func (s *streamWriter) item(v any) error {
	item, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.write(frame{Item: item})
}

func (s *streamWriter) write(f frame) error {
	line, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if !s.begun {
		s.begun = true
		s.to.Header().Set("Content-Type", "application/x-ndjson")
	}
	if _, err := s.to.Write(append(line, '\n')); err != nil {
		return err
	}
	return s.flush()
}

// cut ends a stream without its last line.
func (s *streamWriter) cut() error {
	if s.begun {
		return errSent
	}
	return fmt.Errorf("%w: the controller is being ended", deploy.ErrUnavailable)
}

// errCut is a stream that ended without its last line.
var errCut = errors.New("the connection to the controller was cut off")

// receive gives every item of a stream to yield until its last line. errCut when there is none.
func receive(body io.Reader, yield func(json.RawMessage) error) error {
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxReply)
	for lines.Scan() {
		var f frame
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			return errCut // half a line
		}
		switch {
		case f.End:
			return nil
		case f.Error != nil:
			return received(f.Error)
		}
		if err := yield(f.Item); err != nil {
			return err
		}
	}
	return errCut
}

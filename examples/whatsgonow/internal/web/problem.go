package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/jackc/pgx/v5/pgconn"

	"whatsgonow/internal/market"
	"whatsgonow/internal/photo"
	"whatsgonow/internal/store"
)

// A problem is an answer that is not the one hoped for, RFC 9457. Code is for programs.
type problem struct {
	Title  string          `json:"title"`
	Status int             `json:"status"`
	Code   string          `json:"code"`
	Errors market.Mistakes `json:"errors,omitempty"`
}

func (p *problem) Error() string { return p.Title }

func says(status int, code, title string) *problem {
	return &problem{Title: title, Status: status, Code: code}
}

var (
	errBadJSON       = says(http.StatusBadRequest, "bad_json", "the body is not the JSON object that belongs here")
	errNotSignedIn   = says(http.StatusUnauthorized, "not_signed_in", "sign in first")
	errWrongPassword = says(http.StatusUnauthorized, "wrong_password", "address and password do not belong together")
	errCrossOrigin   = says(http.StatusForbidden, "cross_origin", "the request comes from another site")
)

// answers says what comes of the errors that the rooms below return.
var answers = []struct {
	err error
	is  *problem
}{
	{store.ErrNotFound, says(http.StatusNotFound, "not_found", "there is nothing here")},
	{store.ErrEmailTaken, says(http.StatusConflict, "email_taken", "there is an account with this address")},
	{store.ErrUnfinished, says(http.StatusConflict, "unfinished", "finish or cancel the transports under way first")},
	{store.ErrTooManyUploads, says(http.StatusServiceUnavailable, "uploads_full", "no more photos can be taken right now")},
	{store.ErrWrongCode, &problem{"that is not the handover code", http.StatusUnprocessableEntity, "wrong_code",
		market.Mistakes{{Field: "code", Code: "wrong", Message: "code is not the one of this transport"}}}},
	{market.ErrNotNow, says(http.StatusConflict, "not_now", "that is not possible in this state")},
	{market.ErrNotYours, says(http.StatusForbidden, "not_yours", "that is for somebody else to do")},
	{photo.ErrNotAPhoto, says(http.StatusUnsupportedMediaType, "not_a_photo", "a photo is a JPEG image")},
}

func problemOf(err error) *problem {
	var known *problem
	var mistakes market.Mistakes
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &known):
		return known
	case errors.As(err, &mistakes):
		return &problem{"some things are to be put right", http.StatusUnprocessableEntity, "mistakes", mistakes}
	case errors.As(err, &tooLong):
		return says(http.StatusRequestEntityTooLarge, "too_long", fmt.Sprintf("more than %d bytes", tooLong.Limit))
	case store.Away(err):
		return says(http.StatusServiceUnavailable, "away", "the database does not answer, try again")
	}
	for _, a := range answers {
		if errors.Is(err, a.err) {
			return a.is
		}
	}
	return says(http.StatusInternalServerError, "broken", "something broke on our side")
}

// fail answers with a problem, and logs those that are ours to solve.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() != nil {
		return // nobody listens any more
	}
	p := problemOf(err)
	if p.Status >= 500 {
		s.Log.LogAttrs(context.WithoutCancel(r.Context()), slog.LevelError, "failed",
			slog.String("endpoint", r.Pattern), slog.String("cause", cause(err)))
	}
	if p.Status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "2")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

// cause is the error's text, without the values that PostgreSQL quotes in its own.
func cause(err error) string {
	var pg *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case errors.As(err, &pg):
		return fmt.Sprintf("postgres %s %s %s", pg.Code, pg.TableName, pg.ConstraintName)
	case errors.As(err, &connect):
		return "postgres cannot be reached"
	}
	return err.Error()
}

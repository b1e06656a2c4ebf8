package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"slices"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Error is an error that came over the wire. errors.Is finds the sentinel of its Code; deploy.HintOf its hint.
type Error struct {
	Code    string          `json:"code"`
	Message string          `json:"message"`
	Hint    string          `json:"hint,omitempty"`
	Details json.RawMessage `json:"details,omitempty"` // what the error says in a form of its own, such as mistakes with their lines
}

func (e *Error) Error() string { return e.Message }

// Unwrap returns the sentinel of the code; nil where the code is "internal", or of a newer controller.
func (e *Error) Unwrap() error { return deploy.ErrorOf(e.Code) }

// Wire is the form in which err travels, and in which `--json` shows it. What cannot be marshalled travels as text alone.
func Wire(err error) *Error {
	wire := &Error{Code: deploy.CodeOf(err), Message: err.Error(), Hint: deploy.HintOf(err)}
	if came, ok := errors.AsType[*Error](err); ok {
		wire.Code, wire.Details = came.Code, came.Details
		return wire
	}
	wire.Details = detailsOf(err)
	return wire
}

// detailsOf finds the error in err's tree that has a form of its own as JSON: by its MarshalJSON, or by tags at its fields.
func detailsOf(err error) json.RawMessage {
	if err == nil {
		return nil
	}
	if hasForm(err) {
		if details, err := json.Marshal(err); err == nil {
			return details
		}
	}
	switch e := err.(type) { //nolint:errorlint // this is what walks the tree
	case interface{ Unwrap() error }:
		return detailsOf(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			if details := detailsOf(one); details != nil {
				return details
			}
		}
	}
	return nil
}

func hasForm(err error) bool {
	if _, ok := err.(json.Marshaler); ok {
		return true
	}
	t := reflect.TypeOf(err)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return false
	}
	return slices.ContainsFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return f.Tag.Get("json") != "" })
}

// received makes an error of what came, with its hint where deploy.HintOf looks for it.
func received(wire *Error) error {
	if wire.Hint == "" {
		return wire
	}
	return deploy.Hint(wire, wire.Hint)
}

// statusOf is the status that a code travels under. Clients decide by the code; the status is for proxies and for curl.
func statusOf(code string) int {
	switch code {
	case "bad-input":
		return http.StatusBadRequest
	case "not-found", "unknown":
		return http.StatusNotFound
	case "busy", "fenced", "aborted", "refused":
		return http.StatusConflict
	case "unsupported":
		return http.StatusNotImplemented
	case "unavailable":
		return http.StatusServiceUnavailable
	case "no-space":
		return http.StatusInsufficientStorage
	case "build", "cannot-start", "unhealthy", "damaged", "missing", "migration", "regression", "gate":
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

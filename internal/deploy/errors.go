package deploy

import (
	"errors"
	"fmt"
	"strings"
)

// Sentinels to decide by. They are wrapped with a cause to read, and with a hint by Hint.
var (
	ErrFenced      = errors.New("a newer lease has taken over")
	ErrUnknown     = errors.New("no such rollout on this stage")
	ErrUnsupported = errors.New("this engine cannot do that")
	ErrUnhealthy   = errors.New("the release does not answer as it should")
	ErrCannotStart = errors.New("the release cannot start")
	ErrBusy        = errors.New("the stage is being changed")
	ErrNotFound    = errors.New("not found")
	ErrBadInput    = errors.New("the input is not usable")
	ErrBuild       = errors.New("the pipeline failed")
	ErrDamaged     = errors.New("damaged")
	ErrNoSpace     = errors.New("not enough disk space")
	ErrAborted     = errors.New("aborted")
	ErrUnavailable = errors.New("not available right now")
	ErrMissing     = errors.New("a setting is missing")
	ErrMigration   = errors.New("the migration failed")
	ErrRefused     = errors.New("refused") // a stage skipped, nothing to go back to
	ErrRegression  = errors.New("the release is worse than it may be")
	ErrGate        = errors.New("a gate refuses the release")
)

// Retryable reports whether the same call may succeed later without anybody changing anything.
func Retryable(err error) bool { return errors.Is(err, ErrUnavailable) || errors.Is(err, ErrBusy) }

// StartError says why a release could not be started. It is ErrCannotStart.
type StartError struct {
	Service  string
	Instance int
	Cause    string   // "ended with exit code 2 after 0.3 s", "did not listen on its PORT (41233) within 60 s; it listens on 8080"
	Tail     []string // the last lines of its output, masked
}

func (e *StartError) Error() string {
	return fmt.Sprintf("%s[%d] %s%s", e.Service, e.Instance, e.Cause, tail(e.Tail))
}

// Is makes every StartError an ErrCannotStart.
func (e *StartError) Is(target error) bool { return target == ErrCannotStart }

// CheckError says which instance did not answer, and why. It is ErrUnhealthy.
type CheckError struct {
	Service  string
	Instance int
	Cause    string
	Tail     []string
}

func (e *CheckError) Error() string {
	return fmt.Sprintf("%s[%d] %s%s", e.Service, e.Instance, e.Cause, tail(e.Tail))
}

// Is makes every CheckError an ErrUnhealthy.
func (e *CheckError) Is(target error) bool { return target == ErrUnhealthy }

// ExitError is a command that ended badly.
type ExitError struct {
	Command string
	Code    int
	Tail    []string
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s ended with exit code %d%s", e.Command, e.Code, tail(e.Tail))
}

func tail(lines []string) string {
	if len(lines) == 0 {
		return ""
	}
	return "; its last output:\n  " + strings.Join(lines, "\n  ")
}

// Hint adds to err what a person can do about it. Nil stays nil.
func Hint(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &hinted{err, hint}
}

type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// Hint implements the interface by which HintOf finds hints, also those of rooms on the floor below.
func (h *hinted) Hint() string { return h.hint }

// HintOf returns the outermost hint of err, or "".
func HintOf(err error) string {
	type hinting interface {
		error
		Hint() string
	}
	if h, ok := errors.AsType[hinting](err); ok {
		return h.Hint()
	}
	return ""
}

// CodeOf is the name of the sentinel that err wraps, for machines: exit codes and the JSON twin of an error.
func CodeOf(err error) string {
	for _, c := range codes {
		if errors.Is(err, c.sentinel) {
			return c.name
		}
	}
	return "internal"
}

// ErrorOf is the inverse of CodeOf: the sentinel of a name, or nil.
func ErrorOf(code string) error {
	for _, c := range codes {
		if c.name == code {
			return c.sentinel
		}
	}
	return nil
}

// codes is in the order in which they are asked: what wraps others stands after what it wraps.
var codes = []struct {
	name     string
	sentinel error
}{
	{"aborted", ErrAborted},
	{"no-space", ErrNoSpace},
	{"missing", ErrMissing},
	{"migration", ErrMigration},
	{"refused", ErrRefused},
	{"regression", ErrRegression},
	{"gate", ErrGate},
	{"damaged", ErrDamaged},
	{"bad-input", ErrBadInput},
	{"busy", ErrBusy},
	{"fenced", ErrFenced},
	{"build", ErrBuild},
	{"cannot-start", ErrCannotStart},
	{"unhealthy", ErrUnhealthy},
	{"unsupported", ErrUnsupported},
	{"unavailable", ErrUnavailable},
	{"unknown", ErrUnknown},
	{"not-found", ErrNotFound},
}

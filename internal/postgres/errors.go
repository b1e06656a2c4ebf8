package postgres

import "errors"

// Sentinels to decide by. HintOf says what a person can do.
var (
	ErrNotInstalled = errors.New("PostgreSQL is not installed")
	ErrNoUser       = errors.New("there is no user that PostgreSQL can run as")
	ErrFolder       = errors.New("the folder cannot hold a cluster")
	ErrOwner        = errors.New("the cluster belongs to another user")
	ErrNotMade      = errors.New("no cluster was made here")
	ErrVersion      = errors.New("the cluster was made by another major version of PostgreSQL")
	ErrPortTaken    = errors.New("the port is taken")
	ErrNotRunning   = errors.New("the cluster does not run")
	ErrRunning      = errors.New("the cluster runs already")
	ErrNotReady     = errors.New("the cluster does not take connections yet") // it starts, recovers or stops: ask again
	ErrName         = errors.New("the name cannot be used for a database")
	ErrEnded        = errors.New("PostgreSQL ended")
)

// hinted is an error with what a person can do about it.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// HintOf returns what a person can do about err, or "".
func HintOf(err error) string {
	if h, ok := errors.AsType[*hinted](err); ok {
		return h.hint
	}
	return ""
}

package postgres

import (
	"errors"
	"strings"
)

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
	ErrAddress      = errors.New("the address of the database cannot be used")
	ErrEntry        = errors.New("the database cannot be entered")
	ErrUnreachable  = errors.New("the database cannot be reached") // now; it may be later
)

// hinted is an error with what a person can do about it.
type hinted struct {
	error
	hint string
}

func (h *hinted) Unwrap() error { return h.error }

// Hint is for rooms above, which look for hints without knowing us.
func (h *hinted) Hint() string { return h.hint }

// HintOf returns what a person can do about err, or "".
func HintOf(err error) string {
	if h, ok := errors.AsType[*hinted](err); ok {
		return h.hint
	}
	return ""
}

// DiskFull reports whether PostgreSQL's output speaks of a full disk: the kernel's words, or the hint beside a write that was cut short.
func DiskFull(output string) bool {
	return strings.Contains(output, "No space left on device") || strings.Contains(output, "Check free disk space")
}

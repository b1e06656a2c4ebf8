package proxy

import "errors"

// Sentinels to decide by; they cross the control socket.
var (
	ErrFenced    = errors.New("somebody newer steers this site")    // an old fencing number; nothing was changed
	ErrInvalid   = errors.New("this table cannot be served")        // nothing was changed
	ErrHostTaken = errors.New("another site answers for this host") // nothing was changed
	ErrUnknown   = errors.New("the proxy knows no such site")       // Get only: Remove and Drain of the unknown are fine
	ErrServing   = errors.New("this release still has a share")     // Drain: shift first
	ErrDamaged   = errors.New("the proxy's state cannot be read")   // both copies on disk are damaged
	ErrNewer     = errors.New("the proxy's state is of a newer version")
	ErrNoProxy   = errors.New("no proxy answers on its control socket") // dial refused or no such socket

	// ErrNoSuccession is for Succeed: end the proxy, then start another.
	ErrNoSuccession = errors.New("the proxy is of a version that cannot be succeeded")

	errMoved = errors.New("a successor steers by now") // Client asks again, there
)

package deploy

import (
	"context"
	"encoding/json"
	"time"
)

// Ledger is the append-only record of everything that happened, and the book of leases. It is safe for concurrent use; what
// was appended when a call returned survives a crash of the process and of the machine.
type Ledger interface {
	// Append adds an event and returns it with Seq, At and Hash set.
	Append(ctx context.Context, e Event) (Event, error)

	// Events returns the selected events in the order of Seq.
	Events(ctx context.Context, q EventQuery) ([]Event, error)

	// Wait returns the seq of the newest event as soon as that is greater than seq, or ctx's error.
	Wait(ctx context.Context, seq int64) (newest int64, err error)

	// Acquire gives owner the lease of a stage for ttl with a fence greater than any before. A lease that somebody else
	// holds is ErrBusy; the holder gets its own lease again, with the same fence. An owner that takeOver says is gone (a
	// controller before this one) loses the lease at once.
	Acquire(ctx context.Context, stage StageRef, owner string, ttl time.Duration, takeOver func(owner string) bool) (Lease, error)

	// Renew prolongs a lease to ttl from now. ErrFenced when somebody else took it.
	Renew(ctx context.Context, l Lease, ttl time.Duration) error

	// Release gives a lease back. Giving it back twice is fine.
	Release(ctx context.Context, l Lease) error

	// Person returns the opaque id of a person, always the same for the same mail address while the person is known. Name
	// and address stay in a table beside the events from which Forget erases them.
	Person(ctx context.Context, name, mail string) (string, error)
}

// StageRef names a stage of an app.
type StageRef struct {
	App   string `json:"app"`
	Stage string `json:"stage"`
}

func (r StageRef) String() string { return r.App + "/" + r.Stage }

// Lease is the right to change one stage.
type Lease struct {
	Stage StageRef
	Owner string // rollout id, and the controller that runs it
	Fence Fence
	Until time.Time
}

// Event is one line of the ledger. It holds no name, address or secret: people are opaque ids.
type Event struct {
	Seq     int64           `json:"seq"`
	At      time.Time       `json:"at"` // wall clock, UTC; order is by Seq, since clocks jump
	Kind    string          `json:"kind"`
	App     string          `json:"app,omitempty"`
	Stage   string          `json:"stage,omitempty"`
	Rollout string          `json:"rollout,omitempty"`
	Release Digest          `json:"release,omitempty"`
	Actor   string          `json:"actor,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`
	Hash    string          `json:"hash"` // SHA-256 over the hash before and every field above, in hexadecimal
}

// EventQuery selects events. Empty fields select everything.
type EventQuery struct {
	After   int64
	App     string
	Stage   string
	Rollout string
	Kinds   []string
	Last    int // only the last so many, still in order
}

// Package process knows how a tree of processes is started, kept, masked, rotated, limited, adopted and ended.
//
// There are two ways to run something:
//
//   - Keepers.Start gives it a keeper: a tiny parent of its own, in its own session, that outlives whoever started it. The
//     keeper reads the output through a FIFO, masks it, writes it into rotated files, starts the process again when it ends and
//     holds its listening sockets. Everything that is known about it stands in one directory, which is its name.
//   - Run runs one command in the foreground and ends its whole tree with it.
//
// # Who may die, and what then
//
//	the caller     nothing happens; Start with the same directory finds what runs
//	the process    the keeper starts it again, at once the first time, then with back-off
//	the keeper     the process goes on: it holds its own end of the FIFO (read-write, so that a write cannot fail) and its
//	               listeners. Start with the same directory starts a new keeper, which adopts the process
//	both           Start with the same directory starts both
//
// A process is known by its pid and its start time within one boot, so that a pid that was given to somebody else is never
// taken for ours. A keeper is known by a lock on a file in the directory, which the kernel frees when the keeper dies.
//
// # What is in the directory
//
//	lock         locked by the keeper for as long as it lives
//	door         locked by Start and Stop for as long as they work
//	state.json   what Inspect shows; written aside, renamed
//	stop         the order to stop, with its grace, written by Stop
//	out          the FIFO between the process and its keeper
//	log-000001…  the output, one line each: UTC time, a space, the text
//	keeper.log   what a keeper says when it dies of a fault of its own
//
// A Spec is never written there: it holds secrets. It goes to the keeper through a pipe.
//
// This package runs on Linux only (5.11 or newer: pidfd, close_range).
package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/lotse-eu/lotse/internal/secret"
)

// What can go wrong. The text around a sentinel says which process it was and what the system answered.
var (
	// ErrCannotStart: the program is not there, may not be run by this user, or its directory may not be entered.
	ErrCannotStart = errors.New("the process cannot be started")
	// ErrListen: an address of Spec.Listen cannot be had: it is taken, or this user may not have it.
	ErrListen = errors.New("the address cannot be listened on")
	// ErrKept: another keeper lives in this directory.
	ErrKept = errors.New("another keeper is alive")
	// ErrKeeper: the keeper itself could not be started, or died of a fault of its own.
	ErrKeeper = errors.New("the keeper failed")
	// ErrUnknown: nothing was ever started in this directory.
	ErrUnknown = errors.New("nothing was started here")
	// ErrReplace: the process that ran before goes on.
	ErrReplace = errors.New("the process was not replaced")
	// ErrBusy: the same call may succeed later.
	ErrBusy = errors.New("the process is being replaced")
	// ErrNotEnded: something of the tree was still alive after SIGKILL (a process that the kernel does not let go, such as
	// one that waits for a dead disk).
	ErrNotEnded = errors.New("the process did not end")
)

// Spec says what to run. The caller gives it whole each time; it is never written to disk, since Env may hold secrets.
type Spec struct {
	Name    string        // for messages and the cgroup; unique on this machine
	Command []string      // argv; a name without a slash is looked up in the PATH of Env
	Dir     string        // working directory
	Env     []string      // the whole environment; nothing is added but LISTEN_FDS, LISTEN_FDNAMES and a marker, LOTSE_TREE
	Mask    []secret.Text // values that never reach output; see NewMask for their forms

	// User is who it runs as; nil is the caller. Another user than the caller needs root.
	User   *User
	Limits Limits

	// Listen are addresses such as "tcp://127.0.0.1:443", opened and held by the keeper and passed as fd 3, 4, …; see
	// Inherited. They stay open, and queue connections, while the process is being restarted. Not for Run.
	Listen []string
	// Handover is the path of the unix socket on which the running process gives its listeners back to a new keeper; see
	// ShareListeners. Without it a new keeper opens the addresses afresh when it next starts the process.
	Handover string

	Restart bool          // start it again when it ends, whatever its exit code. Not for Run
	Grace   time.Duration // between SIGTERM and SIGKILL of the tree; zero is 10 s
	Log     LogPolicy     // not for Run
}

// User is a numeric user; no entry in passwd is needed. It gets no supplementary groups.
type User struct {
	UID uint32 `json:"uid"`
	GID uint32 `json:"gid"`
}

// Limits of one process tree. Zero is none. They hold where the cgroup v2 controllers are there: Status.Unlimited and Abilities
// say where not.
type Limits struct {
	MemoryBytes int64   `json:"memory_bytes,omitempty"`
	CPUs        float64 `json:"cpus,omitempty"` // 0.5 is half of one CPU's time
	PIDs        int     `json:"pids,omitempty"` // processes and threads
}

// LogPolicy says how much output is kept.
type LogPolicy struct {
	MaxBytes int64 `json:"max_bytes,omitempty"` // of one file; zero is 16 MiB
	Files    int   `json:"files,omitempty"`     // how many are kept, with the one being written; zero is 4
}

// Exit is how a process ended.
type Exit struct {
	Code    int       `json:"code"`              // what it returned; -1 when a signal ended it or when it is not known
	Signal  string    `json:"signal,omitempty"`  // "SIGKILL"; empty when it returned
	Unknown bool      `json:"unknown,omitempty"` // it was adopted or its keeper was dead, so that nobody was told
	At      time.Time `json:"at"`                // when it was seen
}

// OK reports whether it is known to have returned 0.
func (e Exit) OK() bool { return e.Code == 0 && e.Signal == "" && !e.Unknown }

// String says it in words: "exit code 1", "SIGKILL", "an unknown exit code".
func (e Exit) String() string {
	switch {
	case e.Unknown:
		return "an unknown exit code"
	case e.Signal != "":
		return e.Signal
	}
	return fmt.Sprintf("exit code %d", e.Code)
}

// Status is what is known about one directory.
type Status struct {
	Keeper  bool // a keeper is alive
	Process bool // the process is alive
	Ended   bool // it was stopped, ended without Restart, or could not be started: nobody will start it again by itself

	KeeperPID int       // of the last keeper
	PID       int       // of the process; zero when there is none
	Started   time.Time // of the process that runs, or ran last
	Restarts  int       // how often it was started again since it was first started or last stopped
	Adopted   bool      // this keeper did not start it, so that its exit code will be unknown
	LastExit  *Exit     // nil when it never ended
	Failure   string    // why it could not be started; empty otherwise
	Unlimited []string  // limits that were asked for and that this machine cannot hold: "memory", "cpu", "pids"
	Listening bool      // the keeper holds every listener of Spec.Listen
}

// Line is one line of output: masked, valid UTF-8, without colours and control characters, at most 64 KiB.
type Line struct {
	At   time.Time `json:"at"` // when the keeper read it
	Text string    `json:"text"`
}

// Ability is one thing that this machine can do or not.
type Ability struct {
	Name   string // "cgroup", "limit memory", …
	OK     bool
	Detail string // what is there, or what is missing and what happens without it
}

// Keepers starts and stops keepers. It holds no state: every method may be called by several goroutines and several
// processes at once, for one directory or many.
type Keepers struct {
	// Command is the argv that, with the directory added at its end, ends in Keep(ctx, dir, os.Stdin) in a fresh process:
	// {"/path/lotse", "keep"}. It must do nothing before it and is started with an environment that only tunes Go.
	Command []string
	Log     *slog.Logger // nil logs nothing
}

// Start makes the process of dir run and returns when it does. It is idempotent by dir: what runs there is left alone,
// whatever spec says; what lost its keeper gets a new one, with this spec; nothing is ever started twice. What was stopped or
// ended is started afresh. dir is created (0700) and belongs to the keeper from then on.
//
// It returns ErrCannotStart or ErrListen, with the reason, when a first start fails; nothing is left then. "Runs" means that
// the program was executed, not that it answers. After a cancel the process may or may not have been started; Stop settles it.
func (k *Keepers) Start(ctx context.Context, dir string, spec Spec) error {
	return k.start(ctx, dir, spec)
}

// Stop sends SIGTERM to the tree of the process, SIGKILL to what is left of it after grace, and returns when neither it nor
// its keeper is left. The log stays. It works as well when the keeper is dead, and is nil when nothing runs or ever ran. It
// returns ErrNotEnded when the kernel does not let go of something. A cancel leaves the stopping to the keeper.
func (k *Keepers) Stop(ctx context.Context, dir string, grace time.Duration) error {
	return k.stop(ctx, dir, grace)
}

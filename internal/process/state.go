package process

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The names in a directory; the package comment says what they are.
const (
	lockName   = "lock"
	doorName   = "door"
	stateName  = "state.json"
	stopName   = "stop"
	fifoName   = "out"
	keeperName = "keeper.log"
)

// phase is what a keeper is at.
//
//	starting ─► running ─► waiting (back-off) ─► running …
//	    │          └──────────┴───► stopping ─► ended
//	    └─► ended (with a failure)
type phase string

const (
	starting phase = "starting"
	running  phase = "running"
	waiting  phase = "waiting"
	stopping phase = "stopping"
	ended    phase = "ended"
)

// state is what stands in state.json. Only a keeper writes it, or Stop while it holds the keeper's lock.
type state struct {
	Phase     phase     `json:"phase"`
	Keeper    identity  `json:"keeper"`
	Process   identity  `json:"process"`
	Started   time.Time `json:"started,omitzero"`
	Restarts  int       `json:"restarts"`
	Adopted   bool      `json:"adopted,omitempty"`
	Last      *Exit     `json:"last_exit,omitempty"`
	Failure   string    `json:"failure,omitempty"`
	Kind      string    `json:"failure_kind,omitempty"` // of the sentinel: "start", "listen" or empty
	Cgroup    string    `json:"cgroup,omitempty"`
	Marker    string    `json:"marker"`
	Unlimited []string  `json:"unlimited,omitempty"`
	Listening bool      `json:"listening,omitempty"`

	Replaces    bool         `json:"replaces,omitempty"` // the keeper knows how
	Replacement *replacement `json:"replacement,omitempty"`
}

func readState(dir string) (state, error) {
	raw, err := os.ReadFile(filepath.Join(dir, stateName))
	if errors.Is(err, os.ErrNotExist) {
		return state{}, fmt.Errorf("%s: %w", dir, ErrUnknown)
	}
	if err != nil {
		return state{}, err
	}
	var s state
	if err := json.Unmarshal(raw, &s); err != nil {
		return state{}, fmt.Errorf("read %s: %w", filepath.Join(dir, stateName), err)
	}
	return s, nil
}

// save writes the state aside, syncs and renames it.
func (s *state) save(dir string) error {
	raw, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		return err
	}
	return writeAside(filepath.Join(dir, stateName), raw)
}

func writeAside(path string, data []byte) error {
	aside := path + ".new"
	f, err := os.OpenFile(aside, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(aside, path)
	}
	if err != nil {
		os.Remove(aside)
	}
	return err
}

// tree is what the state knows of the process and its descendants.
func (s *state) tree() tree {
	return tree{cgroup: s.Cgroup, marker: s.Marker, root: s.Process}
}

// err is the failure as an error, or nil.
func (s *state) err() error {
	switch {
	case s.Failure == "":
		return nil
	case s.Kind == "start":
		return told{s.Failure, ErrCannotStart}
	case s.Kind == "listen":
		return told{s.Failure, ErrListen}
	}
	return told{s.Failure, ErrKeeper}
}

// told is an error that another process has told us: its text and its kind.
type told struct {
	text string
	kind error
}

func (t told) Error() string { return t.text }
func (t told) Unwrap() error { return t.kind }

func kindOf(err error) string {
	switch {
	case errors.Is(err, ErrCannotStart):
		return "start"
	case errors.Is(err, ErrListen):
		return "listen"
	}
	return ""
}

// Inspect reads what is known about dir. It changes nothing and needs no keeper. ErrUnknown when nothing was started there.
func Inspect(dir string) (Status, error) {
	s, err := readState(dir)
	if err != nil {
		return Status{}, err
	}
	kept, err := locked(filepath.Join(dir, lockName))
	if err != nil {
		return Status{}, err
	}
	status := Status{
		Keeper: kept, Process: s.Process.alive(),
		Ended:     s.Phase == ended,
		KeeperPID: s.Keeper.PID, PID: s.Process.PID, Started: s.Started, Restarts: s.Restarts, Adopted: s.Adopted,
		LastExit: s.Last, Failure: s.Failure, Unlimited: s.Unlimited, Listening: s.Listening && kept,
	}
	return status, nil
}

// lockFile takes a lock that the kernel frees when this process closes the file or dies. It is an open file description lock
// (fcntl(2)): other than flock(2) it can be asked about without being taken. It returns ErrKept when somebody else has it.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: unix.F_WRLCK})
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return nil, ErrKept
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}

// lockWithin takes the lock as soon as it is free.
func lockWithin(ctx context.Context, path string) (*os.File, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		f, err := lockFile(path)
		if !errors.Is(err, ErrKept) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// locked reports whether somebody holds the lock.
func locked(path string) (bool, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	asked := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &asked); err != nil {
		return false, fmt.Errorf("ask for the lock %s: %w", path, err)
	}
	return asked.Type != unix.F_UNLCK, nil
}

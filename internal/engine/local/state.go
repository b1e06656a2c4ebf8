package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// stage is stage.json.
type stage struct {
	Format int            `json:"format"` // 1
	Fence  deploy.Fence   `json:"fence"`
	Hosts  []string       `json:"hosts,omitempty"`  // as last given to the proxy: they answer 503 while nothing is up
	Shares map[string]int `json:"shares,omitempty"` // as last given to the proxy
	Last   string         `json:"last,omitempty"`   // who had traffic before those who have it now
	Lock   *lock          `json:"lock,omitempty"`   // of the password that was given last; nil: none ever was
	Given  string         `json:"given,omitempty"`  // verifier of the lock that the proxy was last given; empty: the site is open
}

// phase is where a rollout stands.
type phase string

// A rollout that is found starting or stopping while nobody holds its lock was left by a process that died.
const (
	starting phase = "starting"
	up       phase = "up"
	stopping phase = "stopping"
)

// note is rollouts/<rollout>.json. It holds no setting.
type note struct {
	Format   int              `json:"format"` // 1
	Rollout  string           `json:"rollout"`
	Release  deploy.Digest    `json:"release"`
	Source   deploy.Digest    `json:"source,omitempty"` // the release that it was made of for this stage; a note of before has none
	Phase    phase            `json:"phase"`
	Since    time.Time        `json:"since"`
	Services []deploy.Service `json:"services"`
	Ports    map[string][]int `json:"ports,omitempty"` // by service, one for each instance; none for workers

	Host      string            `json:"host"`                // real host name of the stage when it was started
	Redirects map[string]string `json:"redirects,omitempty"` // hosts that are sent there
	Private   bool              `json:"private,omitempty"`   // the stage was private when it was started
	OldFiles  time.Duration     `json:"oldFiles,omitempty"`  // how long its files stay after its end
	Drain     time.Duration     `json:"drain,omitempty"`     // what the end of the whole proxy gives requests; 0: its default
}

const format = 1

// label is what people know the release by.
func (n *note) label() string {
	if n.Source != "" {
		return n.Source.Short()
	}
	return n.Release.Short()
}

func (e *Engine) notePath(rollout string) string {
	return e.at("rollouts", url.PathEscape(rollout)+".json")
}

// readNote returns nil when the stage does not have the rollout.
func (e *Engine) readNote(rollout string) (*note, error) {
	var n note
	err := readJSON(e.notePath(rollout), &n)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && n.Format != format {
		err = fmt.Errorf("%w: the note of %s has format %d, which is of a newer version of Lotse", deploy.ErrUnsupported, rollout, n.Format)
	}
	return &n, err
}

// known is readNote for verbs to which an unknown rollout is an error.
func (e *Engine) known(rollout string) (*note, error) {
	n, err := e.readNote(rollout)
	if err == nil && n == nil {
		err = fmt.Errorf("%w: %s", deploy.ErrUnknown, rollout)
	}
	return n, err
}

func (e *Engine) writeNote(n *note) error { return writeJSON(e.notePath(n.Rollout), n) }

// notes returns all rollouts, sorted by id.
func (e *Engine) notes() ([]*note, error) {
	entries, err := os.ReadDir(e.at("rollouts"))
	if err != nil {
		return nil, err
	}
	var all []*note
	for _, entry := range entries {
		rollout, ok := strings.CutSuffix(entry.Name(), ".json")
		if !ok {
			continue // what was being written when somebody died
		}
		n, err := e.readNote(rollout)
		if err != nil {
			return nil, err
		}
		if n != nil {
			all = append(all, n)
		}
	}
	return all, nil
}

func (e *Engine) readStage() (stage, error) {
	s := stage{Format: format}
	err := readJSON(e.at("stage.json"), &s)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err == nil && s.Format != format {
		err = fmt.Errorf("%w: stage.json has format %d, which is of a newer version of Lotse", deploy.ErrUnsupported, s.Format)
	}
	return s, err
}

// changeStage reads, changes and writes stage.json under its lock. Nothing is written when change fails.
func (e *Engine) changeStage(ctx context.Context, change func(*stage) error) error {
	unlock, err := e.lock(ctx, ".stage")
	if err != nil {
		return err
	}
	defer unlock()
	s, err := e.readStage()
	if err != nil {
		return err
	}
	if err := change(&s); err != nil {
		return err
	}
	return writeJSON(e.at("stage.json"), s)
}

// admit remembers a fence on disk before anything is done under it, or refuses an older one.
func (e *Engine) admit(ctx context.Context, fence deploy.Fence) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := e.readStage()
	if err == nil && fence == s.Fence {
		return nil
	}
	return e.changeStage(ctx, func(s *stage) error {
		if fence < s.Fence {
			return fmt.Errorf("%w: its fence is %d, this one is %d", deploy.ErrFenced, s.Fence, fence)
		}
		s.Fence = fence
		return nil
	})
}

// lock takes one of the stage's locks. The kernel frees it when this process dies.
func (e *Engine) lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(e.at("locks", name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// lockOf is the lock of a rollout. An id that no Start would take is nobody's, and must not lead out of the folder.
func lockOf(rollout string) string { return "r-" + url.PathEscape(rollout) }

func readJSON(path string, v any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%w: %s: %w", deploy.ErrDamaged, filepath.Base(path), err)
	}
	return nil
}

// writeJSON writes aside, syncs, renames, and syncs the folder, so that a crash of the machine leaves the old or the new file.
func writeJSON(path string, v any) error {
	raw, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".aside-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing is left of it after the rename
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

package snapshot

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// Config says where snapshots lie, and with which keys they are closed and opened.
type Config struct {
	Root   string  // absolute folder; made where there is none
	Bucket *Bucket // instead of Root

	Recipients []string // "age1…": who can open what is taken from now on; needed to take

	// Keys returns the text of an age identity file, with which snapshots are proven and restored. It is asked each time. Nil: they are
	// taken and listed, no more.
	Keys func() (secret.Text, error)

	// Scratch is an absolute folder for what is thrown away: clusters, and for a moment dumps. It needs room for a whole database, must
	// be open to the user that PostgreSQL runs as, and its path short: 60 bytes or so, for unix sockets.
	Scratch string

	Clock func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: nothing is logged
}

// Store implements deploy.Snapshots. It is safe for concurrent use, also by several processes.
type Store struct {
	c          Config
	place      place
	recipients []age.Recipient

	mu    sync.Mutex
	inUse map[string]int // snapshots that are being read, by path

	at func(point string) error // for tests: something goes wrong here
}

var _ deploy.Snapshots = (*Store)(nil)

// Open looks at the configuration and touches nothing. deploy.ErrBadInput says what is wrong with it.
func Open(c Config) (*Store, error) {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{c: c, inUse: map[string]int{}, at: func(string) error { return nil }}
	for _, text := range c.Recipients {
		r, err := age.ParseX25519Recipient(strings.TrimSpace(text))
		if err != nil {
			return nil, deploy.Hint(fmt.Errorf("%w: a recipient of snapshots is not a public key of age", deploy.ErrBadInput), "it begins with age1; `age-keygen` makes one")
		}
		s.recipients = append(s.recipients, r)
	}
	if c.Scratch != "" && !filepath.IsAbs(c.Scratch) {
		return nil, fmt.Errorf("%w: the folder for scratch clusters must be an absolute path", deploy.ErrBadInput)
	}
	switch {
	case c.Bucket != nil:
		bucket, err := c.Bucket.open(c.Clock, c.Log)
		s.place = bucket
		return s, err
	case !filepath.IsAbs(c.Root):
		return nil, fmt.Errorf("%w: the folder of snapshots must be an absolute path", deploy.ErrBadInput)
	}
	s.place = folder{filepath.Clean(c.Root)}
	return s, nil
}

// Names in the folder of a snapshot.
const (
	manifestName = "manifest.json"
	proofName    = "proof.json"
	databaseName = "database.dump.zst.age"
	volumesDir   = "volumes"
	volumeSuffix = ".tar.zst.age"
)

// patience is how long something that ends is waited for after a cancel.
const patience = 5 * time.Second

var (
	validName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	validID   = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,39}$`)
)

// dir is the folder of a stage.
func dir(stage deploy.StageRef) (string, error) {
	if !validName.MatchString(stage.App) || !validName.MatchString(stage.Stage) {
		return "", fmt.Errorf("%w: %q names no stage", deploy.ErrBadInput, stage)
	}
	return path.Join(stage.App, stage.Stage), nil
}

// find returns the folder of a snapshot.
func find(stage deploy.StageRef, id string) (string, error) {
	of, err := dir(stage)
	if err != nil {
		return "", err
	}
	if !validID.MatchString(id) {
		return "", fmt.Errorf("%w: %.40q is not the id of a snapshot", deploy.ErrBadInput, id)
	}
	return path.Join(of, id), nil
}

// List implements deploy.Snapshots.
func (s *Store) List(ctx context.Context, stage deploy.StageRef) ([]deploy.Snapshot, error) {
	of, err := dir(stage)
	if err != nil {
		return nil, err
	}
	files, err := s.place.list(ctx, of)
	if err != nil {
		return nil, fmt.Errorf("list the snapshots of %s: %w", stage, err)
	}
	all := []deploy.Snapshot{}
	for _, id := range foldersIn(files, of) {
		if _, whole := files[path.Join(of, id, manifestName)]; !whole || !validID.MatchString(id) {
			continue
		}
		one, err := s.look(ctx, stage, id, files)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it went while we looked
		}
		if err != nil {
			return nil, fmt.Errorf("look at the snapshot %s of %s: %w", id, stage, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// look reads what can be seen of one snapshot without restoring it.
func (s *Store) look(ctx context.Context, stage deploy.StageRef, id string, files map[string]int64) (deploy.Snapshot, error) {
	of, err := find(stage, id)
	if err != nil {
		return deploy.Snapshot{}, err
	}
	text, err := s.read(ctx, path.Join(of, manifestName))
	if err != nil {
		return deploy.Snapshot{}, err
	}
	m, damaged := readManifest(text, id)
	if damaged != "" {
		return deploy.Snapshot{ID: id, Stage: stage, Where: s.place.where(of), Damaged: damaged}, nil
	}
	one := m.snapshot(s.place.where(of))
	one.Damaged = s.visible(m, of, files)
	if proof, err := s.read(ctx, path.Join(of, proofName)); err == nil {
		one.Proof = &deploy.Proof{}
		if json.Unmarshal(proof, one.Proof) != nil {
			one.Proof = nil // as if there had been none: the next drill writes another
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return one, err
	}
	return one, nil
}

// readManifest says in words why a manifest cannot be used.
func readManifest(text []byte, id string) (m manifest, damaged string) {
	m, err := parseManifest(text, id)
	if err != nil {
		return m, err.Error()
	}
	return m, ""
}

// visible says what is wrong with the parts as they lie there.
func (s *Store) visible(m manifest, of string, files map[string]int64) string {
	for _, p := range m.Parts {
		switch size, there := files[path.Join(of, p.Name)]; {
		case !there:
			return p.Name + " is missing"
		case size != p.Size:
			return fmt.Sprintf("%s has %d bytes, %d were written", p.Name, size, p.Size)
		}
	}
	keys, err := s.keys()
	if err != nil || keys == nil {
		return ""
	}
	if _, err := m.details(keys); errors.Is(err, deploy.ErrDamaged) {
		return err.Error()
	}
	return ""
}

// maxSmall bounds what is read whole, in bytes: manifests and proofs.
const maxSmall = 256 << 20

func (s *Store) read(ctx context.Context, name string) ([]byte, error) {
	r, err := s.place.open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, maxSmall))
}

func (s *Store) write(ctx context.Context, name string, text []byte) error {
	return s.place.write(ctx, name, func(w io.Writer) error { _, err := w.Write(text); return err })
}

// load reads a snapshot that is to be restored, and keeps it from being pruned by this process until done is called.
func (s *Store) load(ctx context.Context, stage deploy.StageRef, id string) (l loaded, done func(), err error) {
	of, err := find(stage, id)
	if err != nil {
		return l, nil, err
	}
	done = s.use(of)
	if l, err = s.open(ctx, stage, id, of); err != nil {
		done()
		return l, nil, err
	}
	return l, done, nil
}

func (s *Store) open(ctx context.Context, stage deploy.StageRef, id, of string) (l loaded, err error) {
	l.dir = of
	text, err := s.read(ctx, path.Join(of, manifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return l, deploy.Hint(fmt.Errorf("%w: there is no snapshot %s of %s", deploy.ErrNotFound, id, stage), "list them to see which there are")
	}
	if err != nil {
		return l, err
	}
	if l.manifest, err = parseManifest(text, id); err != nil {
		return l, err
	}
	l.keys, err = s.keys()
	if err == nil && l.keys == nil {
		err = deploy.Hint(fmt.Errorf("%w: there is no key to open snapshots with", deploy.ErrMissing), "give the age key that belongs to the recipients")
	}
	if err != nil {
		return l, err
	}
	l.details, err = l.manifest.details(l.keys)
	return l, err
}

// loaded is a snapshot that is being read.
type loaded struct {
	dir      string
	manifest manifest
	details  details
	keys     []age.Identity
}

// keys are the identities that snapshots are opened with; nil where none were given.
func (s *Store) keys() ([]age.Identity, error) {
	if s.c.Keys == nil {
		return nil, nil
	}
	text, err := s.c.Keys()
	if err != nil {
		return nil, fmt.Errorf("read the key of snapshots: %w", err)
	}
	keys, err := age.ParseIdentities(bytes.NewReader([]byte(text.Reveal())))
	if err != nil { // it would repeat the line
		return nil, deploy.Hint(fmt.Errorf("%w: the key of snapshots is not one of age", deploy.ErrBadInput), "it begins with AGE-SECRET-KEY-1")
	}
	return keys, nil
}

func (s *Store) use(of string) (done func()) {
	s.mu.Lock()
	s.inUse[of]++
	s.mu.Unlock()
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.inUse[of]--; s.inUse[of] == 0 {
			delete(s.inUse, of)
		}
	})
}

func (s *Store) used(of string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inUse[of] > 0
}

// underLock does something to the snapshots of a stage while nobody else does, after what a crash left was taken away.
func (s *Store) underLock(ctx context.Context, stage deploy.StageRef, do func(ctx context.Context, of string) error) error {
	of, err := dir(stage)
	if err != nil {
		return err
	}
	held, unlock, err := s.place.lock(ctx, of, true)
	if err != nil {
		return fmt.Errorf("wait for the snapshots of %s: %w", stage, err)
	}
	defer unlock()
	if err := s.tidy(held, of); err != nil {
		return err
	}
	return do(held, of)
}

// tidy takes away what has no manifest. The caller holds the lock.
func (s *Store) tidy(ctx context.Context, of string) error {
	files, err := s.place.list(ctx, of)
	if err != nil {
		return err
	}
	for _, id := range foldersIn(files, of) {
		if _, whole := files[path.Join(of, id, manifestName)]; whole {
			continue
		}
		if err := s.place.remove(ctx, path.Join(of, id), manifestName); err != nil {
			return fmt.Errorf("take away the half-made snapshot %s: %w", id, err)
		}
		s.c.Log.Warn("took away a half-made snapshot", "id", id, "stage", of)
	}
	return nil
}

// tidyUnlessBusy is tidy where nobody is at work; who is there has tidied.
func (s *Store) tidyUnlessBusy(ctx context.Context, stage deploy.StageRef) error {
	of, err := dir(stage)
	if err != nil {
		return err
	}
	held, unlock, err := s.place.lock(ctx, of, false)
	if errors.Is(err, errLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unlock()
	return s.tidy(held, of)
}

// Sweep ends scratch clusters that a killed process left running, and removes their folders. Take, Prove and Restore do so too; call it
// when a controller starts. Nil where there are none.
func (s *Store) Sweep(ctx context.Context) error { return s.sweep(ctx) }

// Prune implements deploy.Snapshots.
func (s *Store) Prune(ctx context.Context, stage deploy.StageRef, keep deploy.Keep) (gone []deploy.Snapshot, err error) {
	err = s.underLock(ctx, stage, func(ctx context.Context, of string) error {
		all, err := s.List(ctx, stage)
		if err != nil {
			return err
		}
		for _, one := range keep.Gone(all, s.c.Clock()) {
			if s.used(path.Join(of, one.ID)) {
				continue
			}
			if err := s.place.remove(ctx, path.Join(of, one.ID), manifestName); err != nil {
				return fmt.Errorf("take the snapshot %s away: %w", one.ID, err)
			}
			gone = append(gone, one)
		}
		return nil
	})
	return gone, err
}

// latest is the newest id of a stage.
func latest(files map[string]int64, of string) string {
	ids := foldersIn(files, of)
	ids = slices.DeleteFunc(ids, func(id string) bool { return !validID.MatchString(id) })
	if len(ids) == 0 {
		return ""
	}
	return slices.Max(ids)
}

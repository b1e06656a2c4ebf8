// Package ledger keeps history: it implements deploy.Ledger on one SQLite file.
//
// # What lies on disk
//
//	ledger.db        events, leases, people, places (SQLite, write-ahead log beside it while it is open)
//	ledger.db.head   the seq and hash of the last event, so that a file that lost its end, or an older copy, is noticed
//	ledger.db.lock   held by the one process that writes
//
// # The chain
//
// Events are never changed. Each carries a hash over the one before it, so that nobody can change, remove, insert or reorder
// events without all later hashes being different. An auditor can check it from the JSON of the events alone:
//
//	hash(0) = 32 zero bytes
//	hash(n) = SHA-256( hash(n-1) ‖ f("lotse ledger 1") ‖ f(seq) ‖ f(at) ‖ f(kind) ‖ f(app) ‖ f(stage) ‖ f(rollout)
//	                   ‖ f(release) ‖ f(actor) ‖ f(data) )
//	f(x)    = the length of x in bytes as 8 bytes, big-endian ‖ the bytes of x
//
// seq is in decimal, beginning with 1, without gaps. All others are the bytes of the JSON strings' values (at: RFC 3339 in UTC
// with as many digits of a second as needed, as encoding/json prints a time.Time); data is the JSON value as it is printed,
// without white space, with <, >, & and U+2028, U+2029 escaped. A field that is not there is empty. Hashes are shown in
// lower-case hexadecimal. TestGoldenChain holds an example.
//
// The chain has no key: who can write the file can write another chain. Whoever wants to notice that keeps Head somewhere else.
// Leases and people are not part of the chain; people must be, and are, erasable.
package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

var (
	_ deploy.Ledger = (*Ledger)(nil)
	_ deploy.Places = (*Ledger)(nil)
)

// Config is what a ledger is handed from outside. The zero value works.
type Config struct {
	Now func() time.Time // default time.Now
	Log *slog.Logger     // default: nothing is logged

	// PersonID makes the id of a person that is not known yet from the folded address or name ("mail:ada@example.org"), where several ledgers
	// are to give the same one. Default, and where it returns "": a random id.
	PersonID func(mailbox string) string
}

// Ledger is a deploy.Ledger on a file. It is safe for concurrent use. A call whose context ends before it began to write
// changes nothing; one that began to write is finished whatever its context does, so that an error never hides a success.
type Ledger struct {
	path   string
	now    func() time.Time
	log    *slog.Logger
	person func(mailbox string) string // nil: ids are random
	reader *sql.DB                     // many connections, read only
	writer *sql.DB                     // one connection; nil in a ledger that is open for reading only
	turn   chan struct{}
	lock   *os.File
	note   *os.File

	mu      sync.Mutex
	last    int64         // seq of the newest event
	changed chan struct{} // closed and replaced when last grows
	closed  bool
}

// Open opens the ledger at path for writing, or makes it where there is none. One process at a time may write; a second one gets
// an error that wraps deploy.ErrUnavailable. A file that is damaged (deploy.ErrDamaged), no ledger, or of a newer version
// (deploy.ErrBadInput) is refused and left as it is. The caller calls Close.
func Open(ctx context.Context, path string, cfg Config) (*Ledger, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	l := newLedger(path, cfg)
	if err := l.open(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// OpenReadOnly opens the ledger at path for reading, beside a process that writes or without one, also when it is damaged:
// what can be read is read. Nothing on disk is changed. Calls that would change something are deploy.ErrUnsupported.
func OpenReadOnly(ctx context.Context, path string, cfg Config) (*Ledger, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	l := newLedger(path, cfg)
	l.turn = nil
	if l.reader, err = readable(ctx, path); err != nil {
		return nil, err
	}
	return l, nil
}

func newLedger(path string, cfg Config) *Ledger {
	l := &Ledger{path: path, now: cfg.Now, log: cfg.Log, person: cfg.PersonID, turn: make(chan struct{}, 1), changed: make(chan struct{})}
	if l.now == nil {
		l.now = time.Now
	}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	return l
}

// open does what Open says. What it opened before an error is closed by Close.
func (l *Ledger) open(ctx context.Context) (err error) {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return err
	}
	if l.lock, err = takeLock(l.path); err != nil {
		return err
	}
	if err := l.createIfMissing(ctx); err != nil {
		return err
	}
	// Looked at first, then opened for writing: a file that is refused is left as it is.
	if l.reader, err = readable(ctx, l.path); err != nil {
		return err
	}
	if l.writer, err = connect(l.path, "rw", 1, "journal_mode(WAL)"); err != nil {
		return err
	}
	if err := translate(l.path, l.upgrade(ctx)); err != nil {
		return err
	}
	return l.checkHead(ctx)
}

// createIfMissing makes the database aside and renames it, so that an empty or half-made file is never one of ours and is
// never taken for a new ledger.
func (l *Ledger) createIfMissing(ctx context.Context) error {
	if _, err := os.Stat(l.path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, rest := range []string{l.path + "-wal", notePath(l.path)} {
		if _, err := os.Stat(rest); err == nil {
			return damagedFile(l.path, fmt.Errorf("the file is gone, but %s is still there", filepath.Base(rest)))
		}
	}
	aside := l.path + ".new"
	for _, leftover := range []string{aside, aside + "-wal", aside + "-shm"} {
		if err := os.Remove(leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := create(ctx, aside); err != nil {
		return translate(l.path, err)
	}
	if err := os.Rename(aside, l.path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(l.path))
}

func create(ctx context.Context, path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	db, err := connect(path, "rw", 1, "journal_mode(WAL)")
	if err != nil {
		return err
	}
	return errors.Join(buildSchema(ctx, db, 0), db.Close())
}

// Close ends all waiting calls and closes the files. Closing twice is fine.
func (l *Ledger) Close() error {
	l.mu.Lock()
	wasClosed := l.closed
	l.closed = true
	if !wasClosed {
		close(l.changed)
	}
	l.mu.Unlock()
	if wasClosed {
		return nil
	}
	var errs []error
	for _, db := range []*sql.DB{l.reader, l.writer} {
		if db != nil {
			errs = append(errs, db.Close())
		}
	}
	for _, f := range []*os.File{l.note, l.lock} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// write runs change in a transaction that is on disk when write returns nil. Writers take turns.
func (l *Ledger) write(ctx context.Context, change func(ctx context.Context, tx *sql.Tx) error) error {
	if l.turn == nil {
		return fmt.Errorf("ledger %s is open for reading only: %w", l.path, deploy.ErrUnsupported)
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if l.isClosed() {
		return l.closedError()
	}
	ctx = context.WithoutCancel(ctx)
	tx, err := l.writer.BeginTx(ctx, nil)
	if err != nil {
		return translate(l.path, err)
	}
	if err := change(ctx, tx); err != nil {
		return errors.Join(translate(l.path, err), ignoreDone(tx.Rollback()))
	}
	return translate(l.path, tx.Commit())
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

func (l *Ledger) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

func (l *Ledger) closedError() error {
	return fmt.Errorf("ledger %s is closed: %w", l.path, deploy.ErrUnavailable)
}

// connect makes a pool of connections. Nothing is opened before the first use.
func connect(path, mode string, connections int, pragmas ...string) (*sql.DB, error) {
	query := url.Values{"mode": {mode}, "_txlock": {"immediate"}}
	query["_pragma"] = append([]string{"busy_timeout(2000)", "synchronous(FULL)", "secure_delete(ON)", "trusted_schema(OFF)"}, pragmas...)
	if mode == "ro" {
		query.Set("_txlock", "deferred")
	}
	return openDSN(path, query, connections)
}

func openDSN(path string, query url.Values, connections int) (*sql.DB, error) {
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(connections)
	db.SetMaxIdleConns(connections)
	return db, nil
}

// readable opens the database for reading. SQLite cannot read a database with a write-ahead log where it may not make the
// shared-memory file; if no log is left over there, nothing can change below us and the file is read as it is.
func readable(ctx context.Context, path string) (*sql.DB, error) {
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("ledger %s: %w", path, deploy.ErrNotFound)
	case err != nil:
		return nil, fmt.Errorf("ledger: %w", err)
	case info.Size() == 0: // SQLite would take it for a new database
		return nil, damagedFile(path, errors.New("the file is empty"))
	}
	db, err := connect(path, "ro", 4)
	if err != nil {
		return nil, err
	}
	_, err = versionOf(ctx, db)
	if err == nil {
		return db, nil
	}
	if _, missing := os.Stat(path + "-wal"); cannotOpen(err) && errors.Is(missing, fs.ErrNotExist) {
		return openDSN(path, url.Values{"mode": {"ro"}, "immutable": {"1"}}, 4)
	}
	return nil, errors.Join(translate(path, err), db.Close())
}

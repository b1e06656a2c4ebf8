package ledger

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// takeLock makes this process the one that writes. The lock ends with the process, however it ends.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		holder := make([]byte, 20)
		n, _ := f.ReadAt(holder, 0) // for the message only
		f.Close()
		return nil, deploy.Hint(fmt.Errorf("ledger %s is open in another process (%s): %w", path,
			strings.TrimSpace("pid "+string(holder[:n])), deploy.ErrUnavailable),
			"a controller runs already: use it, or stop it first; reading is possible beside it")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintln(os.Getpid()))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// The note beside the database is one line of fixed length: seq, hash. It is written after each event and not synced: it may
// be older than the database after the machine crashed, never newer.
type note struct {
	seq  int64
	hash string
}

func (n note) String() string { return fmt.Sprintf("%019d %s\n", n.seq, n.hash) }

func notePath(path string) string { return path + ".head" }

func (l *Ledger) writeNote(n note) {
	if err := writeAt(l.note, n.String()); err != nil {
		l.log.Warn("the note of the ledger's last event was not written", "seq", n.seq, "error", err)
	}
}

// readNote returns the zero note where there is none, or one that a crash left half-written: it is a second witness, not the
// record.
func readNote(path string) (n note, err error) {
	data, err := os.ReadFile(notePath(path))
	if errors.Is(err, fs.ErrNotExist) {
		return note{}, nil
	}
	if err != nil {
		return note{}, err
	}
	if _, err := fmt.Sscanf(string(data), "%d %s\n", &n.seq, &n.hash); err != nil || string(data) != n.String() {
		return note{}, nil //nolint:nilerr // half-written is none
	}
	return n, nil
}

// checkHead compares the last event with the notes of it, before anything is appended to it.
func (l *Ledger) checkHead(ctx context.Context) error {
	witness, err := readNote(l.path)
	if err != nil {
		return err
	}
	head, err := headOf(ctx, l.reader)
	if err == nil {
		err = checkTail(ctx, l.reader, head, witness)
	}
	if err != nil {
		return translate(l.path, err)
	}
	if l.note, err = os.OpenFile(notePath(l.path), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	l.last = head.seq
	l.writeNote(head)
	return l.note.Truncate(int64(len(head.String())))
}

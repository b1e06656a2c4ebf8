package share

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// KindOpened is the event by which a controller begins with the shared history; see the package comment.
const KindOpened = "controller.begun"

// Book is the ledger of this machine.
type Book interface {
	deploy.Ledger

	// Draft returns what Append would write now.
	Draft(ctx context.Context, e deploy.Event) (deploy.Event, error)

	// Import appends events as they are; deploy.ErrDamaged where they do not follow.
	Import(ctx context.Context, events []deploy.Event) error

	// Head is the number and the hash of the last event.
	Head(ctx context.Context) (seq int64, hash string, err error)
}

// Ledger is a ledger of this machine that has the shared history. It implements deploy.Ledger: an event is in the bucket before Append
// returns. Leases and names stay on this machine; since there is one controller at a time, nobody else needs the leases.
type Ledger struct {
	Book
	share *Share
	mu    sync.Mutex // one Append at a time
}

type openedData struct {
	Who   string `json:"who"`
	Owner string `json:"owner"`
}

// Ledger brings book and bucket to the same history, and makes this controller the one that goes on with it. A book that has another history
// than the bucket is deploy.ErrDamaged and left as it is. Nobody else may append to book from now on.
func (s *Share) Ledger(ctx context.Context, book Book) (*Ledger, error) {
	l := &Ledger{Book: book, share: s}
	for {
		if err := l.meet(ctx); err != nil {
			return nil, fmt.Errorf("sharing history in %s: %w", s.Bucket, err)
		}
		data, err := json.Marshal(openedData{s.Who, s.owner})
		if err != nil {
			return nil, err
		}
		_, err = l.append(ctx, deploy.Event{Kind: KindOpened, Data: data})
		if !errors.Is(err, errTaken) { // or the controller before was still writing: what it wrote is history
			return l, err
		}
	}
}

// errTaken: the bucket has another event of that number.
var errTaken = errors.New("the bucket has another event of that number")

// Append implements deploy.Ledger. It is done when the event is in the bucket, whatever becomes of ctx meanwhile; deploy.ErrFenced when it
// cannot be brought there while this controller has the lock: then this controller is over.
func (l *Ledger) Append(ctx context.Context, e deploy.Event) (deploy.Event, error) {
	written, err := l.append(ctx, e)
	if errors.Is(err, errTaken) {
		err = fmt.Errorf("%w: another controller goes on with the history in %s", deploy.ErrFenced, l.share.Bucket)
		l.share.lose(err)
	}
	return written, err
}

func (l *Ledger) append(ctx context.Context, e deploy.Event) (deploy.Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return deploy.Event{}, err
	}
	if err := l.share.relied(); err != nil {
		return deploy.Event{}, err
	}
	e, err := l.Draft(ctx, e)
	if err != nil {
		return deploy.Event{}, err
	}
	data, err := json.Marshal(e)
	if err != nil {
		return deploy.Event{}, err
	}
	if err := l.share.keep(eventKey(e.Seq), data); err != nil {
		return deploy.Event{}, err
	}
	if err := l.Import(context.WithoutCancel(ctx), []deploy.Event{e}); err != nil {
		l.share.lose(err) // the next one that opens takes it from the bucket
		return deploy.Event{}, err
	}
	return e, nil
}

// keep puts an event where there is none, and tries until it is known whether it is there, as long as the lock lasts.
func (s *Share) keep(key string, data []byte) error {
	for wait := s.Expiry / 600; ; wait = min(2*wait, s.Expiry/30) {
		err := s.tryKeep(key, data)
		if err == nil || errors.Is(err, errTaken) || errors.Is(err, deploy.ErrBadInput) {
			return err
		}
		s.Log.Warn("an event is not in the bucket yet, trying again", "key", key, "error", err)
		if pause(s.ctx, wait) != nil || !s.holds() {
			err = fmt.Errorf("%w: it is not known whether %s is in %s: %w", deploy.ErrFenced, key, s.Bucket, err)
			s.lose(err)
			return err
		}
	}
}

func (s *Share) tryKeep(key string, data []byte) error {
	ctx, cancel := context.WithTimeout(s.ctx, s.Expiry/3)
	defer cancel()
	_, err := s.put(ctx, key, data, condition{absent: true})
	if !errors.Is(err, errLost) {
		return err
	}
	there, err := s.get(ctx, key) // perhaps a try of ours whose answer was lost
	if err == nil && !bytes.Equal(there.data, data) {
		err = errTaken
	}
	return err
}

// Acquire implements deploy.Ledger.
func (l *Ledger) Acquire(ctx context.Context, stage deploy.StageRef, owner string, ttl time.Duration, takeOver func(owner string) bool) (deploy.Lease, error) {
	if err := l.share.relied(); err != nil {
		return deploy.Lease{}, err
	}
	return l.Book.Acquire(ctx, stage, owner, ttl, takeOver)
}

// Renew implements deploy.Ledger.
func (l *Ledger) Renew(ctx context.Context, lease deploy.Lease, ttl time.Duration) error {
	if err := l.share.relied(); err != nil {
		return err
	}
	return l.Book.Renew(ctx, lease, ttl)
}

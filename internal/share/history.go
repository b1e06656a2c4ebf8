package share

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/lotse-eu/lotse/internal/deploy"
)

const (
	eventsDir = prefix + "events/"
	packsDir  = prefix + "packs/"

	packSize = 500 // events in a pack
	parallel = 32  // calls at a time
)

func eventKey(seq int64) string { return fmt.Sprintf("%s%012d.json", eventsDir, seq) }

func packKey(first int64) string {
	return fmt.Sprintf("%s%012d-%012d.jsonl", packsDir, first, first+packSize-1)
}

// meet brings what the bucket has and this machine has not into the ledger, and the other way round.
func (l *Ledger) meet(ctx context.Context) error {
	seq, hash, err := l.Head(ctx)
	if err != nil {
		return err
	}
	if seq > 0 {
		switch theirs, err := l.share.event(ctx, seq); {
		case errors.Is(err, errAbsent):
			return l.bring(ctx, seq)
		case err != nil:
			return err
		case theirs.Hash != hash:
			return diverged(seq)
		}
	}
	if err := l.takePacks(ctx, seq); err != nil {
		return err
	}
	return l.takeEvents(ctx)
}

func diverged(seq int64) error {
	return deploy.Hint(fmt.Errorf("%w: the ledger of this machine and the bucket have different histories: event %d is not the same", deploy.ErrDamaged, seq),
		"nothing was changed. To go on with the shared history, move ledger.db and the files beside it out of the state folder, or name another with --state; "+
			"to keep this machine's, run `lotse serve` without --shared")
}

func damagedObject(key string, seq int64, cause any) error {
	return deploy.Hint(fmt.Errorf("%w: %s (event %d): %v", deploy.ErrDamaged, key, seq, cause), versionsHint)
}

const versionsHint = "nothing of it was taken over; the bucket keeps versions: put back the oldest one of that object, which is the one that was written"

// event reads one event; errAbsent for none.
func (s *Share) event(ctx context.Context, seq int64) (e deploy.Event, err error) {
	at, err := s.get(ctx, eventKey(seq))
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(at.data, &e); err != nil || e.Seq != seq {
		return e, damagedObject(eventKey(seq), seq, "it is not that event")
	}
	return e, nil
}

// bring puts what this machine has and the bucket has not into the bucket: a ledger that begins to be shared.
func (l *Ledger) bring(ctx context.Context, seq int64) error {
	there, err := l.share.list(ctx, eventsDir, "")
	if err != nil {
		return err
	}
	shared := int64(len(there))
	if shared > 0 {
		if there[shared-1].key != eventKey(shared) {
			return damagedObject(eventKey(seq), seq, "it is missing, and later ones are there")
		}
		theirs, err := l.share.event(ctx, shared)
		if err != nil {
			return err
		}
		ours, err := l.Events(ctx, deploy.EventQuery{After: shared - 1})
		if err != nil {
			return err
		}
		if len(ours) == 0 || ours[0].Hash != theirs.Hash {
			return diverged(shared)
		}
	}
	events, err := l.Events(ctx, deploy.EventQuery{After: shared})
	if err != nil {
		return err
	}
	l.share.Log.Info("the history of this machine begins to be shared", "events", len(events))
	for _, e := range events {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if err := l.share.relied(); err != nil {
			return err
		}
		if err := l.share.keep(eventKey(e.Seq), data); errors.Is(err, errTaken) {
			return diverged(e.Seq)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// takePacks takes events from packs, as far as there are good ones. Events that come in no pack are read one by one.
func (l *Ledger) takePacks(ctx context.Context, seq int64) error {
	packs, err := l.share.list(ctx, packsDir, fmt.Sprintf("%s%012d", packsDir, seq/packSize*packSize+1))
	if err != nil {
		return err
	}
	for some := range slices.Chunk(packs, parallel/2) {
		read := make([][]deploy.Event, len(some))
		group, within := errgroup.WithContext(ctx)
		for i, p := range some {
			group.Go(func() (err error) {
				read[i], err = l.share.packed(within, p.key, seq)
				return err
			})
		}
		err := group.Wait()
		if err == nil {
			err = l.Import(ctx, slices.Concat(read...))
		}
		if errors.Is(err, deploy.ErrDamaged) {
			l.share.Log.Warn("a pack of events cannot be used; the events are read one by one", "from", some[0].key, "error", err)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// packed are the events after seq in one pack.
func (s *Share) packed(ctx context.Context, key string, seq int64) (events []deploy.Event, err error) {
	at, err := s.get(ctx, key)
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(at.data) {
		var e deploy.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%w: %s cannot be read", deploy.ErrDamaged, key)
		}
		if e.Seq > seq {
			events = append(events, e)
		}
	}
	return events, nil
}

// takeEvents takes events one by one, and makes packs of them when there are many.
func (l *Ledger) takeEvents(ctx context.Context) error {
	seq, _, err := l.Head(ctx)
	if err != nil {
		return err
	}
	there, err := l.share.list(ctx, eventsDir, eventKey(seq))
	if err != nil {
		return err
	}
	for some := range slices.Chunk(there, packSize) {
		events, err := l.share.events(ctx, some, seq)
		if err == nil {
			err = l.Import(ctx, events)
		}
		if errors.Is(err, deploy.ErrDamaged) {
			return deploy.Hint(err, versionsHint)
		}
		if err != nil {
			return err
		}
		seq += int64(len(some))
	}
	if len(there) >= packSize {
		return l.pack(ctx)
	}
	return nil
}

// events reads what was listed, which are to be the events after seq.
func (s *Share) events(ctx context.Context, there []listed, seq int64) ([]deploy.Event, error) {
	events := make([]deploy.Event, len(there))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i, o := range there {
		want := seq + int64(i) + 1
		if o.key != eventKey(want) {
			return nil, damagedObject(eventKey(want), want, "it is missing, and later ones are there")
		}
		group.Go(func() (err error) {
			events[i], err = s.event(ctx, want)
			return err
		})
	}
	return events, group.Wait()
}

// pack makes packs of the events that fill some. One that is there already is the same.
func (l *Ledger) pack(ctx context.Context) error {
	packs, err := l.share.list(ctx, packsDir, "")
	if err != nil {
		return err
	}
	events, err := l.Events(ctx, deploy.EventQuery{After: int64(len(packs)) * packSize})
	if err != nil {
		return err
	}
	for some := range slices.Chunk(events, packSize) {
		if len(some) < packSize {
			break
		}
		var lines bytes.Buffer
		for _, e := range some {
			data, err := json.Marshal(e)
			if err != nil {
				return err
			}
			lines.Write(append(data, '\n'))
		}
		if _, err := l.share.put(ctx, packKey(some[0].Seq), lines.Bytes(), condition{absent: true}); err != nil && !errors.Is(err, errLost) {
			return err
		}
	}
	return nil
}

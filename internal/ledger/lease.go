package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// lease is a row of the book. Nobody holds it when owner is empty.
type lease struct {
	owner string
	fence int64
	until time.Time
}

// Acquire implements deploy.Ledger.
//
// Two who believe to hold a lease are kept apart by the fence, not by the clock: whoever is late is refused by the engine. The
// clock only decides how long others wait. A lease that ends later than ttl from now was given before the clock was set back;
// it is cut to ttl, so that a dead owner is waited for no longer than that. takeOver is called without any lock.
//
// Fences are at least the seconds since 1970, so that they grow also when the ledger was lost and begun anew: engines, which
// remember the greatest, would otherwise refuse everything.
func (l *Ledger) Acquire(ctx context.Context, stage deploy.StageRef, owner string, ttl time.Duration, takeOver func(owner string) bool) (deploy.Lease, error) {
	if owner == "" || ttl <= 0 {
		return deploy.Lease{}, fmt.Errorf("a lease needs an owner and a duration: %w", deploy.ErrBadInput)
	}
	gone := "" // an owner that takeOver called gone
	for {
		taken, err := l.tryAcquire(ctx, stage, owner, gone, ttl)
		var held *heldError
		if !errors.As(err, &held) || takeOver == nil || !takeOver(held.owner) {
			return taken, err
		}
		gone = held.owner
	}
}

// heldError is the lease of somebody else.
type heldError struct {
	stage deploy.StageRef
	lease
}

func (e *heldError) Error() string {
	return fmt.Sprintf("%s is held by %s until %s: %v", e.stage, e.owner, e.until.UTC().Format(time.TimeOnly+" UTC"), deploy.ErrBusy)
}

func (e *heldError) Is(target error) bool { return target == deploy.ErrBusy }

func (l *Ledger) tryAcquire(ctx context.Context, stage deploy.StageRef, owner, gone string, ttl time.Duration) (deploy.Lease, error) {
	var taken deploy.Lease
	var held error
	err := l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		found, err := leaseOf(ctx, tx, stage)
		if err != nil {
			return err
		}
		now := l.now()
		next := lease{owner, found.fence, now.Add(ttl)}
		switch {
		case found.owner == owner:
		case found.owner == "" || found.owner == gone || !now.Before(found.until):
			next.fence = max(found.fence+1, now.Unix())
		default:
			held = &heldError{stage, found}
			if !found.until.After(next.until) {
				return nil
			}
			next = lease{found.owner, found.fence, next.until}
		}
		taken = deploy.Lease{Stage: stage, Owner: owner, Fence: deploy.Fence(next.fence), Until: next.until}
		return putLease(ctx, tx, stage, next)
	})
	if err = errors.Join(err, held); err != nil {
		return deploy.Lease{}, err
	}
	return taken, nil
}

func leaseOf(ctx context.Context, tx *sql.Tx, stage deploy.StageRef) (found lease, err error) {
	var until int64
	err = tx.QueryRowContext(ctx, "SELECT owner, fence, until FROM leases WHERE app = ? AND stage = ?", stage.App, stage.Stage).
		Scan(&found.owner, &found.fence, &until)
	if errors.Is(err, sql.ErrNoRows) {
		return lease{}, nil
	}
	found.until = time.Unix(0, until)
	return found, err
}

func putLease(ctx context.Context, tx *sql.Tx, stage deploy.StageRef, n lease) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO leases (app, stage, owner, fence, until) VALUES (?, ?, ?, ?, ?)
		ON CONFLICT DO UPDATE SET owner = excluded.owner, fence = excluded.fence, until = excluded.until`,
		stage.App, stage.Stage, n.owner, n.fence, n.until.UnixNano())
	return err
}

// Renew implements deploy.Ledger. A lease that ran out and that nobody took is prolonged; one that was given back is
// deploy.ErrFenced too.
func (l *Ledger) Renew(ctx context.Context, held deploy.Lease, ttl time.Duration) error {
	return l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		found, err := leaseOf(ctx, tx, held.Stage)
		if err != nil {
			return err
		}
		if found.owner != held.Owner || found.fence != int64(held.Fence) {
			return fmt.Errorf("the lease of %s: %w", held.Stage, deploy.ErrFenced)
		}
		return putLease(ctx, tx, held.Stage, lease{found.owner, found.fence, l.now().Add(ttl)})
	})
}

// Release implements deploy.Ledger. A lease that somebody else took meanwhile stays theirs.
func (l *Ledger) Release(ctx context.Context, held deploy.Lease) error {
	return l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		found, err := leaseOf(ctx, tx, held.Stage)
		if err != nil || found.owner != held.Owner || found.fence != int64(held.Fence) {
			return err
		}
		return putLease(ctx, tx, held.Stage, lease{"", found.fence, l.now()})
	})
}

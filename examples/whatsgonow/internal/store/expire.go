package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"whatsgonow/internal/market"
)

// How long what nobody needs is kept.
const (
	UploadLife = 48 * time.Hour
	eventLife  = 30 * 24 * time.Hour
)

// Expired says what Expire did.
type Expired struct {
	Transports, Uploads, Sessions, Events int
	Photos                                []string // whose bytes may go now
}

// Expire ends what ran out of time: transports past their window with their offers,
// uploads that nobody used, sessions, old events. It goes in small transactions and passes
// over locked rows, so that two at once, or one stopped halfway, are fine.
func (s *Store) Expire(ctx context.Context) (Expired, error) {
	var e Expired
	for {
		n, err := s.expireTransports(ctx)
		e.Transports += n
		if err != nil {
			return e, err
		}
		if n == 0 {
			break
		}
	}
	err := s.change(ctx, func(tx *tx) error {
		rows, err := tx.Query(ctx, `delete from uploads where transport is null and created_at < $1 returning id`, tx.now.Add(-UploadLife))
		if err != nil {
			return err
		}
		if e.Photos, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
			return err
		}
		e.Uploads = len(e.Photos)
		gone, err := tx.Exec(ctx, `delete from sessions where expires_at < $1`, tx.now)
		if err != nil {
			return err
		}
		e.Sessions = int(gone.RowsAffected())
		gone, err = tx.Exec(ctx, `delete from events where at < $1`, tx.now.Add(-eventLife))
		e.Events = int(gone.RowsAffected())
		return err
	})
	return e, err
}

func (s *Store) expireTransports(ctx context.Context) (n int, err error) {
	err = s.change(ctx, func(tx *tx) error {
		late, err := tx.transports(ctx, `t.status in ('created', 'offer_pending', 'deal_accepted') and t.window_end <= $1
			order by t.id limit 50 for update of t skip locked`, tx.now)
		if err != nil {
			return err
		}
		n = len(late)
		for _, t := range late {
			if err := tx.closeOffers(ctx, t, market.Expire); err != nil {
				return err
			}
			if err := tx.move(ctx, &t, market.Expire, clock); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}

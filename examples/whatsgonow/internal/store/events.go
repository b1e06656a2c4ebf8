package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"whatsgonow/internal/market"
)

// An Event is something that happened to a transport or an offer of somebody's.
type Event struct {
	Seq       int64       `json:"-"`
	At        time.Time   `json:"at"`
	Transport string      `json:"transport"`
	Offer     bool        `json:"offer"`
	Verb      market.Verb `json:"verb"`
	Status    string      `json:"status"`
}

// LastEvent is the number of the person's newest event, 0 if there is none.
func (s *Store) LastEvent(ctx context.Context, person string) (seq int64, err error) {
	err = s.pool.QueryRow(ctx, `select last_event from people where id = $1`, person).Scan(&seq)
	return seq, orNotFound(err)
}

// EventsAfter returns the person's events after the one numbered seq, oldest first.
func (s *Store) EventsAfter(ctx context.Context, person string, seq int64) ([]Event, error) {
	rows, err := s.pool.Query(ctx, `
		select seq, at, transport::text, offer is not null, verb, status
		from events where person = $1 and seq > $2 order by seq limit 100`, person, seq)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Event])
}

// Listen calls wake with the id of each person that something happened to, on any
// instance, until ctx ends. It is a hint and may miss some: who waits looks again from
// time to time. After a break it calls wake with "", which means anybody.
func (s *Store) Listen(ctx context.Context, wake func(person string)) {
	for ctx.Err() == nil {
		_ = s.listen(ctx, wake) // whatever broke the connection, a new one is the answer
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

func (s *Store) listen(ctx context.Context, wake func(person string)) error {
	conn, err := pgx.ConnectConfig(ctx, s.pool.Config().ConnConfig)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `listen events`); err != nil {
		return err
	}
	wake("")
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		wake(n.Payload)
	}
}

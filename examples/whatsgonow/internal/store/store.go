// Package store keeps the market in PostgreSQL. Each exported method is one transaction:
// it happens whole, together with its lines in the audit log and its events, or not at
// all. Several instances, and two releases side by side, may use one database.
package store

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"whatsgonow/internal/market"
)

var (
	ErrNotFound   = errors.New("not found")
	ErrEmailTaken = errors.New("there is an account with this address")
	ErrWrongCode  = errors.New("that is not the handover code")
	ErrUnfinished = errors.New("there are transports under way")
	ErrNotReady   = errors.New("the database is not ready")
)

// Store is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	now  func() time.Time
}

// Open reads the address and returns at once; the database need not be up yet.
func Open(url string, now func() time.Time) (*Store, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		// The parser's own text may hold parts of the address.
		return nil, errors.New("DATABASE_URL is not an address of a PostgreSQL database")
	}
	config.MaxConns = max(config.MaxConns, 8)
	config.ConnConfig.ConnectTimeout = 5 * time.Second
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "whatsgonow"
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, err
	}
	return &Store{pool: pool, now: now}, nil
}

func (s *Store) Close() { s.pool.Close() }

// Ready is nil when the schema is there and the database answers.
func (s *Store) Ready(ctx context.Context) error {
	var there bool
	if err := s.pool.QueryRow(ctx, `select to_regclass('people') is not null`).Scan(&there); err != nil {
		return err
	}
	if !there {
		return ErrNotReady
	}
	return nil
}

// Away reports whether the error means that the database cannot be reached, so that
// the same request may well succeed in a moment.
func Away(err error) bool {
	var connect *pgconn.ConnectError
	var answer *pgconn.PgError
	switch {
	case errors.As(err, &connect), errors.Is(err, ErrNotReady):
		return true
	case errors.As(err, &answer): // shutting down, starting, or without its tables yet
		return slices.Contains([]string{"57P01", "57P02", "57P03", "53300", "42P01"}, answer.Code)
	}
	return pgconn.SafeToRetry(err)
}

// tx is a transaction that knows who must hear of it.
type tx struct {
	pgx.Tx
	now    time.Time
	events []event
}

type event struct {
	person, transport, offer string
	verb                     market.Verb
	status                   string
}

func (s *Store) change(ctx context.Context, do func(*tx) error) error {
	return pgx.BeginFunc(ctx, s.pool, func(t pgx.Tx) error {
		tx := &tx{Tx: t, now: s.now()}
		if err := do(tx); err != nil {
			return err
		}
		return tx.tell(ctx)
	})
}

// tell writes the events down and wakes the streams. It is the last step, and goes by
// person in order, because it locks their rows.
func (tx *tx) tell(ctx context.Context) error {
	slices.SortStableFunc(tx.events, func(a, b event) int { return cmp.Compare(a.person, b.person) })
	for _, e := range tx.events {
		_, err := tx.Exec(ctx, `
			with counted as (
				update people set last_event = last_event + 1 where id = $1 returning id, last_event
			), written as (
				insert into events (person, seq, at, transport, offer, verb, status)
				select id, last_event, $2, $3, nullif($4, '')::uuid, $5, $6 from counted
			)
			select pg_notify('events', id::text) from counted`,
			e.person, tx.now, e.transport, e.offer, e.verb, e.status)
		if err != nil {
			return err
		}
	}
	return nil
}

func violates(err error, constraint string) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.ConstraintName == constraint
}

func orNotFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

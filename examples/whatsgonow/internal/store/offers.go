package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"whatsgonow/internal/market"
)

// Propose makes a driver's offer for a transport. A driver has one open offer at most.
func (s *Store) Propose(ctx context.Context, who Account, transport string, cents int, note string) (id string, err error) {
	err = s.change(ctx, func(tx *tx) error {
		t, err := tx.transport(ctx, transport, "for update of t")
		if err != nil {
			return err
		}
		to, err := market.OfferStatus("").Next(market.Propose, market.Driver)
		if err != nil {
			return err
		}
		before := t.Status
		if _, err := before.Next(market.Propose, part(t, who)); err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `insert into offers (transport, driver, status, price_cents, note, created_at, updated_at)
			values ($1, $2, $3, $4, $5, $6, $6) returning id`, t.ID, who.ID, to, cents, note, tx.now).Scan(&id)
		if err != nil {
			return err
		}
		by := as{market.Driver, who.ID}
		err = tx.note(ctx, entry{t.ID, id, market.Propose, "", string(to), by}, t.Sender.ID, who.ID)
		if err != nil || before == market.OfferPending {
			return err
		}
		return tx.move(ctx, &t, market.Propose, as{part(t, who), who.ID})
	})
	if violates(err, "offers_one_open") {
		return "", market.ErrNotNow
	}
	return id, err
}

// Answer does verb to an offer: accept it, counter it with another price, reject it.
func (s *Store) Answer(ctx context.Context, who Account, offer string, verb market.Verb, cents int) (transport string, err error) {
	err = s.change(ctx, func(tx *tx) error {
		// The transport's row is the lock for all of its offers: first that, then look again.
		err := tx.QueryRow(ctx, `select transport from offers where id = $1`, offer).Scan(&transport)
		if err != nil {
			return orNotFound(err)
		}
		t, err := tx.transport(ctx, transport, "for update of t")
		if err != nil {
			return err
		}
		found, err := tx.offers(ctx, `o.id = $1`, offer)
		if err != nil {
			return err
		}
		if len(found) == 0 {
			return ErrNotFound
		}
		return tx.answer(ctx, t, found[0], who, verb, cents)
	})
	return transport, err
}

func (tx *tx) answer(ctx context.Context, t market.Transport, o market.Offer, who Account, verb market.Verb, cents int) error {
	by := as{offerPart(t, o, who.ID), who.ID}
	if by.part == market.Bidder {
		return ErrNotFound // somebody else's offer: not theirs to know of
	}
	if verb == market.Propose || verb == market.Counter {
		o.PriceCents = cents
	}
	if err := tx.moveOffer(ctx, t, &o, verb, by); err != nil {
		return err
	}
	switch verb {
	case market.Reject:
		return tx.reopenIfAlone(ctx, &t)
	case market.Accept:
		return tx.deal(ctx, t, o, by)
	}
	return nil
}

// deal binds sender and driver, and turns the other drivers down.
func (tx *tx) deal(ctx context.Context, t market.Transport, o market.Offer, by as) error {
	t.Driver, t.DealCents = o.Driver, o.PriceCents
	_, err := tx.Exec(ctx, `update transports set driver = $2, deal_cents = $3 where id = $1`, t.ID, o.Driver.ID, o.PriceCents)
	if err != nil {
		return err
	}
	if err := tx.closeOffers(ctx, t, market.Reject); err != nil {
		return err
	}
	return tx.move(ctx, &t, market.Accept, by)
}

// closeOffers ends every open offer, because of what happened to the transport.
func (tx *tx) closeOffers(ctx context.Context, t market.Transport, verb market.Verb) error {
	open, err := tx.offers(ctx, `o.transport = $1 and o.status in ('proposed', 'countered')`, t.ID)
	if err != nil {
		return err
	}
	for _, o := range open {
		if err := tx.moveOffer(ctx, t, &o, verb, clock); err != nil {
			return err
		}
	}
	return nil
}

// reopenIfAlone puts the transport back when its last open offer is gone.
func (tx *tx) reopenIfAlone(ctx context.Context, t *market.Transport) error {
	var open bool
	err := tx.QueryRow(ctx, `select exists (select from offers where transport = $1 and status in ('proposed', 'countered'))`, t.ID).Scan(&open)
	if err != nil || open || t.Status != market.OfferPending {
		return err
	}
	return tx.move(ctx, t, market.Reopen, clock)
}

func (tx *tx) moveOffer(ctx context.Context, t market.Transport, o *market.Offer, verb market.Verb, by as) error {
	from := o.Status
	to, err := from.Next(verb, by.part)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `update offers set status = $2, price_cents = $3, updated_at = $4 where id = $1`, o.ID, to, o.PriceCents, tx.now)
	if err != nil {
		return err
	}
	o.Status = to
	return tx.note(ctx, entry{t.ID, o.ID, verb, string(from), string(to), by}, t.Sender.ID, o.Driver.ID)
}

func offerPart(t market.Transport, o market.Offer, person string) market.Part {
	switch person {
	case t.Sender.ID:
		return market.Sender
	case o.Driver.ID:
		return market.Driver
	}
	return market.Bidder
}

func (tx *tx) offers(ctx context.Context, where string, args ...any) ([]market.Offer, error) {
	rows, err := tx.Query(ctx, `
		select o.id, o.transport, o.driver, split_part(d.name, ' ', 1), o.status, o.price_cents, o.note, o.created_at
		from offers o join people d on d.id = o.driver
		where `+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (o market.Offer, err error) {
		err = row.Scan(&o.ID, &o.Transport, &o.Driver.ID, &o.Driver.Name, &o.Status, &o.PriceCents, &o.Note, &o.CreatedAt)
		return o, err
	})
}

package store

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"whatsgonow/internal/market"
)

// A View is a transport as one person sees it: only what is theirs to know.
type View struct {
	market.Transport
	Part     market.Part   `json:"part"`
	Can      []market.Verb `json:"can"`
	Offers   []OfferView   `json:"offers"`
	History  []Entry       `json:"history"`
	Handover string        `json:"handover_code,omitempty"` // the sender's, while it is of use
}

// An OfferView is an offer, and what the viewer can do to it.
type OfferView struct {
	market.Offer
	Can []market.Verb `json:"can"`
}

// An Entry is a line of the audit log.
type Entry struct {
	At    time.Time   `json:"at"`
	Offer bool        `json:"offer"` // of an offer, not of the transport itself
	Verb  market.Verb `json:"verb"`
	To    string      `json:"to"`
	Part  market.Part `json:"part"`
}

// as is somebody in a part.
type as struct {
	part   market.Part
	person string
}

var clock = as{market.Clock, ""}

// Post makes a transport of a checked draft.
func (s *Store) Post(ctx context.Context, sender string, d market.Draft) (id string, err error) {
	err = s.change(ctx, func(tx *tx) error {
		to, err := market.Status("").Next(market.Post, market.Sender)
		if err != nil {
			return err
		}
		err = tx.QueryRow(ctx, `
			insert into transports (sender, status, title, note, from_name, from_lat, from_lng, to_name, to_lat, to_lng,
				window_start, window_end, size, weight_kg, price_cents, handover_code, created_at, updated_at)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $17) returning id`,
			sender, to, d.Title, d.Note, d.From.Name, d.From.Lat, d.From.Lng, d.To.Name, d.To.Lat, d.To.Lng,
			d.Window.Start, d.Window.End, d.Size, d.WeightKG, d.PriceCents, newHandoverCode(), tx.now).Scan(&id)
		if err != nil {
			return err
		}
		if d.Photo != "" {
			tag, err := tx.Exec(ctx, `update uploads set transport = $1 where id = $2 and transport is null`, id, d.Photo)
			if err != nil {
				return err
			}
			if tag.RowsAffected() == 0 {
				return market.Mistakes{{Field: "photo", Code: "gone", Message: "photo is not there any more"}}
			}
		}
		return tx.note(ctx, entry{transport: id, verb: market.Post, to: string(to), by: as{market.Sender, sender}})
	})
	return id, err
}

// Near returns open transports whose both ends lie in the box.
func (s *Store) Near(ctx context.Context, southWest, northEast market.Point, except string) ([]market.Transport, error) {
	const most = 500
	return transports(ctx, s.pool, `t.status = any($1) and t.window_end > $2
		and t.from_lat between $3 and $5 and t.from_lng between $4 and $6
		and t.to_lat between $3 and $5 and t.to_lng between $4 and $6
		and t.sender is distinct from nullif($7, '')::uuid
		order by t.created_at desc limit $8`,
		[]market.Status{market.Created, market.OfferPending}, s.now(),
		southWest.Lat, southWest.Lng, northEast.Lat, northEast.Lng, except, most)
}

// Mine returns the transports that the person sends, drives, or has an open offer for.
func (s *Store) Mine(ctx context.Context, person string) (sending, driving []market.Transport, err error) {
	all, err := transports(ctx, s.pool, `t.sender = $1 or t.driver = $1 or exists (
		select from offers o where o.transport = t.id and o.driver = $1 and o.status in ('proposed', 'countered'))
		order by t.updated_at desc limit 200`, person)
	sending, driving = []market.Transport{}, []market.Transport{}
	for _, t := range all {
		if t.Sender.ID == person {
			sending = append(sending, t)
		} else {
			driving = append(driving, t)
		}
	}
	return sending, driving, err
}

// Look returns the transport as the viewer sees it. Who is not signed in has no id.
func (s *Store) Look(ctx context.Context, viewer Account, id string) (v View, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(t pgx.Tx) error {
		v, err = (&tx{Tx: t}).look(ctx, viewer, id)
		return err
	})
	return v, err
}

func (tx *tx) look(ctx context.Context, viewer Account, id string) (View, error) {
	t, err := tx.transport(ctx, id, "")
	if err != nil {
		return View{}, err
	}
	v := View{Transport: t, Part: part(t, viewer), Offers: []OfferView{}, History: []Entry{}}
	v.Can = t.Status.Verbs(v.Part)
	if v.Part == market.Guest {
		return v, nil
	}
	offers, err := tx.offers(ctx, `o.transport = $1 and ($2 in ('sender', 'manager') or o.driver::text = $3)
		order by o.status in ('proposed', 'countered') desc, o.price_cents, o.created_at`, id, v.Part, viewer.ID)
	if err != nil {
		return View{}, err
	}
	for _, o := range offers {
		v.Offers = append(v.Offers, OfferView{o, o.Status.Verbs(offerPart(t, o, viewer.ID))})
	}
	if v.Part == market.Bidder {
		return v, nil
	}
	if v.History, err = tx.history(ctx, id, viewer.ID); err != nil {
		return View{}, err
	}
	if v.Part == market.Sender && (t.Status == market.Confirmed || t.Status == market.InDelivery) {
		err = tx.QueryRow(ctx, `select handover_code from transports where id = $1`, id).Scan(&v.Handover)
	}
	return v, err
}

// history is the transport's own lines, and those of offers as far as they concern the
// viewer: a driver sees nothing of what others offered.
func (tx *tx) history(ctx context.Context, id, viewer string) ([]Entry, error) {
	rows, err := tx.Query(ctx, `
		select a.at, a.offer is not null, a.verb, a.to_status, a.part
		from audit a join transports t on t.id = a.transport
		where a.transport = $1 and (a.offer is null or t.driver is distinct from $2::uuid
			or exists (select from offers o where o.id = a.offer and o.driver = $2::uuid))
		order by a.id`, id, viewer)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Entry])
}

// Act does verb to a transport. The code is what the driver was given at the handover.
func (s *Store) Act(ctx context.Context, who Account, id string, verb market.Verb, code string) error {
	return s.change(ctx, func(tx *tx) error {
		t, err := tx.transport(ctx, id, "for update of t")
		if err != nil {
			return err
		}
		by := as{part(t, who), who.ID}
		if _, err := t.Status.Next(verb, by.part); err != nil {
			return err
		}
		switch verb {
		case market.Propose, market.Accept: // these are done to an offer
			return market.ErrNotNow
		case market.Deliver:
			if err := tx.checkHandover(ctx, id, code); err != nil {
				return err
			}
		case market.Cancel:
			if err := tx.closeOffers(ctx, t, market.Reject); err != nil {
				return err
			}
		}
		return tx.move(ctx, &t, verb, by)
	})
}

// Guessing is hopeless: 40 random bits, and only the one driver gets to try.
func (tx *tx) checkHandover(ctx context.Context, id, code string) error {
	var want string
	if err := tx.QueryRow(ctx, `select handover_code from transports where id = $1`, id).Scan(&want); err != nil {
		return err
	}
	if subtle.ConstantTimeCompare([]byte(plain(code)), []byte(plain(want))) == 0 {
		return ErrWrongCode
	}
	return nil
}

// plain takes away what people add or leave out when they type a code.
func plain(code string) string {
	return strings.NewReplacer("-", "", " ", "").Replace(strings.ToUpper(code))
}

func newHandoverCode() string {
	raw := make([]byte, 5)
	rand.Read(raw)
	text := base32.StdEncoding.EncodeToString(raw)
	return "WGN-" + text[:4] + "-" + text[4:]
}

// part is the part that a person plays in a transport.
func part(t market.Transport, who Account) market.Part {
	switch {
	case who.ID == "":
		return market.Guest
	case who.ID == t.Sender.ID:
		return market.Sender
	case who.ID == t.Driver.ID:
		return market.Driver
	case who.Manager:
		return market.Manager
	}
	return market.Bidder
}

// move brings a transport, whose row is locked, into the next state, with the money, the
// audit log and the events that go with it.
func (tx *tx) move(ctx context.Context, t *market.Transport, verb market.Verb, by as) error {
	from := t.Status
	to, err := from.Next(verb, by.part)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `update transports set status = $2, updated_at = $3 where id = $1`, t.ID, to, tx.now)
	if err != nil {
		return err
	}
	t.Status = to
	if err := tx.settle(ctx, *t); err != nil {
		return err
	}
	return tx.note(ctx, entry{transport: t.ID, verb: verb, from: string(from), to: string(to), by: by}, t.Sender.ID, t.Driver.ID)
}

// settle does with the money what the new state asks for: reserved at the deal, released
// at the handover, refunded when nothing comes of it.
func (tx *tx) settle(ctx context.Context, t market.Transport) error {
	var err error
	switch t.Status {
	case market.DealAccepted:
		what := "Transport " + t.From.Name + " – " + t.To.Name
		_, err = tx.Exec(ctx, `
			insert into transactions (transport, payer, receiver, what, amount_cents, status, created_at, keep_until)
			values ($1, $2, $3, $4, $5, 'reserved', $6, make_date(extract(year from $6::timestamptz)::int + 10, 12, 31))`,
			t.ID, t.Sender.ID, t.Driver.ID, what, t.DealCents, tx.now)
	case market.Delivered:
		err = tx.settleAs(ctx, t.ID, "released")
	case market.Cancelled, market.Expired:
		err = tx.settleAs(ctx, t.ID, "refunded")
	}
	return err
}

func (tx *tx) settleAs(ctx context.Context, transport, status string) error {
	_, err := tx.Exec(ctx, `update transactions set status = $2, settled_at = $3
		where transport = $1 and status = 'reserved'`, transport, status, tx.now)
	return err
}

type entry struct {
	transport, offer string
	verb             market.Verb
	from, to         string
	by               as
}

// note writes a line into the audit log, and tells those concerned.
func (tx *tx) note(ctx context.Context, e entry, concerned ...string) error {
	_, err := tx.Exec(ctx, `
		insert into audit (at, transport, offer, verb, from_status, to_status, part, actor)
		values ($1, $2, nullif($3, '')::uuid, $4, $5, $6, $7, nullif($8, '')::uuid)`,
		tx.now, e.transport, e.offer, e.verb, e.from, e.to, e.by.part, e.by.person)
	for _, person := range concerned {
		if person != "" {
			tx.events = append(tx.events, event{person, e.transport, e.offer, e.verb, e.to})
		}
	}
	return err
}

func (tx *tx) transport(ctx context.Context, id, lock string) (market.Transport, error) {
	found, err := tx.transports(ctx, `t.id = $1 `+lock, id)
	if err != nil {
		return market.Transport{}, err
	}
	if len(found) == 0 {
		return market.Transport{}, ErrNotFound
	}
	return found[0], nil
}

func (tx *tx) transports(ctx context.Context, where string, args ...any) ([]market.Transport, error) {
	return transports(ctx, tx, where, args...)
}

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

func transports(ctx context.Context, q querier, where string, args ...any) ([]market.Transport, error) {
	rows, err := q.Query(ctx, `
		select t.id, t.status, t.title, t.note, t.from_name, t.from_lat, t.from_lng, t.to_name, t.to_lat, t.to_lng,
			t.window_start, t.window_end, t.size, t.weight_kg, t.price_cents, coalesce(t.deal_cents, 0),
			t.created_at, t.updated_at, coalesce(u.id, ''),
			coalesce(s.id::text, ''), coalesce(split_part(s.name, ' ', 1), ''),
			coalesce(d.id::text, ''), coalesce(split_part(d.name, ' ', 1), '')
		from transports t
			left join people s on s.id = t.sender
			left join people d on d.id = t.driver
			left join uploads u on u.transport = t.id
		where `+where, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (t market.Transport, err error) {
		err = row.Scan(&t.ID, &t.Status, &t.Title, &t.Note, &t.From.Name, &t.From.Lat, &t.From.Lng, &t.To.Name, &t.To.Lat, &t.To.Lng,
			&t.Window.Start, &t.Window.End, &t.Size, &t.WeightKG, &t.PriceCents, &t.DealCents,
			&t.CreatedAt, &t.UpdatedAt, &t.Photo,
			&t.Sender.ID, &t.Sender.Name, &t.Driver.ID, &t.Driver.Name)
		return t, err
	})
}

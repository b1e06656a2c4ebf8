package market

import (
	"errors"
	"slices"
)

// The life of a transport. The table below is the only place that says so; this is
// its picture:
//
//	created ⇄ offer_pending → deal_accepted → confirmed → in_delivery → delivered → completed
//	   │           │                │             │            └────┬───────┘
//	   └───────────┴─ cancelled ────┴─────────────┘                 ▼
//	   └───────────┴─ expired ──────┘                           in_dispute → resolved
type Status string

const (
	Created      Status = "created"
	OfferPending Status = "offer_pending"
	DealAccepted Status = "deal_accepted"
	Confirmed    Status = "confirmed"
	InDelivery   Status = "in_delivery"
	Delivered    Status = "delivered"
	Completed    Status = "completed"
	Cancelled    Status = "cancelled"
	Expired      Status = "expired"
	InDispute    Status = "in_dispute"
	Resolved     Status = "resolved"
)

// The life of an offer: proposed and countered name whose price is on the table,
// the driver's or the sender's.
type OfferStatus string

const (
	Proposed     OfferStatus = "proposed"
	Countered    OfferStatus = "countered"
	Accepted     OfferStatus = "accepted"
	Rejected     OfferStatus = "rejected"
	OfferExpired OfferStatus = "expired"
	notMadeYet   OfferStatus = ""
	notPostedYet Status      = ""
)

// A Verb is something done to a transport or an offer.
type Verb string

const (
	Post     Verb = "post"
	Propose  Verb = "propose"
	Counter  Verb = "counter"
	Accept   Verb = "accept"
	Reject   Verb = "reject"
	Reopen   Verb = "reopen"
	Confirm  Verb = "confirm"
	PickUp   Verb = "pick-up"
	Deliver  Verb = "deliver"
	Complete Verb = "complete"
	Cancel   Verb = "cancel"
	Expire   Verb = "expire"
	Dispute  Verb = "dispute"
	Resolve  Verb = "resolve"
)

// A Part is the part somebody plays in one transport. Nobody is a driver or a sender
// as such: who sends today drives tomorrow.
type Part string

const (
	Guest   Part = ""        // not signed in
	Bidder  Part = "bidder"  // signed in, and neither of the next two
	Sender  Part = "sender"  // posted the transport
	Driver  Part = "driver"  // made the offer that was accepted, or the offer in question
	Manager Part = "manager" // looks after the region
	Clock   Part = "clock"   // the app itself: time that ran out, and what follows from another move
)

var (
	// ErrNotNow: nobody can do that in this state.
	ErrNotNow = errors.New("not possible in this state")
	// ErrNotYours: somebody can, but not in this part.
	ErrNotYours = errors.New("not allowed in this part")
)

type move[S ~string] struct {
	verb Verb
	by   []Part
	from []S
	to   S
}

type moves[S ~string] []move[S]

var transportMoves = moves[Status]{
	{Post, []Part{Sender}, []Status{notPostedYet}, Created},
	{Propose, []Part{Bidder}, []Status{Created, OfferPending}, OfferPending},
	{Reopen, []Part{Clock}, []Status{OfferPending}, Created}, // the last open offer is gone
	{Accept, []Part{Sender, Driver}, []Status{OfferPending}, DealAccepted},
	{Confirm, []Part{Sender}, []Status{DealAccepted}, Confirmed},
	{PickUp, []Part{Driver}, []Status{Confirmed}, InDelivery},
	{Deliver, []Part{Driver}, []Status{InDelivery}, Delivered}, // with the handover code
	{Complete, []Part{Sender}, []Status{Delivered}, Completed},

	{Cancel, []Part{Sender}, []Status{Created, OfferPending, DealAccepted, Confirmed}, Cancelled},
	{Cancel, []Part{Driver}, []Status{DealAccepted, Confirmed}, Cancelled},
	{Expire, []Part{Clock}, []Status{Created, OfferPending, DealAccepted}, Expired},
	{Dispute, []Part{Sender, Driver}, []Status{InDelivery, Delivered}, InDispute},
	{Resolve, []Part{Manager}, []Status{InDispute}, Resolved},
}

var offerMoves = moves[OfferStatus]{
	{Propose, []Part{Driver}, []OfferStatus{notMadeYet, Countered}, Proposed},
	{Counter, []Part{Sender}, []OfferStatus{Proposed}, Countered},
	{Accept, []Part{Sender}, []OfferStatus{Proposed}, Accepted},
	{Accept, []Part{Driver}, []OfferStatus{Countered}, Accepted},
	{Reject, []Part{Sender, Driver, Clock}, []OfferStatus{Proposed, Countered}, Rejected}, // a driver's own: withdrawn
	{Expire, []Part{Clock}, []OfferStatus{Proposed, Countered}, OfferExpired},
}

// Next is the state that a transport comes into when somebody in this part does verb.
func (s Status) Next(verb Verb, by Part) (Status, error) { return transportMoves.next(s, verb, by) }

// Verbs is what somebody in this part can do to a transport in state s.
func (s Status) Verbs(by Part) []Verb { return transportMoves.verbs(s, by) }

// Next is the state that an offer comes into when somebody in this part does verb.
func (s OfferStatus) Next(verb Verb, by Part) (OfferStatus, error) {
	return offerMoves.next(s, verb, by)
}

// Verbs is what somebody in this part can do to an offer in state s.
func (s OfferStatus) Verbs(by Part) []Verb { return offerMoves.verbs(s, by) }

// Open reports whether the offer can still become a deal.
func (s OfferStatus) Open() bool { return s == Proposed || s == Countered }

// Bound reports whether a sender and a driver owe each other something.
func (s Status) Bound() bool {
	return slices.Contains([]Status{DealAccepted, Confirmed, InDelivery, Delivered, InDispute}, s)
}

func (ms moves[S]) next(from S, verb Verb, by Part) (S, error) {
	err := ErrNotNow
	for _, m := range ms {
		if m.verb != verb || !slices.Contains(m.from, from) {
			continue
		}
		if slices.Contains(m.by, by) {
			return m.to, nil
		}
		err = ErrNotYours
	}
	return from, err
}

func (ms moves[S]) verbs(from S, by Part) []Verb {
	can := []Verb{}
	for _, m := range ms {
		if slices.Contains(m.from, from) && slices.Contains(m.by, by) {
			can = append(can, m.verb)
		}
	}
	return can
}

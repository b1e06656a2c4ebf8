package market

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

var (
	statuses = []Status{notPostedYet, Created, OfferPending, DealAccepted, Confirmed, InDelivery, Delivered, Completed, Cancelled, Expired, InDispute, Resolved}
	verbs    = []Verb{Post, Propose, Counter, Accept, Reject, Reopen, Confirm, PickUp, Deliver, Complete, Cancel, Expire, Dispute, Resolve}
	parts    = []Part{Guest, Bidder, Sender, Driver, Manager, Clock}
)

// The rules once more, written the other way round: by state and part. Everything that
// does not stand here must be refused.
const allowed = `
: sender post → created
created: bidder propose → offer_pending
created: sender cancel → cancelled
created: clock expire → expired
offer_pending: bidder propose → offer_pending
offer_pending: sender accept → deal_accepted
offer_pending: driver accept → deal_accepted
offer_pending: sender cancel → cancelled
offer_pending: clock reopen → created
offer_pending: clock expire → expired
deal_accepted: sender confirm → confirmed
deal_accepted: sender cancel → cancelled
deal_accepted: driver cancel → cancelled
deal_accepted: clock expire → expired
confirmed: driver pick-up → in_delivery
confirmed: sender cancel → cancelled
confirmed: driver cancel → cancelled
in_delivery: driver deliver → delivered
in_delivery: sender dispute → in_dispute
in_delivery: driver dispute → in_dispute
delivered: sender complete → completed
delivered: sender dispute → in_dispute
delivered: driver dispute → in_dispute
in_dispute: manager resolve → resolved
`

func TestTransportMoves(t *testing.T) {
	var got []string
	for _, s := range statuses {
		for _, verb := range verbs {
			for _, part := range parts {
				to, err := s.Next(verb, part)
				if err == nil {
					got = append(got, fmt.Sprintf("%s: %s %s → %s", s, part, verb, to))
				}
				if can := slices.Contains(s.Verbs(part), verb); can != (err == nil) {
					t.Errorf("%s: %s %s: Verbs says %v, Next says %v", s, part, verb, can, err)
				}
			}
		}
	}
	want := strings.Split(strings.TrimSpace(allowed), "\n")
	slices.Sort(got)
	slices.Sort(want)
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("refused, but allowed is %q", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("allowed, but nobody said so: %q", line)
		}
	}
}

func TestOfferMoves(t *testing.T) {
	for _, c := range []struct {
		from OfferStatus
		verb Verb
		by   Part
		to   OfferStatus
		err  error
	}{
		{notMadeYet, Propose, Driver, Proposed, nil},
		{Proposed, Counter, Sender, Countered, nil},
		{Countered, Propose, Driver, Proposed, nil},
		{Proposed, Accept, Sender, Accepted, nil},
		{Countered, Accept, Driver, Accepted, nil},
		{Proposed, Accept, Driver, Proposed, ErrNotYours},
		{Countered, Accept, Sender, Countered, ErrNotYours},
		{Proposed, Counter, Driver, Proposed, ErrNotYours},
		{Proposed, Reject, Driver, Rejected, nil},
		{Countered, Reject, Sender, Rejected, nil},
		{Proposed, Reject, Bidder, Proposed, ErrNotYours},
		{Accepted, Reject, Sender, Accepted, ErrNotNow},
		{Rejected, Accept, Sender, Rejected, ErrNotNow},
		{OfferExpired, Accept, Sender, OfferExpired, ErrNotNow},
		{Countered, Expire, Clock, OfferExpired, nil},
	} {
		to, err := c.from.Next(c.verb, c.by)
		if to != c.to || err != c.err {
			t.Errorf("%q: %s %s = %q, %v; want %q, %v", c.from, c.by, c.verb, to, err, c.to, c.err)
		}
	}
}

func TestEveryTransportCanEnd(t *testing.T) {
	ends := []Status{Completed, Cancelled, Expired, Resolved}
	for _, s := range statuses {
		if !reaches(s, ends, map[Status]bool{}) {
			t.Errorf("%s leads to no end", s)
		}
	}
	for _, s := range ends {
		for _, part := range parts {
			if can := s.Verbs(part); len(can) > 0 {
				t.Errorf("%s is an end, but %s can %v", s, part, can)
			}
		}
	}
}

func reaches(from Status, ends []Status, seen map[Status]bool) bool {
	if slices.Contains(ends, from) {
		return true
	}
	if seen[from] {
		return false
	}
	seen[from] = true
	for _, verb := range verbs {
		for _, part := range parts {
			if to, err := from.Next(verb, part); err == nil && reaches(to, ends, seen) {
				return true
			}
		}
	}
	return false
}

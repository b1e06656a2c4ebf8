// Package market is the heart of Whatsgonow: what a transport and an offer are,
// who may do what to them and when (moves.go), which transports suit a driver's
// route (match.go), and what a person may type in (draft.go).
//
// It is pure: no clock, no database, no network.
package market

import "time"

// A Point is a position on the globe in degrees.
type Point struct {
	Lat float64 `json:"lat"`
	Lng float64 `json:"lng"`
}

// A Place is a point with the name people call it by.
type Place struct {
	Name string `json:"name"`
	Point
}

// A Window is the time within which something may happen.
type Window struct {
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
}

// Size says what kind of vehicle is needed. Each size fits where a larger one does.
type Size string

const (
	Small  Size = "small"  // on a passenger seat
	Medium Size = "medium" // in a boot
	Large  Size = "large"  // in an estate car
	XLarge Size = "xlarge" // in a van
)

var sizes = []Size{Small, Medium, Large, XLarge}

// Fits reports whether something of size s goes into a vehicle that takes up to room.
func (s Size) Fits(room Size) bool { return rank(s) <= rank(room) }

func rank(s Size) int {
	for i, known := range sizes {
		if s == known {
			return i
		}
	}
	return len(sizes)
}

// A Transport is something that somebody wants brought from one place to another.
type Transport struct {
	ID string `json:"id"`
	Draft
	Status    Status    `json:"status"`
	Sender    Person    `json:"sender"`
	Driver    Person    `json:"driver"`
	DealCents int       `json:"deal_cents,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// An Offer is a driver's price for a transport, or the sender's answer to it.
type Offer struct {
	ID         string      `json:"id"`
	Transport  string      `json:"transport"`
	Driver     Person      `json:"driver"`
	Status     OfferStatus `json:"status"`
	PriceCents int         `json:"price_cents"`
	Note       string      `json:"note"`
	CreatedAt  time.Time   `json:"created_at"`
}

// A Person as others see them: never more than a first name.
// The zero Person is somebody who has left, or nobody yet.
type Person struct {
	ID   string `json:"-"` // not for others, who could put together all that one person sends
	Name string `json:"name,omitempty"`
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

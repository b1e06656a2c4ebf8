// Package secret holds a string that cannot be printed.
//
// It is the ground of the house: every room may import it, it imports none.
package secret

import (
	"encoding/json"
	"log/slog"
)

// Text is a secret string. Every way that Go prints a value — fmt verbs, JSON, text marshalling, slog — shows Shown
// instead of the value; Reveal is the only way out. The zero Text is the empty string. A Text is comparable, is copied
// freely and is safe for concurrent use. It does not protect against somebody who reads the memory of the process.
type Text struct{ hidden *string }

// Shown is what stands wherever a secret would have been.
const Shown = "•••"

// New hides s.
func New(s string) Text { return Text{&s} }

// Reveal returns the hidden string. Call it where the value leaves for the place that needs it, nowhere else.
func (t Text) Reveal() string {
	if t.hidden == nil {
		return ""
	}
	return *t.hidden
}

// Empty reports whether nothing is hidden.
func (t Text) Empty() bool { return t.Reveal() == "" }

// String implements fmt.Stringer.
func (Text) String() string { return Shown }

// GoString implements fmt.GoStringer.
func (Text) GoString() string { return Shown }

// MarshalJSON implements json.Marshaler.
func (Text) MarshalJSON() ([]byte, error) { return json.Marshal(Shown) }

// MarshalText implements encoding.TextMarshaler.
func (Text) MarshalText() ([]byte, error) { return []byte(Shown), nil }

// LogValue implements slog.LogValuer.
func (Text) LogValue() slog.Value { return slog.StringValue(Shown) }

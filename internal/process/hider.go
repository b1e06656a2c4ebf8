package process

import (
	"context"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Hider is a Mask that learns: what a program has come to know is hidden in what it says from then on, for as long as it lives. A value
// that was replaced stays hidden, since somebody may still use it. It is safe for concurrent use; nil hides nothing.
type Hider struct {
	mu     sync.RWMutex
	known  map[string]bool
	values []secret.Text
	mask   *Mask
}

// Know hides these values too.
func (h *Hider) Know(values []secret.Text) {
	if h == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	before := len(h.values)
	for _, v := range values {
		if plain := v.Reveal(); !h.known[plain] {
			if h.known == nil {
				h.known = map[string]bool{}
			}
			h.known[plain] = true
			h.values = append(h.values, v)
		}
	}
	if len(h.values) > before {
		h.mask = NewMask(h.values)
	}
}

// Values are all that it knows.
func (h *Hider) Values() []secret.Text {
	if h == nil {
		return nil
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return slices.Clone(h.values)
}

// String returns s with every known value hidden.
func (h *Hider) String(s string) string { return h.now().String(s) }

// Writer hides what is known when a write begins. Each Write is a whole: what is split over two is for Mask.Writer.
func (h *Hider) Writer(w io.Writer) io.Writer { return hiding{h, w} }

func (h *Hider) now() *Mask {
	if h == nil {
		return nil
	}
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.mask
}

type hiding struct {
	hider *Hider
	to    io.Writer
}

// Write implements io.Writer.
func (w hiding) Write(p []byte) (int, error) {
	masked := w.hider.now().Writer(w.to)
	if _, err := masked.Write(p); err != nil {
		return 0, err
	}
	return len(p), masked.Close()
}

// Logger is log with every known value hidden in its messages and attributes.
func (h *Hider) Logger(log *slog.Logger) *slog.Logger { return slog.New(hidingLog{log.Handler(), h}) }

type hidingLog struct {
	slog.Handler
	hider *Hider
}

// Handle implements slog.Handler.
func (l hidingLog) Handle(ctx context.Context, r slog.Record) error {
	masked := slog.NewRecord(r.Time, r.Level, l.hider.String(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		masked.AddAttrs(l.attr(a))
		return true
	})
	return l.Handler.Handle(ctx, masked)
}

// WithAttrs implements slog.Handler.
func (l hidingLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	masked := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		masked[i] = l.attr(a)
	}
	return hidingLog{l.Handler.WithAttrs(masked), l.hider}
}

// WithGroup implements slog.Handler.
func (l hidingLog) WithGroup(name string) slog.Handler {
	return hidingLog{l.Handler.WithGroup(name), l.hider}
}

// attr hides in what is text when it is written: numbers and times stay what they are.
func (l hidingLog) attr(a slog.Attr) slog.Attr {
	switch v := a.Value.Resolve(); v.Kind() { //nolint:exhaustive // the others are no text
	case slog.KindString, slog.KindAny:
		return slog.String(a.Key, l.hider.String(v.String()))
	case slog.KindGroup:
		group := make([]slog.Attr, len(v.Group()))
		for i, one := range v.Group() {
			group[i] = l.attr(one)
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}
	}
	return a
}

package infra

import (
	"context"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/lotse-eu/lotse/internal/privacy"
)

// pace is how often something at work is looked at: less often the longer nothing happens.
type pace struct {
	next *backoff.ExponentialBackOff
	look time.Duration
}

func (s *session) pace() *pace { return &pace{paced(s.Look, s.Look), s.Look} }

func paced(first, look time.Duration) *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier, b.RandomizationFactor = first, slowest*look, 1.5, 0.2
	b.Reset()
	return b
}

// Later looks are up to so many times as far apart as the first one, and so many times right after something has happened.
const (
	slowest = 30
	busiest = 4
)

// hurry looks more often again: something has happened.
func (p *pace) hurry() { p.next = paced(busiest*p.look, p.look) }

func (p *pace) wait(ctx context.Context) error {
	timer := time.NewTimer(p.next.NextBackOff())
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// scrubbed is a text of AWS without what may say who somebody is: it goes into errors and onto screens.
func scrubbed(text string) string { return privacy.Scrub(text) }

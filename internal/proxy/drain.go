package proxy

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	// partSteps: streams are asked to part in this many steps over the first four fifths of the drain time, the last
	// fifth is theirs to end.
	partSteps = 20
	drainTick = 10 * time.Millisecond
)

// drain waits until nothing of a release is in flight. See Client.Drain.
func (s *Server) drain(ctx context.Context, key, id string, timeout time.Duration) (Drained, error) {
	begin := time.Now()
	s.afterPredecessor(ctx, timeout)
	timeout -= time.Since(begin)
	s.mu.Lock()
	f := s.flights[flightKey{key, id}]
	s.mu.Unlock()
	if f == nil {
		return Drained{}, nil
	}
	if s.serves(f) {
		return Drained{}, fmt.Errorf("%s in %s: %w", id, key, ErrServing)
	}
	if s.noDrain {
		return Drained{}, nil
	}
	done, err := s.empty(ctx, f, timeout, s.serves)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep()
	if f.refs.Load() == 0 {
		f.closeIdle()
	}
	return done, err
}

// LetGo empties a release that goes on to serve: websockets and event streams part as in Client.Drain, also those that come meanwhile,
// and other requests end by themselves. It returns when at one instant nothing of the release is in flight, or after timeout, when
// what was in flight from the beginning is cut. New requests are answered throughout. An unknown release is Drained{}. A cancel ends
// the waiting; streams that were asked to part do.
func (s *Server) LetGo(ctx context.Context, key, releaseID string, timeout time.Duration) (Drained, error) {
	s.mu.Lock()
	f := s.flights[flightKey{key, releaseID}]
	s.mu.Unlock()
	if f == nil {
		return Drained{}, nil
	}
	s.drains.Add(1)
	defer s.drains.Add(-1)
	e := newEmptying(f, timeout)
	defer e.tick.Stop()
	old := func(x *exchange) bool { return !x.start.After(e.begin) }
	atStart := len(f.aloft(old))
	for over := false; f.refs.Load() > 0 && !over; {
		select {
		case <-ctx.Done():
			return Drained{}, ctx.Err()
		case <-e.tick.C:
		}
		over = e.step(old)
	}
	return e.drained(atStart), nil
}

func (s *Server) serves(f *flight) bool {
	if site := s.table.Load().sites[f.site]; site != nil {
		for _, r := range site.releases {
			if r.flight == f && r.share > 0 {
				return true
			}
		}
	}
	return false
}

func (f *flight) closeIdle() {
	for _, b := range f.backends {
		for _, t := range *b.targets.Load() {
			t.transport.CloseIdleConnections()
		}
	}
}

// empty brings the flight down to zero references: streams part little by little, the rest has until timeout. It gives up
// with ErrServing when the release is called back meanwhile.
func (s *Server) empty(ctx context.Context, f *flight, timeout time.Duration, recalled func(*flight) bool) (Drained, error) {
	atStart := int(f.refs.Load())
	s.drains.Add(1)
	defer s.drains.Add(-1)
	e := newEmptying(f, timeout)
	defer e.tick.Stop()
	for f.refs.Load() > 0 {
		select {
		case <-ctx.Done():
			return Drained{}, ctx.Err()
		case <-e.tick.C:
		}
		if recalled(f) {
			return Drained{}, fmt.Errorf("%s in %s: %w", f.id, f.site, ErrServing)
		}
		e.step(func(*exchange) bool { return true })
	}
	return e.drained(atStart), nil
}

// emptying is a flight on its way to nothing: streams part little by little, and after timeout the rest is cut.
type emptying struct {
	flight  *flight
	begin   time.Time
	timeout time.Duration
	tick    *time.Ticker
	spread  spread
	cut     int
}

func newEmptying(f *flight, timeout time.Duration) *emptying {
	return &emptying{flight: f, begin: time.Now(), timeout: timeout, spread: spread{span: timeout * 4 / 5},
		tick: time.NewTicker(max(min(drainTick, timeout/partSteps), time.Millisecond))}
}

// step does what is due now, and reports whether the time is over. Then of what is in the air all that may be cut is.
func (e *emptying) step(may func(*exchange) bool) (over bool) {
	since := time.Since(e.begin)
	streams := e.flight.aloft((*exchange).canPart)
	for _, x := range streams[:e.spread.due(since, len(streams))] {
		x.part()
	}
	if since < e.timeout {
		return false
	}
	for _, x := range e.flight.aloft(may) {
		if x.cut() {
			e.cut++
		}
	}
	return true
}

func (e *emptying) drained(atStart int) Drained {
	return Drained{Finished: max(atStart-e.cut, 0), Cut: e.cut}
}

// spread says how many streams to ask to part, so that they do not all come back at once.
type spread struct {
	span time.Duration
	last int // the step of the last portion
}

// due returns the portion of the waiting streams for this step: none twice in one step, none before the first step is
// over, all that are left from the last step on.
func (s *spread) due(since time.Duration, waiting int) int {
	step := int(since / max(s.span/partSteps, 1))
	if step <= s.last {
		return 0
	}
	s.last = step
	stepsLeft := max(partSteps-step, 0) + 1
	return (waiting + stepsLeft - 1) / stepsLeft
}

// leave ends the whole proxy: no new connections, goodbye on the kept ones, every release emptied in its site's time.
func (s *Server) leave(front *front) {
	s.closing.Store(true)
	times, longest := s.drainTimes()
	ctx, cancel := context.WithTimeout(context.Background(), longest)
	defer cancel()
	var all sync.WaitGroup
	all.Go(func() { front.goodbye(ctx) })
	s.emptyAll(times, func(t time.Duration) time.Duration { return t })
	all.Wait()
	// What came on kept connections meanwhile has the rest of the time.
	deadline, _ := ctx.Deadline()
	s.emptyAll(times, func(time.Duration) time.Duration { return time.Until(deadline) })
	close(s.ended)
	told, cancel := context.WithTimeout(context.Background(), lastWords)
	defer cancel()
	s.untilQuiet(told) // what waited says so to its client
	front.close()
	settled, cancel := context.WithTimeout(context.Background(), lingerTime)
	defer cancel()
	s.untilQuiet(settled)
}

func (s *Server) drainTimes() (times map[*flight]time.Duration, longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	longest, times = s.cfg.Drain, map[*flight]time.Duration{}
	for _, f := range s.flights {
		times[f] = s.cfg.Drain
		if site := s.table.Load().sites[f.site]; site != nil && site.Drain > 0 {
			times[f] = site.Drain
		}
		longest = max(longest, times[f])
	}
	return times, longest
}

func (s *Server) emptyAll(times map[*flight]time.Duration, limit func(time.Duration) time.Duration) {
	if s.noDrain {
		return
	}
	var all sync.WaitGroup
	for f, t := range times {
		all.Go(func() {
			done, _ := s.empty(context.Background(), f, limit(t), func(*flight) bool { return false })
			if done.Cut > 0 {
				s.log.Warn("requests were cut at the end", "site", f.site, "release", f.label, "cut", done.Cut)
			}
		})
	}
	all.Wait()
}

// untilQuiet waits for the last handlers, so that their lines reach the access log.
func (s *Server) untilQuiet(ctx context.Context) {
	tick := time.NewTicker(drainTick)
	defer tick.Stop()
	for s.air.Load() > 0 {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

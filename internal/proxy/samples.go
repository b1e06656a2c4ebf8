package proxy

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/latency"
)

// SampleSlot is the shortest span that samples tell apart.
const SampleSlot = 10 * time.Second

const (
	sampleTime    = 15 * time.Minute // how long a slot is kept
	sampleSlots   = int64(sampleTime/SampleSlot) + 1
	endpointsMost = 200 // of one service of a release
	otherEndpoint = "…"
	patternMost   = maxSegments*(1+maxWord+len(".xhtml")) + len("/…")
)

// Sample is what one endpoint of one service of a release did in a span of time.
type Sample struct {
	Release  string            `json:"release"`
	Service  string            `json:"service"`
	Method   string            `json:"method"`   // OTHER for what RFC 9110 and RFC 5789 do not name
	Endpoint string            `json:"endpoint"` // as the access log shows it; "…": more than 200 of the service, or 404 on one not seen before
	Requests uint64            `json:"requests"` // ended in the span, with any status
	Errors   uint64            `json:"errors"`   // 5xx, our own too, or broken off after the answer had begun, not by the client
	Latency  latency.Histogram `json:"latency"`  // until the end of the answer; without websockets and event streams
}

// Tally counts requests by method and endpoint in slots of SampleSlot, and forgets slots after 15 minutes. The zero Tally is empty. It is
// safe for concurrent use.
type Tally struct {
	mu  sync.RWMutex
	all map[string]*series // by method, space, endpoint
}

type series struct {
	mu    sync.Mutex
	gone  bool   // nobody had asked for 15 minutes, and the Tally has another by now
	slots []slot // ascending by number
}

// slot is sparse: most requests of an endpoint take about as long as the others.
type slot struct {
	number           int64 // seconds since 1970 in tens
	requests, errors uint64
	latency          []share
}

type share struct {
	bucket uint8
	n      uint32
}

// Add counts a request that ended at now. took below 0 is left out of the latencies.
func (t *Tally) Add(now time.Time, method, path string, status int, broken bool, took time.Duration) {
	bucket := -1
	if took >= 0 {
		bucket = latency.Bucket(took)
	}
	s := t.of(method, path, status)
	s.mu.Lock()
	for s.gone {
		s.mu.Unlock()
		s = t.of(method, path, status)
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	at := s.at(slotOf(now))
	at.requests++
	if status >= 500 || broken {
		at.errors++
	}
	at.count(bucket, 1)
}

// of finds the series without an allocation, unless it is a new one. What a client asks in vain makes none, or whoever looks for holes
// would crowd out the app's own endpoints.
func (t *Tally) of(method, path string, status int) *series {
	var room [patternMost + 8]byte
	name := append(append(room[:0], known(method)...), ' ')
	prefix := len(name)
	name = appendEndpoint(name, path)
	t.mu.RLock()
	s := t.all[string(name)]
	t.mu.RUnlock()
	if s != nil {
		return s
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if status == 404 || len(t.all) >= endpointsMost {
		name = append(name[:prefix], otherEndpoint...)
	}
	if s = t.all[string(name)]; s != nil {
		return s
	}
	if t.all == nil {
		t.all = map[string]*series{}
	}
	s = &series{}
	t.all[string(name)] = s
	return s
}

func known(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE":
		return method
	}
	return "OTHER"
}

func slotOf(t time.Time) int64 {
	return int64(math.Floor(float64(t.Unix()) / SampleSlot.Seconds()))
}

// at is the slot of this number. A new one forgets those that are too old, and too far ahead of a clock that went back. Under mu.
func (s *series) at(number int64) *slot {
	if last := len(s.slots) - 1; last >= 0 && s.slots[last].number == number {
		return &s.slots[last]
	}
	i, found := slices.BinarySearchFunc(s.slots, number, func(a slot, n int64) int { return cmp.Compare(a.number, n) })
	if !found {
		s.forget(number)
		i, _ = slices.BinarySearchFunc(s.slots, number, func(a slot, n int64) int { return cmp.Compare(a.number, n) })
		s.slots = slices.Insert(s.slots, i, slot{number: number})
	}
	return &s.slots[i]
}

func (s *series) forget(now int64) {
	s.slots = slices.DeleteFunc(s.slots, func(a slot) bool { return a.number <= now-sampleSlots || a.number >= now+sampleSlots })
}

func (s *slot) count(bucket int, n uint32) {
	if bucket < 0 {
		return
	}
	for i := range s.latency {
		if int(s.latency[i].bucket) == bucket {
			s.latency[i].n += n
			return
		}
	}
	s.latency = append(s.latency, share{uint8(bucket), n})
}

// Read returns one Sample for each method and endpoint that had a request between from and to, which are moved outwards to slots, sorted by
// these two, without the names of release and service. now is for what has become too old.
func (t *Tally) Read(now, from, to time.Time) []Sample {
	t.forget(now)
	t.mu.RLock()
	defer t.mu.RUnlock()
	var list []Sample
	for name, s := range t.all {
		sample := s.read(slotOf(from), slotOf(to.Add(SampleSlot-1)))
		if sample.Requests == 0 {
			continue
		}
		sample.Method, sample.Endpoint, _ = strings.Cut(name, " ")
		list = append(list, sample)
	}
	slices.SortFunc(list, func(a, b Sample) int {
		return cmp.Or(cmp.Compare(a.Method, b.Method), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return list
}

// read sums the slots from first up to and without end.
func (s *series) read(first, end int64) (sum Sample) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.slots {
		if a.number < first || a.number >= end {
			continue
		}
		sum.Requests += a.requests
		sum.Errors += a.errors
		for _, l := range a.latency {
			if missing := int(l.bucket) + 1 - len(sum.Latency); missing > 0 {
				sum.Latency = append(sum.Latency, make(latency.Histogram, missing)...)
			}
			sum.Latency[l.bucket] += uint64(l.n)
		}
	}
	return sum
}

// forget makes room for endpoints that come.
func (t *Tally) forget(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, s := range t.all {
		s.mu.Lock()
		if s.forget(slotOf(now)); len(s.slots) == 0 {
			s.gone = true
			delete(t.all, name)
		}
		s.mu.Unlock()
	}
}

// Samples is Client.Samples, for who has the Server in its own process.
func (s *Server) Samples(key string, from, to time.Time) []Sample {
	list := []Sample{}
	for _, c := range s.counts.ofSite(key) {
		for _, sample := range c.samples.Read(s.cfg.Clock(), from, to) {
			sample.Release, sample.Service = c.release, c.service
			list = append(list, sample)
		}
	}
	slices.SortStableFunc(list, func(a, b Sample) int {
		return cmp.Or(cmp.Compare(a.Release, b.Release), cmp.Compare(a.Service, b.Service))
	})
	return list
}

func (c *counts) ofSite(key string) (list []*count) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for of, services := range c.all {
		if of.site == key {
			for _, count := range services {
				list = append(list, count)
			}
		}
	}
	return list
}

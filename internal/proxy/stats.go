package proxy

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/lotse-eu/lotse/internal/latency"
)

// Stats is what a Server counted since it started.
type Stats struct {
	Since      time.Time      `json:"since"`
	Services   []ServiceStats `json:"services"`        // sorted by site, release, service
	Waiting    int64          `json:"waiting"`         // requests that wait for an instance now
	Draining   int64          `json:"draining"`        // drains that wait now
	LogDropped uint64         `json:"logDropped"`      // access log lines lost because the disk was too slow
	Notes      []string       `json:"notes,omitempty"` // what the operator should know, such as a damaged state file
}

// ServiceStats counts one service of one release. Releases that are gone stay until 16 newer ones of the site have come.
type ServiceStats struct {
	Site     string            `json:"site"`
	Release  string            `json:"release"`
	Label    string            `json:"label"`
	Service  string            `json:"service"`
	Requests uint64            `json:"requests"` // ended, with any status
	Status4x uint64            `json:"status4xx"`
	Status5x uint64            `json:"status5xx"`
	Aborted  uint64            `json:"aborted"` // broken off after the answer had begun, by the instance or by a cut
	InFlight int64             `json:"inFlight"`
	BytesIn  uint64            `json:"bytesIn"`
	BytesOut uint64            `json:"bytesOut"`
	Latency  latency.Histogram `json:"latency"` // until the end of the answer; without websockets and event streams
}

const keptReleases = 16

// count is one service's counters. Requests add to it without a lock.
type count struct {
	site, release, label, service         string
	requests, status4x, status5x, aborted atomic.Uint64
	bytesIn, bytesOut                     atomic.Uint64
	inFlight                              atomic.Int64
	latency                               [latency.Buckets]atomic.Uint64
	samples                               Tally
}

func (c *count) add(x *exchange, took time.Duration) {
	c.requests.Add(1)
	switch x.status / 100 {
	case 4:
		c.status4x.Add(1)
	case 5:
		c.status5x.Add(1)
	}
	if x.aborted {
		c.aborted.Add(1)
	}
	c.bytesIn.Add(uint64(x.body.n.Load()))
	c.bytesOut.Add(uint64(x.out))
	if !x.stream {
		c.latency[latency.Bucket(took)].Add(1)
	}
}

// sample counts for the endpoint, too.
func (c *count) sample(x *exchange, took time.Duration) {
	if header := x.server.cfg.Unsampled; header != "" && x.r.Header.Get(header) != "" {
		return
	}
	took -= x.heldFor
	if x.stream {
		took = -1
	}
	c.samples.Add(x.server.cfg.Clock(), x.r.Method, x.r.URL.Path, x.status, x.aborted, took)
}

func (c *count) read() ServiceStats {
	s := ServiceStats{Site: c.site, Release: c.release, Label: c.label, Service: c.service, Requests: c.requests.Load(),
		Status4x: c.status4x.Load(), Status5x: c.status5x.Load(), Aborted: c.aborted.Load(), InFlight: c.inFlight.Load(),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(), Latency: make(latency.Histogram, latency.Buckets)}
	for i := range c.latency {
		s.Latency[i] = c.latency[i].Load()
	}
	return s
}

// counts holds the counters, also of releases that are gone, up to a bound.
type counts struct {
	mu    sync.Mutex
	all   map[flightKey]map[string]*count // by service
	order map[string][]string             // site → releases, oldest first
	gates map[string]*count               // by site
}

// gateService is what counts the answers of a private site's gate, under no release. Status4x are mostly people who have not signed
// in yet.
const gateService = "lotse"

func (c *counts) gate(site string) *count {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gates == nil {
		c.gates = map[string]*count{}
	}
	if c.gates[site] == nil {
		c.gates[site] = &count{site: site, service: gateService}
	}
	return c.gates[site]
}

func (c *counts) of(f *flight, service string) *count {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all, c.order = map[flightKey]map[string]*count{}, map[string][]string{}
	}
	key := flightKey{f.site, f.id}
	if c.all[key] == nil {
		c.all[key] = map[string]*count{}
		c.order[f.site] = append(c.order[f.site], f.id)
		if old := c.order[f.site]; len(old) > keptReleases {
			delete(c.all, flightKey{f.site, old[0]})
			c.order[f.site] = old[1:]
		}
	}
	if c.all[key][service] == nil {
		c.all[key][service] = &count{site: f.site, release: f.id, label: f.label, service: service}
	}
	return c.all[key][service]
}

func (c *counts) read() []ServiceStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := []ServiceStats{}
	for _, services := range c.all {
		for _, count := range services {
			list = append(list, count.read())
		}
	}
	for _, count := range c.gates {
		list = append(list, count.read())
	}
	slices.SortFunc(list, func(a, b ServiceStats) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Release, b.Release), cmp.Compare(a.Service, b.Service))
	})
	return list
}

package deploy

import (
	"context"
	"net/http"
	"slices"
	"time"
)

// Browser loads pages as a person's browser does. It is safe for concurrent use; one visit at a time goes on, so that no figure is
// spoiled by another.
type Browser interface {
	// Visit loads every page Times times, each time cold: with nothing kept from before. All requests for Hosts are answered by Site,
	// whatever their port, and none leaves this machine; requests for other hosts go where the page wants. A page that does not end
	// within Each is ErrGate, as one that answers with an error, or that leads to another host. ErrUnsupported where there is no
	// browser. Nothing of the browser runs on after the return, nor after the death of this process.
	Visit(ctx context.Context, v Visit) (Visited, error)

	// Prune removes what was kept of rollouts that are not in keep.
	Prune(keep []string) error
}

// Visit is what a Browser is asked for.
type Visit struct {
	Rollout string
	Address string   // https://host[:port] of the stage, as people reach it
	Hosts   []string // of the stage, without ports
	Site    http.Handler
	Pages   []string // paths and queries
	Times   int
	Each    time.Duration // most that one load may take
	Network Network
	CPU     float64 // so many times slower; 1 is as it is
}

// Network is how slow a visitor's connection is made to be.
type Network struct {
	Name  string
	Delay time.Duration // added to each request until the head of its answer comes
	Down  int64         // bit a second; 0: as fast as it is
	Up    int64         // bit a second
}

// Networks are the connections that can be asked for, the usual one first. 4g and slow 4g have the round trips and rates of Lighthouse's
// throttling profiles desktopDense4G and mobileSlow4G, 3g those of its mobileRegular3G (core/config/constants.js).
func Networks() []Network {
	return []Network{
		{"4g", 40 * time.Millisecond, 10_240_000, 10_240_000},
		{"slow 4g", 150 * time.Millisecond, 1_638_400, 750_000},
		{"3g", 300 * time.Millisecond, 700_000, 700_000},
		{"none", 0, 0, 0},
	}
}

func networkNames() (names []string) {
	for _, n := range Networks() {
		names = append(names, n.Name)
	}
	return names
}

// networkOf finds a network by its name; empty is the usual one.
func networkOf(name string) Network {
	all := Networks()
	return all[max(0, slices.IndexFunc(all, func(n Network) bool { return n.Name == name }))]
}

// Visited is what a Browser saw.
type Visited struct {
	Browser string // its name and version
	Folder  string // where screenshots and all figures are kept, relative to the state folder
	Pages   []PageSeen
}

// PageSeen is one page of a Visit.
type PageSeen struct {
	Path     string        `json:"path"`
	Load     time.Duration `json:"load"`  // median until the load event has ended, from the beginning of the visit
	Paint    time.Duration `json:"paint"` // median until the largest content was painted; 0: nothing was that counts as content
	Requests int           `json:"requests"`
	Bytes    int64         `json:"bytes"`             // as they came over the wire
	Foreign  int           `json:"foreign,omitempty"` // of Requests: to hosts that are not the stage's
	Heaviest []Resource    `json:"heaviest,omitempty"`
}

// Slowest is the figure that a limit is compared with: the page is there when it has loaded and shows its largest content.
func (p PageSeen) Slowest() time.Duration { return max(p.Load, p.Paint) }

// Resource is one file that a page is made of.
type Resource struct {
	Name  string `json:"name"` // its path, without the query; with the host where that is not the stage's
	Bytes int64  `json:"bytes"`
}

package proxy

import "time"

// waiting for an instance is bounded in time, per request, and in number, per site.
const (
	waitLimit   = 10 * time.Second
	waitersMost = 1000
)

// patience is how long and with how many others a request waits for an instance.
type patience struct {
	site  *siteCommon
	timer *time.Timer
	full  bool
}

func newPatience(site *siteCommon) *patience {
	p := &patience{site: site, timer: time.NewTimer(waitLimit)}
	p.full = site.waiting.Add(1) > waitersMost
	return p
}

func (p *patience) end() {
	if p != nil {
		p.timer.Stop()
		p.site.waiting.Add(-1)
	}
}

// wait returns true when it is worth trying again.
func (p *patience) wait(x *exchange, swapped, changed <-chan struct{}) bool {
	if p.full {
		return false
	}
	select {
	case <-swapped:
	case <-changed:
	case <-p.timer.C:
		return false
	case <-x.r.Context().Done():
		return false
	case <-x.server.ended:
		return false
	}
	return true
}

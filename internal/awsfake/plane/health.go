package plane

import (
	"context"
	"time"
)

// InstanceHealth is what enhanced health says of an instance.
type InstanceHealth struct {
	ID     string
	Status string // Pending, Ok, Severe, NoData
	Color  string // Grey, Green, Red
	Causes []string
	Since  time.Time // of the launch
}

// Health says how the instance is: Pending until its first checks are in, Ok while they are good, Severe with the causes when
// the deployment failed or checks fail, NoData when it is gone or off the network.
func (i *Instance) Health() InstanceHealth {
	i.mu.Lock()
	defer i.mu.Unlock()
	h := InstanceHealth{ID: i.o.ID, Since: i.since}
	switch {
	case i.gone || i.away:
		h.Status, h.Color, h.Causes = "NoData", "Grey", []string{"Instance has not sent any data since it was last seen."}
	case i.cause != "":
		h.Status, h.Color, h.Causes = "Severe", "Red", []string{"Application deployment failed: " + i.cause}
	case i.bad >= i.o.Health.Unhealthy && (i.good > 0 || time.Since(i.began) > i.o.Patience):
		h.Status, h.Color = "Severe", "Red"
		h.Causes = []string{"ELB processes are not healthy on this instance: " + i.verdict.reason + " (" + i.verdict.description + ")"}
	case !i.started || i.good == 0:
		h.Status, h.Color, h.Causes = "Pending", "Grey", []string{"Performing initial health checks."}
	default:
		h.Status, h.Color = "Ok", "Green"
	}
	return h
}

func (i *Instance) setCause(err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.cause = err.Error()
}

// watch asks the instance for as long as it lives.
func (i *Instance) watch(ctx context.Context) {
	i.mu.Lock()
	i.began = time.Now()
	i.mu.Unlock()
	tick := time.NewTicker(i.o.Health.Interval)
	defer tick.Stop()
	for {
		i.judge(i.o.Health.ask(ctx, i))
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (i *Instance) judge(v verdict) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.verdict = v
	if v.good() {
		i.good, i.bad = i.good+1, 0
		return
	}
	i.bad++
}

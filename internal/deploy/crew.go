package deploy

import "sync"

// crew runs what goes on beside Run: walks and retirements. Once it is dismissed nobody joins any more, so that Run never returns
// while somebody is still at work (a bare WaitGroup may not grow while it is waited for). It is safe for concurrent use.
type crew struct {
	mu        sync.Mutex
	dismissed bool
	at        sync.WaitGroup
}

// Go runs f in a goroutine of its own, or says that it is too late for that.
func (c *crew) Go(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dismissed {
		return false
	}
	c.at.Go(f)
	return true
}

// Dismiss lets nobody join any more, and waits for those who did.
func (c *crew) Dismiss() {
	c.mu.Lock()
	c.dismissed = true
	c.mu.Unlock()
	c.at.Wait()
}

package proxy

import (
	"crypto/sha256"
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	attemptTime  = time.Minute
	attemptsMost = 10  // wrong passwords of one client prefix in that time
	attemptsSite = 300 // … and of all of them together, which is what bounds the memory, too
)

// attempts counts the wrong passwords that a site was given in the last minute, by client prefix (IPv4 /24, IPv6 /48). It knows
// prefixes only by a keyed hash whose key is lost with the process.
type attempts struct {
	seed  maphash.Seed
	clock func() time.Time

	mu    sync.Mutex
	all   tries
	byWho map[uint64]*tries
}

type tries struct {
	since time.Time
	wrong int
	known [][sha256.Size]byte // digests of what was tried, so that a client that repeats one mistake is not shut out
}

func newAttempts(clock func() time.Time) *attempts {
	return &attempts{seed: maphash.MakeSeed(), clock: clock, byWho: map[uint64]*tries{}}
}

func (a *attempts) who(client netip.Addr) uint64 {
	bits := 48
	if client.Is4() {
		bits = 24
	}
	prefix, _ := client.Prefix(bits) // no address: the zero prefix
	return maphash.Comparable(a.seed, prefix)
}

// judge looks at a password, or says how long its sender must wait before another is looked at. One at a time, so that as many at
// once get no more looks than as many in a row. again: the same wrong one counts again.
func (a *attempts) judge(client netip.Addr, given [sha256.Size]byte, again bool, right func() bool) (v verdict) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, who := a.clock(), a.who(client)
	if a.all.fresh(now) {
		clear(a.byWho)
	}
	own := a.byWho[who]
	if own == nil {
		own = &tries{since: now}
	}
	own.fresh(now)
	if !again && slices.Contains(own.known, given) {
		return verdict{kind: isWrong}
	}
	switch {
	case own.wrong >= attemptsMost:
		return verdict{kind: isLimited, wait: own.left(now)}
	case a.all.wrong >= attemptsSite:
		return verdict{kind: isLimited, wait: a.all.left(now)}
	case right():
		return verdict{kind: isRight}
	}
	a.all.wrong++
	own.wrong++
	own.known = append(own.known, given)
	a.byWho[who] = own
	return verdict{kind: isWrong}
}

// fresh begins another minute where the last is over.
func (t *tries) fresh(now time.Time) bool {
	if age := now.Sub(t.since); age >= 0 && age < attemptTime {
		return false
	}
	*t = tries{since: now}
	return true
}

func (t *tries) left(now time.Time) time.Duration { return t.since.Add(attemptTime).Sub(now) }

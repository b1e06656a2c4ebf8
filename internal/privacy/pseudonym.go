// Package privacy says what is personal, and what becomes of it. Pure rules, no I/O.
package privacy

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"sync"
	"time"
)

// Pseudonyms names network addresses without keeping them. An IP address is personal data (GDPR recital 30; ECJ C-582/14,
// Breyer), so the address is first cut to its network (IPv4 /24, IPv6 /48) and then hashed with a random salt that lives in
// memory alone and is thrown away at the end of the UTC day: within a day one can count visitors and see who hammers, after
// it nobody can compute back or link days. The zero value is ready; it is safe for concurrent use.
type Pseudonyms struct {
	Now func() time.Time // nil: time.Now

	mu   sync.Mutex
	day  string
	salt [32]byte
}

// Of returns 12 hexadecimal digits, the same for one network during one day. An invalid address is "-".
func (p *Pseudonyms) Of(address netip.Addr) string {
	if !address.IsValid() {
		return "-"
	}
	salt := p.today()
	mac := hmac.New(sha256.New, salt[:])
	mac.Write(Network(address).Addr().AsSlice())
	return hex.EncodeToString(mac.Sum(nil)[:6])
}

// Network cuts an address to the part that may be used: IPv4 /24, IPv6 /48.
func Network(address netip.Addr) netip.Prefix {
	address = address.Unmap().WithZone("")
	bits := 48
	if address.Is4() {
		bits = 24
	}
	return netip.PrefixFrom(address, bits).Masked()
}

func (p *Pseudonyms) today() [32]byte {
	now := time.Now
	if p.Now != nil {
		now = p.Now
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if day := now().UTC().Format(time.DateOnly); day != p.day {
		p.day = day
		rand.Read(p.salt[:]) // never fails, by its documentation
	}
	return p.salt
}

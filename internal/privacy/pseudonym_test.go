package privacy_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/privacy"
)

func TestPseudonyms(t *testing.T) {
	day := time.Date(2026, 3, 1, 23, 59, 59, 0, time.UTC)
	p := privacy.Pseudonyms{Now: func() time.Time { return day }}
	of := func(s string) string { return p.Of(netip.MustParseAddr(s)) }

	if of("192.0.2.1") != of("192.0.2.254") || of("2001:db8:1::1") != of("2001:db8:1:ffff::2") || of("::ffff:192.0.2.1") != of("192.0.2.9") {
		t.Error("one network has two names")
	}
	if of("192.0.2.1") == of("192.0.3.1") || of("2001:db8:1::1") == of("2001:db8:2::1") {
		t.Error("two networks have one name")
	}
	before := of("192.0.2.1")
	day = day.Add(2 * time.Second)
	if of("192.0.2.1") == before {
		t.Error("the name outlived the day")
	}
	if got := of("192.0.2.1"); len(got) != 12 || strings.Contains(got, ".") {
		t.Error("the name shows the address")
	}
	other := privacy.Pseudonyms{Now: p.Now}
	if other.Of(netip.MustParseAddr("192.0.2.1")) == of("192.0.2.1") {
		t.Error("the name can be computed without the salt")
	}
	if p.Of(netip.Addr{}) != "-" {
		t.Error("an invalid address has a name")
	}
}

func TestNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"198.51.100.77":          "198.51.100.0/24",
		"2001:db8:aa:bb::1":      "2001:db8:aa::/48",
		"::ffff:198.51.100.77":   "198.51.100.0/24",
		"fe80::1234:5678%eth0":   "fe80::/48",
		"2001:db8:aa:bb:cc::1%x": "2001:db8:aa::/48",
	} {
		if got := privacy.Network(netip.MustParseAddr(address)).String(); got != want {
			t.Errorf("Network(%s) = %s, want %s", address, got, want)
		}
	}
}

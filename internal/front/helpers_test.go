package front

import (
	"encoding/base64"
	"net/netip"
	"testing"
)

func mustAddr(t *testing.T, text string) netip.Addr {
	t.Helper()
	addr, err := netip.ParseAddr(text)
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	addr, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return int(addr.Port())
}

func basic(password string) string { return base64.StdEncoding.EncodeToString([]byte(":" + password)) }

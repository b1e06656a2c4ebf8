package main

import (
	"errors"
	"net"
	"strconv"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// listen takes a port of the IPv4 loopback for as long as the test runs.
func listen(t *testing.T) (port int, end func() error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).Port, l.Close
}

func TestChoosePorts(t *testing.T) {
	a, endA := listen(t)
	b, endB := listen(t)
	c, endC := listen(t)
	if err := errors.Join(endA(), endB(), endC()); err != nil {
		t.Fatal(err)
	}
	taken, _ := listen(t)
	for _, test := range []struct{ asked, kept, want ports }{
		{ports{}, ports{a, b}, ports{a, b}},
		{ports{a, b}, ports{}, ports{a, b}},
		{ports{HTTPS: c}, ports{a, b}, ports{c, b}},
		{ports{HTTP: c}, ports{a, b}, ports{a, c}},
		{ports{a, c}, ports{a, taken}, ports{a, c}},
		{ports{HTTPS: c}, ports{a, taken}, ports{c, taken}}, // it is ours: the proxy has it
	} {
		if got, err := choosePorts(test.asked, test.kept); err != nil || got != test.want {
			t.Errorf("asked %v, kept %v: %v, %v; want %v", test.asked, test.kept, got, err, test.want)
		}
	}
	_, err := choosePorts(ports{HTTPS: taken}, ports{})
	if !errors.Is(err, deploy.ErrBadInput) || strings.Count(err.Error(), strconv.Itoa(taken)) != 1 || deploy.HintOf(err) == "" {
		t.Errorf("a taken port: %v", err)
	}
	// One port asked for and none kept: the other one is of the usual pairs, never any.
	if got, err := choosePorts(ports{HTTPS: c}, ports{}); err == nil && got.HTTP != 80 && got.HTTP != 8080 {
		t.Errorf("the port that nobody asked for is %d", got.HTTP)
	}
}

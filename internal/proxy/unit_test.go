package proxy

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestEndpointsHideWhatIsPersonal(t *testing.T) {
	for path, want := range map[string]string{
		"/":              "/",
		"":               "/",
		"/api/v2/orders": "/api/v2/orders",
		"/api/orders/":   "/api/orders/",
		"/api/orders/17": "/api/orders/{id}",
		"/u/b3e1c7d2-1111-4222-8333-444455556666/edit": "/u/{id}/edit",
		"/verify/anna.lena@example.org":                "/verify/{id}",
		"/verify/anna@example.org":                     "/verify/{id}",
		"/d/2026-01-02":                                "/d/{id}",
		"/reset/eyJhbGciOiJIUzI1NiJ9":                  "/reset/{id}",
		"/reset/eyJhbGci.eyJzdWIi.c2lnbmF0dXJl":        "/reset/{id}",
		"/assets/index-B7xA93kd.js":                    "/assets/{id}.js",
		"/favicon.ico":                                 "/favicon.ico",
		"/ä/b c/%zz":                                   "/{id}/{id}/{id}",
		"/api/getUserById":                             "/api/getUserById",
		"/tel/+491701234567":                           "/tel/{id}",
		"/a/b/c/d/e/f/g/h/i/j":                         "/a/b/c/d/e/f/g/h/…",
		"/" + strings.Repeat("long", 9):                "/{id}",
	} {
		mustBe(t, "endpoint of "+path, endpoint(path), want)
	}
}

// Whatever the path: no digit run of more than two, no mail address, no query, bounded length, and it is its own pattern.
func FuzzEndpoint(f *testing.F) {
	for _, seed := range []string{"/", "/a/1", "/x@y.de", "//", "/a?b=c", "/{id}", "/\xff", "/a/…"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got := endpoint(path)
		if strings.ContainsAny(got, "@?&=\n\"%+ ") || !strings.HasPrefix(got, "/") || len(got) > (maxWord+8)*(maxSegments+1) {
			t.Errorf("endpoint(%q) = %q", path, got)
		}
		digits := 0
		for _, c := range []byte(got) {
			if digits++; c < '0' || c > '9' {
				digits = 0
			}
			if digits > maxDigits+3 {
				t.Errorf("endpoint(%q) = %q has a number", path, got)
			}
		}
	})
}

// frame builds one frame.
func frame(opcode byte, size int, masked bool) []byte {
	head := []byte{0x80 | opcode, 0}
	switch {
	case size < 126:
		head[1] = byte(size)
	case size < 1<<16:
		head[1] = 126
		head = binary.BigEndian.AppendUint16(head, uint16(size))
	default:
		head[1] = 127
		head = binary.BigEndian.AppendUint64(head, uint64(size))
	}
	if masked {
		head[1] |= 0x80
		head = append(head, 1, 2, 3, 4)
	}
	return append(head, bytes.Repeat([]byte{0x88}, size)...) // a payload that looks like heads
}

// The tracker is compared with how the stream was made, cut into any pieces.
func TestFrameBoundariesInAnyPieces(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var stream []byte
		ends := map[int]bool{0: true}
		closed := -1
		for range rapid.IntRange(1, 6).Draw(t, "frames") {
			op := byte(rapid.SampledFrom([]int{0, 1, 2, 8, 9, 10}).Draw(t, "opcode"))
			size := rapid.SampledFrom([]int{0, 1, 125, 126, 127, 200, 65535, 65536}).Draw(t, "size")
			stream = append(stream, frame(op, size, rapid.Bool().Draw(t, "masked"))...)
			ends[len(stream)] = true
			if op == opClose && closed < 0 {
				closed = len(stream)
			}
		}
		var f frames
		for at := 0; at < len(stream); {
			piece := min(rapid.IntRange(1, 70000).Draw(t, "piece"), len(stream)-at)
			for p := stream[at : at+piece]; len(p) > 0; {
				n, end := f.next(p)
				at += n
				p = p[n:]
				if end != ends[at] || f.between() != ends[at] {
					t.Fatalf("at %d: end %v, between %v, want %v", at, end, f.between(), ends[at])
				}
				if f.closed != (closed >= 0 && at >= closed) {
					t.Fatalf("at %d: closed %v", at, f.closed)
				}
			}
		}
	})
}

// Any bytes in any pieces give the same answer as the same bytes one by one, and next always makes progress.
func FuzzFrames(f *testing.F) {
	f.Add(frame(1, 10, true), uint64(1))
	f.Add(append(frame(2, 126, false), goingAway()...), uint64(2))
	f.Add([]byte{0x81, 127, 0xff, 0, 0, 0, 0, 0, 0, 0, 1}, uint64(3))
	f.Add(goingAwayMasked(), uint64(4))
	f.Fuzz(func(t *testing.T, data []byte, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		var single, pieces frames
		for p := data; len(p) > 0; {
			n := 1 + random.IntN(len(p))
			pieces.pass(p[:n])
			for i := range n {
				if k, _ := single.next(p[i : i+1]); k != 1 {
					t.Fatalf("one byte took %d", k)
				}
			}
			p = p[n:]
			if single.between() != pieces.between() || single.closed != pieces.closed {
				t.Fatalf("pieces %+v, single bytes %+v", pieces, single)
			}
		}
	})
}

// dispatched interprets an event stream as the standard says, the simple way, on the whole text. It returns the events,
// and whether something is half said at the end.
func dispatched(text string) (blocks int, half bool) {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	lines := strings.Split(text, "\n")
	last := lines[len(lines)-1]
	pending := false
	for _, l := range lines[:len(lines)-1] {
		switch {
		case l == "":
			if pending {
				blocks++
			}
			pending = false
		case l[0] != ':':
			pending = true
		}
	}
	return blocks, pending || last != ""
}

// The finder is compared with the simple interpreter at every place where a piece ends.
func FuzzEvents(f *testing.F) {
	for _, seed := range []string{"data: a\n\n", "data: a\r\n\r\n", "data: a\r\rdata", ": c\n", "id: 1\n\n\n:\n\ndata:x", "\r\n", "\n\r", "a\r\n\r\n\nb"} {
		f.Add(seed, uint64(1))
	}
	f.Fuzz(func(t *testing.T, text string, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 0))
		var e, single events
		for i := range len(text) {
			single.pass([]byte{text[i]})
			if _, half := dispatched(text[:i+1]); single.between() == half {
				t.Fatalf("after %q: between %v, half %v", text[:i+1], single.between(), half)
			}
		}
		for at := 0; at < len(text); {
			n := 1 + random.IntN(len(text)-at)
			last := e.pass([]byte(text[at : at+n]))
			want := -1
			for i := 1; i <= n; i++ {
				if _, half := dispatched(text[:at+i]); !half {
					want = i
				}
			}
			if last != want {
				t.Fatalf("in %q of %q: last boundary %d, want %d", text[at:at+n], text, last, want)
			}
			at += n
			if _, half := dispatched(text[:at]); e.between() == half {
				t.Fatalf("after %q: between %v, half %v", text[:at], e.between(), half)
			}
		}
	})
}

func TestShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		first := rapid.IntRange(0, 100).Draw(t, "share")
		s := &liveSite{common: &siteCommon{}, releases: []*liveRelease{{share: first}, {share: 100 - first}}}
		s.common.turn.Store(rapid.Uint32().Draw(t, "turn"))
		if s.common.turn.Load() > 1<<32-101 {
			return // the wrap of the counter breaks one round in 43 million
		}
		got := 0
		for range 100 {
			if s.pick() == s.releases[0] {
				got++
			}
		}
		if got != first {
			t.Fatalf("%d of 100, want %d", got, first)
		}
	})
}

func TestUnder(t *testing.T) {
	for _, c := range []struct {
		path, prefix string
		want         bool
	}{{"/api", "/api", true}, {"/api/x", "/api", true}, {"/apix", "/api", false}, {"/", "/", true}, {"/x", "/", true},
		{"/api/", "/api/", true}, {"/api/x", "/api/", true}, {"/api", "/api/", false}, {"", "/", false}} {
		mustBe(t, c.path+" under "+c.prefix, under(c.path, c.prefix), c.want)
	}
}

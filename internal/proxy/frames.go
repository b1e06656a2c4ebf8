package proxy

import "encoding/binary"

// opClose is the opcode of a close frame, RFC 6455 §5.5.1.
const opClose = 0x8

// frames finds where frames end in one direction of a websocket (RFC 6455 §5.2), whatever pieces the bytes come in. It
// looks at lengths and opcodes only. Control frames may stand between the fragments of a message (§5.4), so that every
// frame boundary is a place for a close frame.
type frames struct {
	head   [14]byte
	have   int    // bytes of head that are there
	left   uint64 // bytes of the payload still to come
	inside bool   // head is whole, the payload is not
	broken bool   // a length that RFC 6455 forbids: no boundary is to be trusted any more
	closed bool   // a close frame has ended
}

// between reports whether the bytes so far end at a frame boundary.
func (f *frames) between() bool { return f.have == 0 && !f.inside && !f.broken }

// next consumes p up to the end of the frame that it is in. It returns how many bytes that took, and whether the frame
// ends there; when it does not, all of p was taken.
func (f *frames) next(p []byte) (n int, end bool) {
	if f.broken {
		return len(p), false
	}
	for !f.inside {
		k := copy(f.head[f.have:f.headLen()], p[n:])
		f.have += k
		n += k
		if f.have < f.headLen() {
			return n, false
		}
		if f.left = f.payload(); f.left>>63 != 0 {
			f.broken = true
			return len(p), false
		}
		f.inside = true
	}
	k := min(f.left, uint64(len(p)-n))
	f.left -= k
	n += int(k)
	if f.left > 0 {
		return n, false
	}
	f.closed = f.closed || f.head[0]&0x0f == opClose
	f.have, f.inside = 0, false
	return n, true
}

// pass consumes all of p.
func (f *frames) pass(p []byte) {
	for len(p) > 0 {
		n, _ := f.next(p)
		p = p[n:]
	}
}

// headLen is the length of the head as far as it is known.
func (f *frames) headLen() int {
	if f.have < 2 {
		return 2
	}
	n := 2
	switch f.head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if f.head[1]&0x80 != 0 {
		n += 4
	}
	return n
}

func (f *frames) payload() uint64 {
	switch short := f.head[1] & 0x7f; short {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		return binary.BigEndian.Uint64(f.head[2:])
	default:
		return uint64(short)
	}
}

// goingAway is the close frame 1001 of a server (RFC 6455 §7.4.1).
func goingAway() []byte { return []byte{0x80 | opClose, 2, 0x03, 0xe9} }

// goingAwayMasked is the same from a client, which must mask (§5.3); a mask of zeros is a mask.
func goingAwayMasked() []byte { return []byte{0x80 | opClose, 0x80 | 2, 0, 0, 0, 0, 0x03, 0xe9} }

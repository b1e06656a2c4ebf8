package snapshot

import (
	"bytes"
	"fmt"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// sum is what the rows of a table add up to, whatever order they come in: how many there are, and the sum, modulo 2^128, of a 128-bit
// XXH3 hash of each as COPY writes it. A sum and not an exclusive or, by which two equal rows would be as none.
//
// It is there to find faults, for which XXH3 is as good as SHA-256 and takes a tenth of the time; against somebody who means harm stands
// age, by which the sums and the rows are sealed.
type sum struct {
	rows   int64
	hi, lo uint64
}

func (s *sum) add(h xxh3.Uint128) {
	var carry uint64
	s.lo, carry = bits.Add64(s.lo, h.Lo, 0)
	s.hi, _ = bits.Add64(s.hi, h.Hi, carry)
	s.rows++
}

func (s *sum) addAll(other sum) {
	rows := s.rows + other.rows
	s.add(xxh3.Uint128{Hi: other.hi, Lo: other.lo})
	s.rows = rows
}

func (s sum) String() string { return fmt.Sprintf("%016x%016x", s.hi, s.lo) }

func newHash() *xxh3.Hasher { return xxh3.New() }

// endOfRows is the line that ends the rows of a table; what follows it is no row.
const endOfRows = `\.`

// lineSum adds up lines that come in pieces, cut anywhere. pg_dump of PostgreSQL 15 writes a piece for each row.
type lineSum struct {
	sum   sum
	begun *xxh3.Hasher // of a line whose end has not come yet
	start []byte       // its first bytes, by which the end of rows is known
	open  bool
	ended bool
}

func (l *lineSum) add(piece []byte) {
	for len(piece) > 0 && !l.ended {
		end := bytes.IndexByte(piece, '\n')
		if end < 0 {
			l.keep(piece)
			return
		}
		l.line(piece[:end])
		piece = piece[end+1:]
	}
}

// keep takes the first part of a line.
func (l *lineSum) keep(piece []byte) {
	if l.begun == nil {
		l.begun = newHash()
	}
	l.open = true
	if room := len(endOfRows) + 1 - len(l.start); room > 0 {
		l.start = append(l.start, piece[:min(room, len(piece))]...)
	}
	_, _ = l.begun.Write(piece) // a hash takes everything
}

// line takes the last part of a line, or a whole one.
func (l *lineSum) line(piece []byte) {
	if l.open {
		l.keep(piece)
		if string(l.start) == endOfRows {
			l.ended = true
			return
		}
		l.sum.add(l.begun.Sum128())
		l.begun.Reset()
		l.start, l.open = l.start[:0], false
		return
	}
	if string(piece) == endOfRows {
		l.ended = true
		return
	}
	l.sum.add(xxh3.Hash128(piece))
}

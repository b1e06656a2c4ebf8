package photo

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrNotAPhoto: the bytes are not a whole JPEG image.
var ErrNotAPhoto = errors.New("not a JPEG image")

// Markers of a JPEG stream, ITU T.81 table B.1.
const (
	soi   = 0xD8
	eoi   = 0xD9
	sos   = 0xDA
	com   = 0xFE
	app0  = 0xE0 // JFIF
	app2  = 0xE2 // colour profile, among others
	app14 = 0xEE // Adobe: how colours are to be read
	app15 = 0xEF
	rst0  = 0xD0
	rst7  = 0xD7
)

// copyBare copies one JPEG image from r to w as it streams by, without anything that is
// not picture: no Exif (where the phone was, whose it is), no comments, no preview, and
// nothing after the end.
func copyBare(w io.Writer, r io.Reader) error {
	j := &copier{in: bufio.NewReader(r), out: bufio.NewWriter(w)}
	if j.byte() != 0xFF || j.byte() != soi {
		return tooShort(j.err)
	}
	j.put(0xFF, soi)
	pictured := false
	for j.err == nil {
		marker := j.marker()
		switch {
		case j.err != nil:
		case marker == eoi:
			if !pictured {
				return ErrNotAPhoto
			}
			j.put(0xFF, eoi)
			return j.out.Flush()
		case marker == sos:
			pictured = true
			j.segment(marker)
			j.scan()
		default:
			j.segment(marker)
		}
	}
	return tooShort(j.err)
}

// tooShort reports an end that came too early as what it is, and other errors as they are.
func tooShort(err error) error {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrNotAPhoto
	}
	return err
}

type copier struct {
	in  *bufio.Reader
	out *bufio.Writer
	err error // the first one; everything after it does nothing
}

func (j *copier) byte() byte {
	if j.err != nil {
		return 0
	}
	var b byte
	b, j.err = j.in.ReadByte()
	return b
}

func (j *copier) put(bs ...byte) {
	if j.err == nil {
		_, j.err = j.out.Write(bs)
	}
}

// marker reads the next marker, with the fill bytes that may stand before it.
func (j *copier) marker() byte {
	if j.byte() != 0xFF && j.err == nil {
		j.err = ErrNotAPhoto
	}
	b := j.byte()
	for b == 0xFF && j.err == nil {
		b = j.byte()
	}
	return b
}

// segment copies a segment with its length, or drops it.
func (j *copier) segment(marker byte) {
	n := int(j.byte())<<8 | int(j.byte())
	if j.err == nil && n < 2 {
		j.err = fmt.Errorf("%w: a segment of %d bytes", ErrNotAPhoto, n)
	}
	if j.err != nil {
		return
	}
	body := make([]byte, n-2)
	if _, j.err = io.ReadFull(j.in, body); j.err == nil && needed(marker, body) {
		j.put(0xFF, marker, byte(n>>8), byte(n))
		j.put(body...)
	}
}

func needed(marker byte, body []byte) bool {
	switch {
	case marker == app2:
		return bytes.HasPrefix(body, []byte("ICC_PROFILE\x00"))
	case marker == app0, marker == app14:
		return true
	}
	return marker != com && (marker < app0 || marker > app15)
}

// scan copies entropy-coded data up to the next marker, which it leaves unread.
func (j *copier) scan() {
	for j.err == nil {
		next, err := j.in.Peek(2)
		if err != nil {
			j.err = err
			return
		}
		inside := next[1] == 0 || next[1] >= rst0 && next[1] <= rst7
		if next[0] == 0xFF && !inside {
			return
		}
		j.put(j.byte())
	}
}

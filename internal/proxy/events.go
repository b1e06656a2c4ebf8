package proxy

// events finds the places between two events in an event stream (HTML, "9.2.6 Interpreting an event stream"), whatever
// pieces the bytes come in. Such a place is the start of a line with no field since the last blank line: what is sent up to
// there the client has dispatched, and nothing of it is half. Lines end with LF, CR or CRLF; comments are no fields.
type events struct {
	inLine  bool // the line has begun
	comment bool // … with a colon
	field   bool // the block has a field
	cr      bool // the last byte was CR: an LF now belongs to it
}

// between reports whether the bytes so far end between two events.
func (e *events) between() bool { return !e.inLine && !e.field }

// pass consumes p and returns the length of its longest beginning that ends between two events, -1 when none does.
func (e *events) pass(p []byte) int {
	last := -1
	for i, c := range p {
		e.step(c)
		if e.between() {
			last = i + 1
		}
	}
	return last
}

func (e *events) step(c byte) {
	afterCR := e.cr
	e.cr = c == '\r'
	switch {
	case c == '\n' && afterCR:
	case c == '\n' || c == '\r':
		e.field = e.inLine && (e.field || !e.comment)
		e.inLine = false
	case !e.inLine:
		e.inLine, e.comment = true, c == ':'
	}
}

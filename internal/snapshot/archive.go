package snapshot

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// contents is what an archive of pg_dump's custom format says of a database: what is in it, and what its rows add up to. It is read
// from the stream while that goes by, so that it costs the database nothing.
type contents struct {
	server, tool string // versions: of the database, and of pg_dump
	ints         int    // bytes of a number in it
	entries      []entry
	sums         map[int]sum   // by id of the entry
	blocks       map[int]block // the same
}

// block is where the data of an entry lies in the archive, with the lengths of its pieces between them.
type block struct{ begin, end int64 }

// entry is one line of the table of contents.
type entry struct {
	id        int
	hasData   bool
	kind      string // "TABLE DATA", "INDEX", …: pg_dump's words
	schema    string
	name      string
	statement string
	owner     string
	section   int
	fill      string // COPY, which takes the rows
	access    string // "heap": how a table keeps its rows
}

// what is how an entry is told to people.
func (e entry) what() string {
	if e.schema == "" {
		return strings.ToLower(e.kind) + " " + e.name
	}
	return strings.ToLower(e.kind) + " " + e.schema + "." + e.name
}

// table is the name of the table whose rows an entry holds.
func (e entry) table() string {
	if e.kind == kindBlobs {
		return "large objects"
	}
	return e.schema + "." + e.name
}

// Kinds of entries that are told apart.
const (
	kindRows  = "TABLE DATA"
	kindBlobs = "BLOBS"
)

// sectionTables is of what must be there before rows: types, functions, tables without their indexes.
const sectionTables = 2

// What pg_dump writes, from its src/bin/pg_dump/pg_backup_archiver.h: the version of the format is not that of PostgreSQL. 1.14 is of
// PostgreSQL 12 to 15, 1.15 of 16, 1.16 of 17 and 18.
const (
	archiveMagic  = "PGDMP"
	oldestArchive = 14
	newestArchive = 16
	customFormat  = 1
	blockRows     = 1
	blockBlobs    = 3
)

// Limits that no archive of pg_dump comes near: what says more is damaged, and must not take the memory of this machine.
const (
	mostEntries = 10 << 20
	mostText    = 1 << 30
)

var (
	errCut    = errors.New("it ends in the middle")
	errFormat = errors.New("it is not an archive of pg_dump that this version of Lotse can read")
)

// archiveReader reads numbers and texts as the archive has them.
type archiveReader struct {
	r          *bufio.Reader
	from       *position
	ints, offs int // bytes of a number, and of a place in the file
	minor      int
}

// readBuffer is larger than nearly all rows, so that a row is looked at where it lies.
const readBuffer = 256 << 10

// readArchive reads an archive to its end. errCut, errFormat, or an error of r.
func readArchive(r io.Reader) (*contents, error) {
	from := &position{from: r}
	a := &archiveReader{r: bufio.NewReaderSize(from, readBuffer), from: from}
	c := &contents{sums: map[int]sum{}, blocks: map[int]block{}}
	if err := a.head(c); err != nil {
		return nil, whole(err)
	}
	c.ints = a.ints
	if err := a.toc(c); err != nil {
		return nil, whole(err)
	}
	if err := a.blocks(c); err != nil {
		return nil, whole(err)
	}
	for _, e := range c.entries {
		if _, there := c.sums[e.id]; e.hasData && !there {
			return nil, fmt.Errorf("%w: the rows of %s are not in it", errCut, e.table())
		}
	}
	return c, nil
}

// position counts what was read.
type position struct {
	from io.Reader
	at   int64
}

func (p *position) Read(b []byte) (int, error) {
	n, err := p.from.Read(b)
	p.at += int64(n)
	return n, err
}

// at is the place in the archive of what is read next.
func (a *archiveReader) at() int64 { return a.from.at - int64(a.r.Buffered()) }

// whole makes errCut of an end that comes too early.
func whole(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCut
	}
	return err
}

func (a *archiveReader) head(c *contents) error {
	head := make([]byte, len(archiveMagic)+6)
	if _, err := io.ReadFull(a.r, head); err != nil {
		return err
	}
	rest := head[len(archiveMagic):]
	a.minor, a.ints, a.offs = int(rest[1]), int(rest[3]), int(rest[4])
	if string(head[:len(archiveMagic)]) != archiveMagic || rest[0] != 1 || a.minor < oldestArchive || a.minor > newestArchive ||
		a.ints < 2 || a.ints > 8 || a.offs < 4 || a.offs > 16 || rest[5] != customFormat {
		return errFormat
	}
	if err := a.uncompressed(); err != nil {
		return err
	}
	for range 7 { // the time of the dump
		if _, err := a.int(); err != nil {
			return err
		}
	}
	_, err := a.text() // name of the database
	if err == nil {
		c.server, err = a.text()
	}
	if err == nil {
		c.tool, err = a.text()
	}
	return err
}

// uncompressed refuses an archive whose blocks are compressed: Lotse compresses the whole.
func (a *archiveReader) uncompressed() error {
	var level int
	var err error
	if a.minor >= 15 {
		var algorithm byte
		algorithm, err = a.r.ReadByte()
		level = int(algorithm)
	} else {
		level, err = a.int()
	}
	if err == nil && level != 0 {
		return fmt.Errorf("%w: it is compressed", errFormat)
	}
	return err
}

func (a *archiveReader) toc(c *contents) error {
	n, err := a.int()
	if err != nil {
		return err
	}
	if n < 0 || n > mostEntries {
		return errFormat
	}
	for range n {
		e, err := a.entry()
		if err != nil {
			return err
		}
		c.entries = append(c.entries, e)
	}
	return nil
}

func (a *archiveReader) entry() (e entry, err error) {
	number := func() (n int) {
		if err == nil {
			n, err = a.int()
		}
		return n
	}
	text := func() (s string) {
		if err == nil {
			s, err = a.text()
		}
		return s
	}
	e.id = number()
	e.hasData = number() != 0
	text() // oids
	text()
	e.name, e.kind = text(), text()
	e.section = number()
	e.statement = text()
	text() // how to drop it
	e.fill = text()
	e.schema = text()
	text() // tablespace
	e.access = text()
	if a.minor >= 16 {
		number() // kind of relation
	}
	e.owner = text()
	text() // with oids
	for err == nil {
		var there bool
		if _, there, err = a.maybeText(); !there {
			break // of what it depends on
		}
	}
	if err == nil {
		_, err = a.r.Discard(1 + a.offs) // where its data would be
	}
	return e, err
}

func (a *archiveReader) blocks(c *contents) error {
	known := map[int]entry{}
	for _, e := range c.entries {
		known[e.id] = e
	}
	for {
		kind, err := a.r.ReadByte()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		id, err := a.int()
		if err != nil {
			return err
		}
		if e, is := known[id]; !is || !e.hasData {
			return errFormat
		}
		var all sum
		begin := a.at()
		switch kind {
		case blockRows:
			all, err = a.rows()
		case blockBlobs:
			all, err = a.blobs()
		default:
			err = errFormat
		}
		if err != nil {
			return err
		}
		c.sums[id], c.blocks[id] = all, block{begin, a.at()}
	}
}

// rows adds up the rows of one table.
func (a *archiveReader) rows() (sum, error) {
	var lines lineSum
	err := a.chunks(lines.add)
	return lines.sum, err
}

// blobs adds up large objects, each with its number.
func (a *archiveReader) blobs() (all sum, err error) {
	for {
		oid, err := a.int()
		if err != nil || oid == 0 {
			return all, err
		}
		one := newHash()
		_, _ = fmt.Fprint(one, oid, ":")
		if err := a.chunks(func(p []byte) { _, _ = one.Write(p) }); err != nil { // a hash takes everything
			return all, err
		}
		all.add(one.Sum128())
	}
}

// chunks hands out the data of a block, piece by piece; a piece is gone when take returns.
func (a *archiveReader) chunks(take func([]byte)) error {
	for {
		n, err := a.int()
		if err != nil || n == 0 {
			return err
		}
		if n < 0 {
			return errFormat
		}
		for n > 0 {
			piece, err := a.r.Peek(min(n, readBuffer))
			if err != nil {
				return err
			}
			take(piece)
			n -= len(piece)
			if _, err := a.r.Discard(len(piece)); err != nil {
				return err
			}
		}
	}
}

// int is a sign and the bytes of a number, the lowest first.
func (a *archiveReader) int() (int, error) {
	raw, err := a.r.Peek(1 + a.ints)
	if err != nil {
		return 0, err
	}
	n := 0
	for i := a.ints; i > 0; i-- {
		n = n<<8 | int(raw[i])
	}
	if raw[0] != 0 {
		n = -n
	}
	_, err = a.r.Discard(1 + a.ints)
	return n, err
}

func (a *archiveReader) text() (string, error) {
	text, _, err := a.maybeText()
	return text, err
}

// maybeText is a text or none, which is not the same as an empty one.
func (a *archiveReader) maybeText() (text string, there bool, err error) {
	n, err := a.int()
	if err != nil || n < 0 {
		return "", false, err
	}
	if n > mostText {
		return "", false, errFormat
	}
	var all strings.Builder
	if _, err := io.CopyN(&all, a.r, int64(n)); err != nil {
		return "", false, err
	}
	return all.String(), true, nil
}

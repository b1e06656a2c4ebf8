package migrate

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/jackc/pgx/v5/pgproto3"
)

// tap stands on loopback between a command and a scratch cluster, and keeps what of its statements the server has done: by PostgreSQL's
// own protocol, so that it does not matter which client speaks.
type tap struct {
	listener net.Listener
	server   string // path of the socket
	conns    sync.WaitGroup

	mu    sync.Mutex
	deeds []deed
	open  map[net.Conn]bool
	most  int  // statements that are kept
	lost  bool // there were more
	copy  bool // rows were sent with COPY, which are not kept
}

// deed is a transaction that was committed.
type deed struct {
	acts     []act
	together bool // in one transaction; else each by itself
}

// act is one statement as the server got it.
type act struct {
	sql     string
	oids    []uint32
	formats []int16
	values  [][]byte // nil: it has no parameters
}

// mostActs is how many statements of a command are kept.
const mostActs = 20_000

func listen(server string) (*tap, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	t := &tap{listener: l, server: server, open: map[net.Conn]bool{}, most: mostActs}
	t.conns.Go(t.accept)
	return t, nil
}

func (t *tap) port() int { return t.listener.Addr().(*net.TCPAddr).Port }

// end closes all connections and returns what was done, in the order of its commits.
func (t *tap) end() []deed {
	t.listener.Close()
	t.mu.Lock()
	for c := range t.open {
		c.Close()
	}
	t.mu.Unlock()
	t.conns.Wait()
	return t.deeds
}

func (t *tap) accept() {
	for {
		client, err := t.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("unix", t.server)
		if err != nil {
			client.Close()
			continue
		}
		t.mu.Lock()
		t.open[client], t.open[server] = true, true
		t.mu.Unlock()
		t.conns.Go(func() {
			_ = t.carry(client, server) // who it ends for hears of it by the end of the connection
			t.mu.Lock()
			delete(t.open, client)
			delete(t.open, server)
			t.mu.Unlock()
		})
	}
}

func (t *tap) carry(client, server net.Conn) error {
	defer client.Close()
	defer server.Close()
	if err := begin(client, server); err != nil {
		return err
	}
	c := &conversation{tap: t, statements: map[string]act{}, portals: map[string]act{}}
	answered := make(chan error, 1)
	go func() {
		defer client.Close()
		answered <- relay(server, client, c.answered)
	}()
	err := relay(client, server, c.asked)
	server.Close()
	return errors.Join(err, <-answered)
}

// The requests that may stand in place of a startup message ("Message Formats" in PostgreSQL's manual).
const (
	sslRequest = 80877103
	gssRequest = 80877104
)

// begin carries the startup message. There is no TLS: both ends are on this machine.
func begin(client, server net.Conn) error {
	for {
		var head [8]byte
		if _, err := io.ReadFull(client, head[:]); err != nil {
			return err
		}
		length := binary.BigEndian.Uint32(head[:])
		if length < 8 || length > 1<<16 {
			return errFrame
		}
		switch binary.BigEndian.Uint32(head[4:]) {
		case sslRequest, gssRequest:
			if _, err := client.Write([]byte{'N'}); err != nil {
				return err
			}
			continue
		}
		if _, err := server.Write(head[:]); err != nil {
			return err
		}
		_, err := io.CopyN(server, client, int64(length)-8)
		return err
	}
}

var errFrame = errors.New("that is not PostgreSQL's protocol")

// mostFrame is beyond what a statement has: PostgreSQL takes none of more than 1 GB.
const mostFrame = 1 << 30

// relay carries messages as they are, after it has shown them.
func relay(from io.Reader, to io.Writer, show func(kind byte, body []byte) error) error {
	for {
		var head [5]byte
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return err
		}
		length := binary.BigEndian.Uint32(head[1:])
		if length < 4 || length > mostFrame {
			return errFrame
		}
		whole := make([]byte, 1+length)
		copy(whole, head[:])
		if _, err := io.ReadFull(from, whole[5:]); err != nil {
			return err
		}
		if err := show(head[0], whole[5:]); err != nil {
			return err
		}
		if _, err := to.Write(whole); err != nil {
			return err
		}
	}
}

// conversation is one connection. asked and answered are called by one goroutine each.
type conversation struct {
	tap        *tap
	statements map[string]act // what was prepared
	portals    map[string]act

	mu       sync.Mutex
	begun    bool
	waiting  []question // not answered to the end
	batch    []done     // since the server was last ready
	failed   bool       // something of the batch
	pending  []act      // done in a transaction that is open
	explicit bool       // it was begun by BEGIN
}

// question is a message whose answer is awaited.
type question struct {
	acts  []act // of a simple query: all of its statements; of an Execute: one
	sync  bool  // the server is ready after it
	asked int   // of acts, answered
}

type done struct {
	act
	tag string
}

// asked looks at a message of the client.
func (c *conversation) asked(kind byte, body []byte) error {
	switch kind {
	case 'Q':
		var m pgproto3.Query
		if err := m.Decode(body); err != nil {
			return err
		}
		text := []rune(m.String)
		var acts []act
		for _, s := range split(text, nil) {
			acts = append(acts, act{sql: string(text[s.from:s.to])})
		}
		c.await(question{acts: acts, sync: true})
	case 'P':
		var m pgproto3.Parse
		if err := m.Decode(body); err != nil {
			return err
		}
		c.statements[m.Name] = act{sql: m.Query, oids: m.ParameterOIDs}
	case 'B':
		return c.bound(body)
	case 'E':
		var m pgproto3.Execute
		if err := m.Decode(body); err != nil {
			return err
		}
		c.await(question{acts: []act{c.portals[m.Portal]}})
	case 'S':
		c.await(question{sync: true})
	case 'd':
		c.tap.mu.Lock()
		c.tap.copy = true
		c.tap.mu.Unlock()
	}
	return nil
}

func (c *conversation) bound(body []byte) error {
	var m pgproto3.Bind
	if err := m.Decode(body); err != nil {
		return err
	}
	a := c.statements[m.PreparedStatement]
	a.formats = m.ParameterFormatCodes
	if len(m.Parameters) > 0 {
		a.values = make([][]byte, len(m.Parameters)) // what was decoded lies in the message
		for i, p := range m.Parameters {
			if p != nil {
				a.values[i] = append([]byte{}, p...)
			}
		}
	}
	c.portals[m.DestinationPortal] = a
	return nil
}

func (c *conversation) await(q question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, q)
}

// answered looks at a message of the server.
func (c *conversation) answered(kind byte, body []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch kind {
	case 'C':
		var m pgproto3.CommandComplete
		if err := m.Decode(body); err != nil {
			return err
		}
		c.did(string(m.CommandTag))
	case 'I', 's':
		c.did("")
	case 'E':
		c.failed = true
		for len(c.waiting) > 0 && !c.waiting[0].sync { // the server passes over what comes before the next Sync
			c.waiting = c.waiting[1:]
		}
	case 'Z':
		var m pgproto3.ReadyForQuery
		if err := m.Decode(body); err != nil {
			return err
		}
		if !c.begun { // the end of the greeting
			c.begun = true
			return nil
		}
		if len(c.waiting) > 0 && c.waiting[0].sync {
			c.waiting = c.waiting[1:]
		}
		c.ready(m.TxStatus)
	}
	return nil
}

// did takes the end of one statement.
func (c *conversation) did(tag string) {
	if len(c.waiting) == 0 {
		return
	}
	q := &c.waiting[0]
	if q.asked < len(q.acts) {
		c.batch = append(c.batch, done{q.acts[q.asked], tag})
		q.asked++
	}
	if !q.sync {
		c.waiting = c.waiting[1:]
	}
}

// ready takes what was done since the server was last ready into the transaction that is open, and what was committed to the rest.
func (c *conversation) ready(status byte) {
	for _, d := range c.batch {
		switch {
		case d.tag == "BEGIN", d.tag == "START TRANSACTION":
			c.explicit = true
		case d.tag == "COMMIT":
			c.commit(true)
		case d.tag == "ROLLBACK" && (commits(d.sql) || turning.MatchString(d.sql)):
			c.pending, c.explicit = nil, false
		case d.sql != "":
			c.pending = append(c.pending, d.act)
		}
	}
	alone := len(c.batch) == 1
	if status == 'I' { // what was not begun by BEGIN is one transaction for each time that the server is ready
		if c.failed && !c.explicit {
			c.pending = nil
		}
		c.commit(!alone)
	}
	c.batch, c.failed = nil, false
}

func (c *conversation) commit(together bool) {
	if len(c.pending) > 0 {
		c.tap.keep(deed{c.pending, together})
	}
	c.pending, c.explicit = nil, false
}

func (t *tap) keep(d deed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.most -= len(d.acts); t.most < 0 {
		t.lost = true
		return
	}
	t.deeds = append(t.deeds, d)
}

// whole says what of a command's doings was not kept; nil: nothing.
func (t *tap) whole() error {
	switch {
	case t.lost:
		return fmt.Errorf("it has more than %d statements", mostActs)
	case t.copy:
		return errors.New("it sends rows with COPY")
	}
	return nil
}

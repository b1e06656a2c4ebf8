package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// lingerTime is what the other side gets to end in its turn when one side of a tunnel has ended, or has been told to.
const lingerTime = 5 * time.Second

// tunnel carries bytes both ways after an upgrade. Of a websocket it knows where frames end, so that it can say 1001
// between two frames: to the client first; what the client still says goes on to the instance, its close frame at the
// end. An instance whose client gave no close frame is told by the tunnel itself.
type tunnel struct {
	x         *exchange
	client    net.Conn
	instance  io.ReadWriteCloser
	websocket bool

	down     sync.Mutex // towards the client
	downMark frames
	parting  bool
	said     bool // our close frame is out
	cutOff   bool

	up     sync.Mutex // towards the instance
	upMark frames

	saidOnce chan struct{} // closed when our close frame is out
}

// upgrade hands the connection over to what both sides have agreed on (RFC 9110 §7.8).
func (x *exchange) upgrade(resp *http.Response) {
	asked, given := upgradeOf(x.r.Header), upgradeOf(resp.Header)
	instance, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || asked == "" || x.r.ProtoMajor != 1 || !strings.EqualFold(asked, given) {
		x.plain(http.StatusBadGateway, "the instance changed to a protocol that nobody asked for")
		return
	}
	conn, rw, err := http.NewResponseController(x.w).Hijack()
	if err != nil {
		x.plain(http.StatusInternalServerError, "this connection cannot be handed over")
		return
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Time{})
	x.status = http.StatusSwitchingProtocols
	if x.gate != nil {
		x.w.Header()[robotsHeader] = []string{noRobots}
	}
	t := &tunnel{x: x, client: conn, instance: instance, websocket: strings.EqualFold(given, "websocket"),
		saidOnce: make(chan struct{})}
	x.setParting(t)
	if writeSwitch(conn, x.w.Header(), resp.Header, given) == nil {
		t.run(rw.Reader)
	}
}

func writeSwitch(w io.Writer, own, upstream http.Header, protocol string) error {
	h := http.Header{}
	for k, vv := range upstream {
		if !hop(k) && !httpguts.HeaderValuesContainsToken(upstream["Connection"], k) {
			h[k] = vv
		}
	}
	h["Lotse-Release"] = own["Lotse-Release"]
	if robots, private := own[robotsHeader]; private {
		h[robotsHeader] = robots
	}
	h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{protocol}
	b := bufio.NewWriter(w)
	fmt.Fprint(b, "HTTP/1.1 101 Switching Protocols\r\n")
	_ = h.Write(b)
	fmt.Fprint(b, "\r\n")
	return b.Flush()
}

// run returns when both directions have ended, or the second has had its time.
func (t *tunnel) run(early *bufio.Reader) {
	upDone, downDone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(upDone)
		t.copyUp(early)
	}()
	go func() {
		defer close(downDone)
		t.copyDown()
	}()
	said := t.saidOnce
	var late <-chan time.Time
	for first := true; ; first = false {
		select {
		case <-upDone:
			upDone = nil
			t.tellInstance()
			halfClose(t.instance)
		case <-downDone:
			downDone = nil
			halfClose(t.client)
		case <-said:
			said = nil
		case <-late:
			t.tellInstance()
			t.shut(upDone, downDone)
			upDone, downDone = nil, nil
		}
		if upDone == nil && downDone == nil {
			break
		}
		if first {
			timer := time.NewTimer(lingerTime)
			defer timer.Stop()
			late = timer.C
		}
	}
	t.instance.Close()
	t.down.Lock()
	defer t.down.Unlock()
	t.x.aborted = t.cutOff || t.websocket && !t.said && !t.downMark.closed && !t.upMark.closed
}

// shut closes both ends and waits for the copies to notice.
func (t *tunnel) shut(up, down chan struct{}) {
	t.client.Close()
	t.instance.Close()
	for _, c := range []chan struct{}{up, down} {
		if c != nil {
			<-c
		}
	}
}

func halfClose(c any) {
	if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		return
	}
	if closer, ok := c.(io.Closer); ok {
		closer.Close()
	}
}

func (t *tunnel) copyUp(early *bufio.Reader) {
	buf := t.x.server.buffers.get()
	defer t.x.server.buffers.put(buf)
	from := io.Reader(t.client)
	if n := early.Buffered(); n > 0 {
		from = io.MultiReader(io.LimitReader(early, int64(n)), t.client)
	}
	for {
		n, err := from.Read(*buf)
		if n > 0 && !t.toInstance((*buf)[:n]) || err != nil {
			return
		}
	}
}

// toInstance reports whether more may follow: behind a close frame there is nothing to say.
func (t *tunnel) toInstance(p []byte) bool {
	t.up.Lock()
	defer t.up.Unlock()
	t.x.body.n.Add(int64(len(p)))
	if t.websocket {
		t.upMark.pass(p)
	}
	_, err := t.instance.Write(p)
	return err == nil && !t.upMark.closed
}

// tellInstance says 1001 for a client that did not, when no frame is half sent.
func (t *tunnel) tellInstance() {
	t.up.Lock()
	defer t.up.Unlock()
	if t.websocket && t.upMark.between() && !t.upMark.closed {
		t.upMark.closed = true
		_, _ = t.instance.Write(goingAwayMasked())
	}
}

func (t *tunnel) copyDown() {
	buf := t.x.server.buffers.get()
	defer t.x.server.buffers.put(buf)
	for {
		n, err := t.instance.Read(*buf)
		if n > 0 && !t.toClient((*buf)[:n]) || err != nil {
			return
		}
	}
}

// toClient passes p on, up to where we part; what the instance says after our close frame is taken and dropped.
func (t *tunnel) toClient(p []byte) bool {
	t.down.Lock()
	defer t.down.Unlock()
	if t.said {
		return true
	}
	if !t.websocket {
		return t.write(p)
	}
	if !t.parting {
		t.downMark.pass(p)
		return t.write(p)
	}
	n, end := t.downMark.next(p)
	if !t.write(p[:n]) {
		return false
	}
	if end && !t.downMark.closed {
		t.sayGoodbye()
	}
	return true
}

func (t *tunnel) write(p []byte) bool {
	n, err := t.client.Write(p)
	t.x.out += int64(n)
	return err == nil
}

// part says 1001 at the next frame boundary, which may be now.
func (t *tunnel) part() {
	t.down.Lock()
	defer t.down.Unlock()
	t.parting = true
	if t.websocket && t.downMark.between() && !t.downMark.closed && !t.said {
		t.sayGoodbye()
	}
}

func (t *tunnel) sayGoodbye() {
	t.said = true
	t.write(goingAway())
	close(t.saidOnce)
}

// cut closes both ends. It reports whether that broke something off: a client that had its close frame has lost nothing.
func (t *tunnel) cut() bool {
	t.client.Close()
	t.instance.Close()
	t.down.Lock()
	defer t.down.Unlock()
	t.cutOff = !t.said && !t.downMark.closed
	return t.cutOff
}

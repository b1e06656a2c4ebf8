package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// forward takes the exchange to an instance and its answer back. errNone: no target was there and nothing was sent;
// every other error has been answered.
func (x *exchange) forward(b *backend) error {
	switch x.r.Method {
	case http.MethodConnect, http.MethodTrace: // tunnels to anywhere, and echoes of cookies
		x.plain(http.StatusMethodNotAllowed, "this method is not served")
		return nil
	}
	out := x.outgoing()
	if x.r.ContentLength != 0 && x.r.ProtoMajor == 1 {
		// Without it net/http reads the whole upload before it lets an early answer through.
		_ = http.NewResponseController(x.w).EnableFullDuplex()
	}
	resp, t, err := b.send(out)
	if errors.Is(err, errNone) && !x.body.touched.Load() && x.ctx.Err() == nil {
		return errNone
	}
	x.writer.Lock()
	x.begun = true // informational answers that come now are too late
	x.writer.Unlock()
	if err != nil {
		x.failed(err)
		return err
	}
	defer t.inFlight.Add(-1)
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusSwitchingProtocols {
		x.upgrade(resp)
		return nil
	}
	x.answer(resp)
	return nil
}

// failed answers for an instance that gave no answer.
func (x *exchange) failed(err error) {
	switch {
	case errors.Is(context.Cause(x.ctx), errCut):
		x.aborted = true
		if x.r.ProtoMajor == 1 {
			x.w.Header().Set("Connection", "close") // its deadline is set
		}
		x.unavailable("the time to finish is over")
	case x.r.Context().Err() != nil:
		x.status = statusClientGone
	default:
		x.server.log.Warn("an instance gave no answer", "site", x.flight.site, "release", x.flight.label, "cause", cause(err))
		x.plain(http.StatusBadGateway, "the instance gave no answer")
	}
}

// outgoing is the request for the instance: a copy that shares all that is not changed.
func (x *exchange) outgoing() *http.Request {
	ctx := httptrace.WithClientTrace(x.ctx, &httptrace.ClientTrace{Got1xxResponse: x.informational})
	out := x.r.WithContext(ctx)
	out.URL = &url.URL{Scheme: "http", Path: x.r.URL.Path, RawPath: x.r.URL.RawPath,
		RawQuery: x.r.URL.RawQuery, ForceQuery: x.r.URL.ForceQuery}
	out.Header = x.outgoingHeader()
	out.Body, out.GetBody = nil, nil
	out.Close, out.RequestURI = false, ""
	if x.r.Body != nil && x.r.Body != http.NoBody && x.r.ContentLength != 0 {
		out.Body = &x.body
		// Lets the transport try a fresh connection when a kept one broke before a byte was written.
		out.GetBody = func() (io.ReadCloser, error) {
			if x.body.touched.Load() {
				return nil, errors.New("the body has been sent")
			}
			return &x.body, nil
		}
	}
	return out
}

// outgoingHeader leaves out what is between the client and us (RFC 9110 §7.6.1), and says afresh who the client is: what
// the client says of itself is never believed.
func (x *exchange) outgoingHeader() http.Header {
	in := x.r.Header
	h := make(http.Header, len(in)+5)
	listed := in["Connection"]
	for k, vv := range in {
		if !hop(k) && !own(k) && (len(listed) == 0 || !httpguts.HeaderValuesContainsToken(listed, k)) {
			h[k] = vv
		}
	}
	if _, ok := h["User-Agent"]; !ok {
		h["User-Agent"] = nil // or net/http says its own
	}
	if httpguts.HeaderValuesContainsToken(in["Te"], "trailers") {
		h["Te"] = []string{"trailers"}
	}
	if protocol := upgradeOf(in); protocol != "" && x.r.ProtoMajor == 1 {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{protocol}
	}
	if accept := in["Accept"]; len(accept) == 1 && strings.HasPrefix(accept[0], "text/event-stream") {
		delete(h, "Accept-Encoding") // in a compressed stream nobody sees where an event ends
	}
	address := x.client.String()
	who := address
	if x.client.Is6() {
		who = `"[` + address + `]"`
	}
	if x.gate != nil {
		x.undisclosed(h)
	}
	values := []string{address, "https", x.r.Host, "for=" + who + `;host="` + quoted(x.r.Host) + `";proto=https`}
	h["X-Forwarded-For"], h["X-Forwarded-Proto"] = values[0:1:1], values[1:2:2]
	h["X-Forwarded-Host"], h["Forwarded"] = values[2:3:3], values[3:4:4]
	return h
}

// quoted makes s fit for a quoted-string: a host and a port have no business with anything else.
func quoted(s string) string {
	return strings.Map(func(r rune) rune {
		if r == '"' || r == '\\' || r < ' ' || r > '~' {
			return -1
		}
		return r
	}, s)
}

func hop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// own are the headers that only we may set, and the token by which a balancer was told where to take a request.
func own(name string) bool {
	return name == reachHeader || name == "Forwarded" || name == "X-Real-Ip" || strings.HasPrefix(name, "X-Forwarded-")
}

func upgradeOf(h http.Header) string {
	if httpguts.HeaderValuesContainsToken(h["Connection"], "Upgrade") {
		return h.Get("Upgrade")
	}
	return ""
}

// informational passes 103 and its like on. 100 is between each two neighbours, and net/http does it.
func (x *exchange) informational(code int, header textproto.MIMEHeader) error {
	x.writer.Lock()
	defer x.writer.Unlock()
	if x.begun || code == http.StatusContinue {
		return nil
	}
	h := x.w.Header()
	maps.Copy(h, header)
	x.w.WriteHeader(code)
	for k := range header {
		delete(h, k)
	}
	return nil
}

// answer passes the final answer on.
func (x *exchange) answer(resp *http.Response) {
	h := x.w.Header()
	listed := resp.Header["Connection"]
	for k, vv := range resp.Header {
		if !hop(k) && k != "Lotse-Release" && (len(listed) == 0 || !httpguts.HeaderValuesContainsToken(listed, k)) {
			h[k] = vv
		}
	}
	announced := make(map[string]bool, len(resp.Trailer))
	for k := range resp.Trailer {
		h.Add("Trailer", k)
		announced[k] = true
	}
	x.stream = isEventStream(resp)
	x.WriteHeader(resp.StatusCode)
	if err := x.copyBody(resp); err != nil {
		x.aborted = !errors.Is(err, errClient) && x.r.Context().Err() == nil || errors.Is(context.Cause(x.ctx), errCut)
		resp.Body.Close()
		panic(http.ErrAbortHandler) // the only way to tell the client that the answer is not whole
	}
	for k, vv := range resp.Trailer {
		if !announced[k] {
			k = http.TrailerPrefix + k
		}
		h[k] = vv
	}
}

func isEventStream(resp *http.Response) bool {
	return resp.ContentLength < 0 && strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") &&
		resp.Header.Get("Content-Encoding") == ""
}

func (x *exchange) copyBody(resp *http.Response) error {
	if x.r.Method == http.MethodHead || resp.ContentLength == 0 || resp.Body == http.NoBody {
		return nil
	}
	buf := x.server.buffers.get()
	defer x.server.buffers.put(buf)
	flusher, _ := x.w.(http.Flusher)
	if resp.ContentLength >= 0 {
		return x.copyKnown(resp.Body, *buf)
	}
	flusher.Flush()
	if x.stream {
		return x.copyEvents(resp.Body, *buf, flusher)
	}
	return x.copyUnknown(resp.Body, *buf, flusher)
}

// copyKnown needs no flush: net/http sends the answer when it is whole, and sooner when it is larger than its buffer.
func (x *exchange) copyKnown(from io.Reader, buf []byte) error {
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := x.Write(buf[:n]); err != nil {
				return errClient
			}
		}
		if err != nil {
			return unlessEOF(err)
		}
	}
}

func (x *exchange) copyUnknown(from io.Reader, buf []byte, flusher http.Flusher) error {
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := x.Write(buf[:n]); err != nil {
				return errClient
			}
			flusher.Flush()
		}
		if err != nil {
			return unlessEOF(err)
		}
	}
}

// errClient says that the client does not take the answer any more.
var errClient = errors.New("the client is gone")

func unlessEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // a Reader ends with io.EOF itself; one that is wrapped says that the answer is not whole
		return nil
	}
	return fmt.Errorf("while the answer was read: %w", err)
}

package proxy

import (
	"bufio"
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	gorilla "github.com/gorilla/websocket"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"testing"
)

func withHints(ctx context.Context, hints chan<- string) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		if code == 103 {
			hints <- h.Get("Link")
		}
		return nil
	}})
}

// handshake answers a websocket handshake by hand (RFC 6455 §4.2.2), for instances that send frames in pieces.
func handshake(w http.ResponseWriter, r *http.Request) (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, nil, err
	}
	sum := sha1.Sum([]byte(r.Header.Get("Sec-Websocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\n\r\n", base64.StdEncoding.EncodeToString(sum[:]))
	return conn, rw, err
}

// answers reads answers from one connection.
type answers struct{ r *bufio.Reader }

func newAnswers(c net.Conn) *answers { return &answers{bufio.NewReader(c)} }

func (a *answers) next(t testing.TB) string {
	t.Helper()
	resp, err := http.ReadResponse(a.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return fmt.Sprintf("%d close=%v", resp.StatusCode, resp.Close)
}

func isGoingAway(err error) bool { return gorilla.IsCloseError(err, gorilla.CloseGoingAway) }

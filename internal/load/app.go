package load

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// ReleaseHeader is set by the App to its release on every answer.
const ReleaseHeader = "Load-Release"

// About is what an App says of itself at /about.
type About struct {
	Release  string `json:"release"`
	Stage    string `json:"stage"`
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Boot     string `json:"boot"` // new each time an App is made: two instances never share one
	PID      int    `json:"pid"`
	UID      int    `json:"uid"`
}

// App is the app under test. It looks only at the last segment of a path, so it answers under any prefix:
//
//	/health              200, or what Health says
//	/about               About as JSON
//	/get?word=w          w
//	/fail                500
//	/echo                the SHA-256 of the body that was sent, in hexadecimal
//	/slow?bytes=n&for=d  n bytes, spread over d
//	/socket              a websocket that echoes
//	/events?every=d      an event stream that goes on after Last-Event-ID
//	/setting?name=n      the SHA-256 of a setting, so that a test need not print it
//
// It is safe for concurrent use.
type App struct {
	About   About
	Health  func() (status int, body string) // nil: always well
	Setting func(name string) string         // nil: none

	going    chan struct{}
	shutdown sync.Once
	sockets  sync.WaitGroup
	held     sync.Mutex // guards sockets.Add against Wait
}

// NewApp returns an App with a Boot of its own.
func NewApp(about About) *App {
	about.Boot = rand.Text()
	return &App{About: about, going: make(chan struct{})}
}

// Shutdown asks websockets (1001) and event streams (between two events) to end, and returns when every websocket has been
// told or ctx has ended. Other requests go on.
func (a *App) Shutdown(ctx context.Context) {
	a.held.Lock()
	a.shutdown.Do(func() { close(a.going) })
	a.held.Unlock()
	told := make(chan struct{})
	go func() {
		a.sockets.Wait()
		close(told)
	}()
	select {
	case <-told:
	case <-ctx.Done():
	}
}

// hold counts a websocket, unless the app is shutting down.
func (a *App) hold() bool {
	a.held.Lock()
	defer a.held.Unlock()
	select {
	case <-a.going:
		return false
	default:
		a.sockets.Add(1)
		return true
	}
}

// ServeHTTP implements http.Handler.
func (a *App) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(ReleaseHeader, a.About.Release)
	switch path.Base(r.URL.Path) {
	case "health":
		a.health(w)
	case "about":
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(a.About)
	case "get", "/":
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintln(w, r.URL.Query().Get("word")) //nolint:gosec // plain text, and the app under test has no users
	case "fail":
		http.Error(w, "as asked", http.StatusInternalServerError)
	case "echo":
		a.echo(w, r)
	case "slow":
		a.slow(w, r)
	case "socket":
		a.socket(w, r)
	case "events":
		a.events(w, r)
	case "setting":
		a.setting(w, r)
	default:
		http.NotFound(w, r)
	}
}

func (a *App) health(w http.ResponseWriter) {
	if a.Health == nil {
		fmt.Fprintln(w, "ok")
		return
	}
	status, body := a.Health()
	w.WriteHeader(status)
	fmt.Fprintln(w, body)
}

func (a *App) setting(w http.ResponseWriter, r *http.Request) {
	value := ""
	if a.Setting != nil {
		value = a.Setting(r.URL.Query().Get("name"))
	}
	fmt.Fprintf(w, "%x\n", sha256.Sum256([]byte(value)))
}

func (a *App) echo(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	if _, err := io.Copy(sum, r.Body); err != nil {
		http.Error(w, "the body was cut", http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, hex.EncodeToString(sum.Sum(nil)))
}

func (a *App) slow(w http.ResponseWriter, r *http.Request) {
	size, _ := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
	over, _ := time.ParseDuration(r.URL.Query().Get("for"))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	const pieces = 20
	out, body := http.NewResponseController(w), newPattern(size)
	for i := range int64(pieces) {
		if _, err := io.CopyN(w, body, size*(i+1)/pieces-size*i/pieces); err != nil || out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-time.After(over / pieces):
		}
	}
}

func (a *App) socket(w http.ResponseWriter, r *http.Request) {
	if !a.hold() {
		http.Error(w, "going away", http.StatusServiceUnavailable)
		return
	}
	defer a.sockets.Done()
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
	if err != nil {
		return
	}
	defer func() { _ = conn.CloseNow() }()
	done, told := make(chan struct{}), make(chan struct{})
	defer func() { close(done); <-told }()
	go func() {
		defer close(told)
		select {
		case <-a.going:
			_ = conn.Close(websocket.StatusGoingAway, "going away")
		case <-done:
		}
	}()
	for {
		kind, message, err := conn.Read(r.Context())
		if err != nil || conn.Write(r.Context(), kind, message) != nil {
			return
		}
	}
}

func (a *App) events(w http.ResponseWriter, r *http.Request) {
	every, err := time.ParseDuration(r.URL.Query().Get("every"))
	if err != nil || every <= 0 {
		every = 20 * time.Millisecond
	}
	id, _ := strconv.Atoi(r.Header.Get("Last-Event-ID"))
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	tick := time.NewTicker(every)
	defer tick.Stop()
	out := http.NewResponseController(w)
	for {
		id++
		// Two writes and a flush between them: a stream that is cut at a packet's end is cut inside an event.
		fmt.Fprintf(w, "id: %d\n", id)
		_ = out.Flush()
		fmt.Fprintf(w, "data: event %d\n\n", id)
		if out.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-a.going:
			return
		case <-tick.C:
		}
	}
}

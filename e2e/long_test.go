package e2e_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/lotse-eu/lotse/internal/load"
	"github.com/lotse-eu/lotse/internal/proxy"
)

const (
	longSockets = 20
	longStreams = 10
	longWarm    = 2 * time.Second
	longTime    = 25 * time.Second // of a download
)

// parting is how a connection that was held ended.
type parting struct {
	at   time.Time
	kind string // socket, stream
	how  string // "" as it may: 1001 or 1012, or between two events
}

// held are connections that are open until the server ends them.
type held struct {
	mu     sync.Mutex
	parted []parting
	all    sync.WaitGroup
}

func (h *held) end(kind, how string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.parted = append(h.parted, parting{time.Now(), kind, how})
}

// hold opens websockets and event streams, and returns when all of them are open.
func (m *machine) hold() *held {
	m.t.Helper()
	h := &held{}
	ctx := m.t.Context()
	t := &http.Transport{DialContext: proxy.DialLocalhost(nil), TLSClientConfig: &tls.Config{RootCAs: m.roots()}}
	m.t.Cleanup(t.CloseIdleConnections)
	client := &http.Client{Transport: t}
	for range longSockets {
		conn, _, err := websocket.Dial(ctx, m.url(host)+"/socket", &websocket.DialOptions{HTTPClient: client})
		if err != nil {
			m.t.Fatal(err)
		}
		h.all.Go(func() { h.end("socket", chat(ctx, conn)) })
	}
	for range longStreams {
		answer, err := client.Get(m.url(host) + "/events?every=100ms")
		if err != nil {
			m.t.Fatal(err)
		}
		h.all.Go(func() {
			defer answer.Body.Close()
			h.end("stream", listen(answer.Body))
		})
	}
	return h
}

// chat asks for echoes until the server ends the websocket, and says what was wrong with that.
func chat(ctx context.Context, conn *websocket.Conn) string {
	defer func() { _ = conn.CloseNow() }()
	for n := 0; ; n++ {
		word := strconv.Itoa(n)
		err := conn.Write(ctx, websocket.MessageText, []byte(word))
		_, got, reason := conn.Read(ctx) // a close frame that came before says why
		switch code := websocket.CloseStatus(reason); {
		case code == websocket.StatusGoingAway || code == websocket.StatusServiceRestart:
			return ""
		case reason != nil || err != nil:
			return fmt.Sprintf("cut: %v, %v", err, reason)
		case string(got) != word:
			return fmt.Sprintf("%q for %q", got, word)
		}
		select {
		case <-ctx.Done():
			return "the test ended before"
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// listen reads events until the stream ends, and says what was wrong with its end.
func listen(body io.Reader) string {
	last, buffer := "\n\n", make([]byte, 4096)
	for {
		n, err := body.Read(buffer)
		last = (last + string(buffer[:n]))[max(0, len(last)+n-2):]
		switch {
		case err == io.EOF && last == "\n\n":
			return ""
		case err != nil:
			return fmt.Sprintf("cut after %q: %v", last, err)
		}
	}
}

// throughMove holds connections, begins downloads of 25 s, has the stage move to another release, and waits until all connections have parted. It
// says what was wrong, counts what failed, and shows when they parted.
func (m *machine) throughMove(repo string, drain time.Duration, move ...string) (wrong []string, report load.Report) {
	m.t.Helper()
	plan := m.everyKind()
	plan.Downloads, plan.DownloadTime = 6, longTime
	h := m.hold()
	hammer := m.loaded(plan)
	m.must(repo, move...)
	began := m.newest().Ended.Add(longWarm) // of the drain, at the earliest
	report = hammer.Stop()
	h.all.Wait()
	slices.SortFunc(h.parted, func(a, b parting) int { return a.at.Compare(b.at) })
	first, last := h.parted[0].at.Sub(began), h.parted[len(h.parted)-1].at.Sub(began)
	inSecond, most := map[int]int{}, 0
	for _, p := range h.parted {
		if p.how != "" {
			wrong = append(wrong, p.kind+" "+p.how)
		}
		second := int(p.at.Sub(began).Seconds())
		inSecond[second]++
		most = max(most, inSecond[second])
	}
	if first < -100*time.Millisecond {
		wrong = append(wrong, fmt.Sprintf("the first parted %s before the drain", -first))
	}
	if last-first < drain/2 {
		wrong = append(wrong, fmt.Sprintf("all parted within %s", last-first))
	}
	if most > len(h.parted)/3 {
		wrong = append(wrong, fmt.Sprintf("%d of %d parted within one second", most, len(h.parted)))
	}
	m.t.Logf("%s: %d websockets and %d event streams parted from %.1f s to %.1f s after the warm time, %d in one second at most; %d downloads of %s; %s",
		strings.Join(move, " "), longSockets, longStreams, first.Seconds(), last.Seconds(), most, report.Kinds["download"].Requests, longTime, report.Summary())
	return wrong, report
}

// longRun deploys under such load, and rolls back under it.
func longRun(t *testing.T, drain time.Duration) (wrong []string, failed int) {
	t.Helper()
	m := newMachine(t)
	repo := m.repository(map[string]string{"release.txt": "0\n",
		"lotse.yaml": m.appFile("bin/app good", 2, fmt.Sprintf("watch: 1s, stable: 1s, warm: %s, drain: %s", longWarm, drain))})
	m.must(repo, "deploy")
	m.commit(repo, map[string]string{"release.txt": "1\n"})
	for _, move := range [][]string{{"deploy"}, {"rollback", "dev"}} {
		said, report := m.throughMove(repo, drain, move...)
		for _, s := range said {
			wrong = append(wrong, move[0]+": "+s)
		}
		failed += report.Failed
	}
	return wrong, failed
}

// Websockets, event streams and downloads of 25 s go through a shift and a rollback: nothing is cut before the time to drain is over, what is
// asked to part is asked little by little, and no request fails.
func TestLongStreams(t *testing.T) {
	provesOnly(t, "long downloads and streams through a shift and a rollback")
	t.Parallel()
	wrong, failed := longRun(t, 30*time.Second)
	if failed != 0 || len(wrong) > 0 {
		t.Errorf("%d requests failed\n%s", failed, strings.Join(wrong, "\n"))
	}
}

// The planted fault: with a drain of a second the same load must see downloads cut and partings at once. Else the test above proves nothing.
func TestLongStreamsWithoutDrain(t *testing.T) {
	provesOnly(t, "that the test of long streams sees those that are cut")
	t.Parallel()
	wrong, failed := longRun(t, time.Second)
	if failed == 0 || !slices.ContainsFunc(wrong, func(s string) bool { return strings.Contains(s, "within one second") }) {
		t.Errorf("%d requests failed, and %v", failed, wrong)
	}
	t.Logf("%d requests failed; %v", failed, wrong)
}

package front

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/load"
)

// The first front is ended as a platform ends it, under load, while a second takes what comes anew. Nobody notices.
func TestNobodyNoticesTheEndOfAFront(t *testing.T) {
	spec := specOf(web("rude")) // it dies of SIGTERM at once: it must not be told before it has nothing left to do
	first, second := launch(t, spec), launch(t, spec)
	first.healthy()
	second.healthy()
	var to atomic.Pointer[ship]
	to.Store(first)
	hammer := load.Start(within(t), load.Plan{URL: "https://" + host, TLS: &tls.Config{InsecureSkipVerify: true},
		Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return to.Load().dial(ctx, network, addr)
		},
		Gets: 4, Fresh: 2, Uploads: 2, Downloads: 2, Sockets: 3, Streams: 3, DownloadTime: time.Second})
	if err := hammer.Await(within(t), 300); err != nil {
		t.Fatal(err)
	}
	to.Store(second)
	begun := time.Now()
	if err := first.stop(); err != nil {
		t.Errorf("the front ended with %v; %s", err, first.errs)
	}
	if took := time.Since(begun); took > spec.drain()+5*time.Second {
		t.Errorf("the end took %s", took)
	}
	if err := hammer.Await(within(t), 300); err != nil {
		t.Fatal(err)
	}
	report := hammer.Stop()
	t.Log(report.Summary())
	mustBe(t, "failed", report.Failed, 0)
	for kind, c := range report.Kinds {
		mustBe(t, "requests of kind "+kind, c.Requests > 0, true)
	}
	if _, _, err := first.get("https://" + host + "/"); err == nil {
		t.Error("the first still answers")
	}
}

// The hammer above sees an end without a drain.
func TestTheHammerSeesAFrontThatIsKilled(t *testing.T) {
	s := launch(t, specOf(web("good")))
	s.healthy()
	hammer := load.Start(within(t), load.Plan{URL: "https://" + host, TLS: &tls.Config{InsecureSkipVerify: true}, Dial: s.dial, Downloads: 2, Sockets: 2, DownloadTime: 2 * time.Second})
	if err := hammer.Await(within(t), 50); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	if hammer.Stop().Failed == 0 {
		t.Error("nothing has failed")
	}
}

// At the end websockets get their close frame, event streams end between two events, downloads are finished, and then nothing is left.
func TestEndOfAFront(t *testing.T) {
	s := launch(t, specOf(web("rude"), deploy.Service{Name: "jobs", Command: "bin/app worker"}))
	s.healthy()
	pid, folder := s.pid(), s.folder()
	dialer := websocket.Dialer{NetDialContext: s.dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	socket, _, err := dialer.Dial("wss://"+host+"/socket", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	client := &http.Client{Transport: &http.Transport{DialContext: s.dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	begin := func(path string) *http.Response {
		resp, err := client.Get("https://" + host + path)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	stream, download := begin("/events"), begin("/slow?bytes=100000&for=2s")
	defer stream.Body.Close()
	defer download.Body.Close()
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	if _, _, err := socket.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseGoingAway) {
		t.Errorf("the websocket ended with %v, want 1001", err)
	}
	events, err := io.ReadAll(stream.Body)
	if err != nil || !strings.HasSuffix(string(events), "\n\n") {
		t.Errorf("the event stream ended with %v after %q", err, events[max(0, len(events)-20):])
	}
	n, err := io.Copy(io.Discard, download.Body)
	mustBe(t, "downloaded", fmt.Sprint(n, err), "100000 <nil>")
	if err := <-ended; err != nil {
		t.Errorf("the front ended with %v", err)
	}
	mustBe(t, "the service is gone", syscall.Kill(pid, 0), error(syscall.ESRCH))
	if _, err := os.Stat(string(folder)); !os.IsNotExist(err) {
		t.Errorf("its folder is left: %v", err)
	}
}

// While it takes leave, its health says so on the connections that are left.
func TestHealthAtTheEnd(t *testing.T) {
	s := sail(t, specOf(web("good")))
	s.healthy()
	conn, err := tls.Dial("tcp", s.addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	ask := func() *http.Response {
		fmt.Fprintf(conn, "GET /.lotse/health HTTP/1.1\r\nHost: %s\r\n\r\n", s.addr)
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp
	}
	mustBe(t, "before", ask().StatusCode, 200)
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	until(t, "it takes leave", func() bool { return strings.Contains(s.errs.String(), "takes leave") })
	resp := ask()
	mustBe(t, "health", fmt.Sprint(resp.StatusCode, resp.Close), "503 true")
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What a front that was killed leaves behind is gone when the next one comes.
func TestKilledFrontLeavesNothing(t *testing.T) {
	spec := specOf(web("good"))
	spec.Services[0].Command = "sh -c 'bin/app good & wait'" // the app is not the front's own child
	s := launch(t, spec)
	s.healthy()
	pid := s.pid()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
	mustBe(t, "the app lives on", syscall.Kill(pid, 0), error(nil))
	s.begin() // in the same folder, where the dead one has left its socket
	until(t, "the app is gone", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
	s.healthy()
}

// The front runs as a user who may write nothing but a folder for such things, beside a release that is of somebody else.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT RUN: only root may become another user; nothing is proven about a release of somebody else")
	}
	s := launch(t, specOf(web("good")), func(cmd *exec.Cmd) {
		dir := strings.TrimPrefix(cmd.Env[len(cmd.Env)-1], asProcess+"=")
		tmp, err := os.MkdirTemp("", "nobody")
		if err == nil {
			err = os.Chown(tmp, 65534, 65534)
		}
		exe := tmp + "/front" // the test's own lies where nobody else may go
		if err == nil {
			err = copyFile(exe, cmd.Path)
		}
		if err == nil {
			err = os.Rename(dir, tmp+"/release")
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(tmp) })
		cmd.Path, cmd.Args[0] = exe, exe
		for i, kv := range cmd.Env {
			if strings.HasPrefix(kv, "LOTSE_RUN=") {
				cmd.Env[i] = "TMPDIR=" + tmp
			}
		}
		cmd.Env[len(cmd.Env)-1] = asProcess + "=" + tmp + "/release"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	})
	s.dir, s.env = strings.TrimPrefix(s.cmd.Env[len(s.cmd.Env)-1], asProcess+"="), s.cmd.Env
	s.healthy()
	_, body := s.page("/about")
	mustSay(t, "the app", body, `"uid":65534`)
	mustBe(t, "root is answered", s.status().Services[0].Healthy, true)
	if err := s.stop(); err != nil {
		t.Errorf("%v: %s", err, s.errs)
	}
}

func copyFile(to, from string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o755)
}

// Where the platform sends its signal to everything of the instance, services end before what they are asked for does. What they were at
// they finish, and for what comes on kept connections meanwhile they are started again.
func TestPlatformEndsServicesToo(t *testing.T) {
	s := launch(t, specOf(web("good")))
	s.healthy()
	pid := s.pid()
	client := &http.Client{Transport: &http.Transport{DialContext: s.dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	kept := &http.Client{Transport: &http.Transport{DialContext: s.dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer kept.CloseIdleConnections()
	get := func() string {
		resp, err := kept.Get("https://" + host + "/get?word=hello")
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return fmt.Sprint(resp.StatusCode, string(body), err)
	}
	mustBe(t, "before", get(), "200hello\n<nil>")
	download, err := client.Get("https://" + host + "/slow?bytes=100000&for=1s")
	if err != nil {
		t.Fatal(err)
	}
	defer download.Body.Close()
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	until(t, "it takes leave", func() bool { return strings.Contains(s.errs.String(), "takes leave") })
	mustBe(t, "on a kept connection", get(), "200hello\n<nil>")
	n, err := io.Copy(io.Discard, download.Body)
	mustBe(t, "downloaded", fmt.Sprint(n, err), "100000 <nil>")
	if err := <-ended; err != nil {
		t.Errorf("the front ended with %v", err)
	}
}

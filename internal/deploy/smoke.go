package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"
)

// askSmoke asks what the file expects, in its order, until something is not as expected.
func (w *walk) askSmoke(ctx context.Context) error {
	for _, x := range w.stage.Gates.Smoke {
		begun := time.Now()
		limited, cancel := context.WithTimeout(ctx, x.Timeout)
		came, err := w.expect(limited, x)
		over := limited.Err() != nil
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && over:
			return fmt.Errorf("%w: smoke test %s: %s did not end within %s", ErrGate, x.Name, x.what(), x.Timeout)
		case err != nil:
			return fmt.Errorf("%w: smoke test %s: %w", ErrGate, x.Name, err)
		}
		w.prove(Evidence{Probe: "smoke test " + x.Name, Figure: fmt.Sprintf("%s: %s, in %s", x.what(), came, since(begun))})
	}
	return nil
}

func (x Expectation) what() string {
	if x.Run != "" {
		return x.Run
	}
	return "GET " + x.Get
}

func (w *walk) expect(ctx context.Context, x Expectation) (came string, err error) {
	to, err := w.engine.Reach(ctx, w.instances())
	if err != nil {
		return "", err
	}
	if x.Run != "" {
		return "exit code 0", w.runSmoke(ctx, x, to)
	}
	for {
		came, err = ask(ctx, to, w.c.Address(w.stage)+x.Get, x)
		if !Retryable(err) { // a proxy that is being started again says nothing of the release
			return came, err
		}
		if sleep(ctx, healthFirstIn) != nil {
			return came, err
		}
	}
}

// smokeBody is how much of an answer is looked at for a text.
const smokeBody = 4 << 20

// ask returns what came where it is as expected. Redirects are answers like others. Nothing of the body is told: it may be about people.
func ask(ctx context.Context, to http.RoundTripper, address string, x Expectation) (came string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("User-Agent", "Lotse-Smoke-Test")
	req.Header.Set("Accept-Encoding", "identity") // the text is looked for in what comes
	resp, err := to.RoundTrip(req)
	if err != nil {
		return "", fmt.Errorf("GET %s: %w", x.Get, withoutAddress(err))
	}
	defer resp.Body.Close()
	came = fmt.Sprintf("status %d", resp.StatusCode)
	if want := x.status(); want != "" && (x.Status != resp.StatusCode && (x.Status != 0 || resp.StatusCode/100 != 2)) {
		return "", fmt.Errorf("GET %s answered with %s, %s is expected", x.Get, came, want)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, smokeBody))
	if err != nil {
		return "", fmt.Errorf("GET %s answered with %s, and broke off: %w", x.Get, came, err)
	}
	if x.Contains == "" {
		return came, nil
	}
	if !strings.Contains(string(body), x.Contains) {
		return "", fmt.Errorf("GET %s answered with %s and %d bytes without the text %q", x.Get, came, len(body), x.Contains)
	}
	return came + " with the text", nil
}

// withoutAddress is an error of the network without the addresses at its ends.
func withoutAddress(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && !Retryable(err) {
		return fmt.Errorf("%s: %w", op.Op, op.Err)
	}
	return err
}

func (x Expectation) status() string {
	if x.Status == 0 {
		return "one from 200 to 299"
	}
	return fmt.Sprint(x.Status)
}

// runSmoke runs a command of the release as a task, so that it has the folder, the settings and the user of the release on every engine,
// and nothing of the release runs as the controller. Where tasks run on this machine, LOTSE_URL leads to the release.
func (w *walk) runSmoke(ctx context.Context, x Expectation, to http.RoundTripper) error {
	tasks, ok := w.c.opened(w.Stage).(Tasks)
	if !ok {
		return Hint(fmt.Errorf("%w: it runs no commands", ErrUnsupported), "ask with get instead of run")
	}
	command := x.Run
	if w.engine.Facts().TasksHere {
		address, end, err := openWay(ctx, to, w.c.Address(w.stage))
		if err != nil {
			return err
		}
		defer end()
		command = "export LOTSE_URL=" + address + "; " + command
	}
	err := tasks.Task(ctx, w.instances(), "smoke-"+x.Name, command, nil)
	if exit, ok := errors.AsType[*ExitError](err); ok {
		return &ExitError{Command: x.Run, Code: exit.Code, Tail: exit.Tail}
	}
	return err
}

// openWay listens on the loopback, without TLS, and leads every request to a release under the real host. The loopback is no wall between
// users of this machine, nor is it for the instances, which listen there, too.
func openWay(ctx context.Context, to http.RoundTripper, address string) (here string, end func(), err error) {
	stage, err := url.Parse(address)
	if err != nil {
		return "", nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	here = "http://" + listener.Addr().String()
	way := reached(to)
	way.ModifyResponse = func(resp *http.Response) error { // a redirect to the real address would lead to another release
		if to, err := resp.Location(); err == nil && to.Hostname() == stage.Hostname() {
			to.Scheme, to.Host = "http", listener.Addr().String()
			resp.Header.Set("Location", to.String())
		}
		return nil
	}
	server := &http.Server{ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			r.Host = stage.Host
			way.ServeHTTP(rw, r)
		})}
	go func() { _ = server.Serve(listener) }() // ends with Close
	return here, func() { _ = server.Close() }, nil
}

// reached leads requests to one release, with upgrades and streams, under the host that they are for.
func reached(to http.RoundTripper) *httputil.ReverseProxy {
	return &httputil.ReverseProxy{Transport: to, FlushInterval: -1, ErrorLog: log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "https", r.In.Host, r.In.Host
		}}
}

package front

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/proxy"
)

// Client asks the front that runs a release. It is safe for concurrent use and keeps no connection between calls.
type Client struct{ http *http.Client }

// Find finds the front that runs the release in dir; env is as os.Environ. The caller is its user, or root. ErrUnavailable where none
// runs, or where it runs as another user.
func Find(ctx context.Context, dir string, env []string) (*Client, error) {
	all, err := folders(dir, env)
	if err != nil {
		return nil, err
	}
	closed := false
	for _, f := range all {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", f.socket())
		closed = closed || errors.Is(err, os.ErrPermission)
		if err != nil || !f.trusted() {
			continue
		}
		conn.Close()
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", f.socket())
		}
		return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}, nil
	}
	if closed {
		return nil, deploy.Hint(fmt.Errorf("%w: the front of %s runs as another user", deploy.ErrUnavailable, dir), "ask as that user, or as root")
	}
	return nil, deploy.Hint(fmt.Errorf("%w: no front runs the release in %s", deploy.ErrUnavailable, dir), "what it said when it ended is in the output of `lotse front`")
}

// trusted reports whether nobody but the front's own user can have put the socket there.
func (f folder) trusted() bool {
	info, err := os.Lstat(string(f))
	if err != nil || !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (os.Geteuid() == 0 || int(stat.Uid) == os.Geteuid())
}

// Status says how its services are.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.call(ctx, http.MethodGet, "/status", &s)
	return s, err
}

// Samples is what the proxy has counted since the front began.
func (c *Client) Samples(ctx context.Context) (proxy.Stats, error) {
	var s proxy.Stats
	err := c.call(ctx, http.MethodGet, "/samples", &s)
	return s, err
}

// Drain is proxy.Server.LetGo: it returns when nothing is in flight, or after most, when the rest is cut. The front goes on to serve.
func (c *Client) Drain(ctx context.Context, most time.Duration) (proxy.Drained, error) {
	var d proxy.Drained
	err := c.call(ctx, http.MethodPost, "/drain?for="+url.QueryEscape(most.String()), &d)
	return d, err
}

func (c *Client) call(ctx context.Context, method, path string, out any) error {
	resp, err := c.send(ctx, method, path, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var a answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return broken(ctx, err)
	}
	if a.Error != "" {
		return errors.New(a.Error)
	}
	return json.Unmarshal(a.Value, out)
}

func (c *Client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://front"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, broken(ctx, err)
	}
	return resp, nil
}

func broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: the front broke the call off: %w", deploy.ErrUnavailable, err)
}

// ErrLate: the task was ended by its time limit.
var ErrLate = errLate

// Task runs a command once, with the environment of the services and in the release's folder, and gives each line of its output to say,
// masked. A cancel ends it, and so does the end of the front. ErrLate when Task.Timeout was over.
func (c *Client) Task(ctx context.Context, t Task, say func(line string)) (process.Exit, error) {
	body, err := json.Marshal(t)
	if err != nil {
		return process.Exit{}, err
	}
	resp, err := c.send(ctx, http.MethodPost, "/task", body)
	if err != nil {
		return process.Exit{}, err
	}
	defer resp.Body.Close()
	for events := json.NewDecoder(resp.Body); ; {
		var e taskEvent
		if err := events.Decode(&e); err != nil {
			return process.Exit{}, broken(ctx, err)
		}
		switch {
		case e.Line != nil:
			say(*e.Line)
		case e.Late:
			return process.Exit{}, ErrLate
		case e.Error != "":
			return process.Exit{}, errors.New(e.Error)
		case e.Exit != nil:
			return *e.Exit, nil
		}
	}
}

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Client asks a controller over its socket. It holds no connection between calls, so that a controller may be started again
// between two of them, and is safe for concurrent use. Errors are the sentinels of deploy; deploy.ErrUnavailable when no
// controller answers.
type Client struct {
	socket string
	http   *http.Client

	// ReachAgain is how long Follow tries to reach a controller that went away; default 2 min. Set it before the first call.
	ReachAgain time.Duration
}

// NewClient makes a client for the socket. Nothing is asked yet.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, ReachAgain: 2 * time.Minute,
		http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Ping asks who answers. It is answered also while the controller is still taking up what was unfinished.
func (c *Client) Ping(ctx context.Context) (Pong, error) {
	var p Pong
	return p, c.call(ctx, http.MethodGet, "/v1/ping", nil, &p)
}

// Deploy begins a deploy and returns its rollout's id. q.Dir must be absolute: the controller has a folder of its own.
func (c *Client) Deploy(ctx context.Context, q deploy.Request) (string, error) {
	var r deployReply
	err := c.call(ctx, http.MethodPost, "/v1/rollouts", q, &r)
	return r.ID, err
}

// Promote begins a rollout of what the stage before serves, and returns its id.
func (c *Client) Promote(ctx context.Context, q deploy.Move) (string, error) {
	var r deployReply
	err := c.call(ctx, http.MethodPost, "/v1/promotions", q, &r)
	return r.ID, err
}

// Rollback begins a rollout of what the stage served before, and returns its id.
func (c *Client) Rollback(ctx context.Context, q deploy.Move) (string, error) {
	var r deployReply
	err := c.call(ctx, http.MethodPost, "/v1/rollbacks", q, &r)
	return r.ID, err
}

// Redeploy begins a rollout of what the stage serves, with its variables of now, and returns its id.
func (c *Client) Redeploy(ctx context.Context, q deploy.Move) (string, error) {
	var r deployReply
	err := c.call(ctx, http.MethodPost, "/v1/redeploys", q, &r)
	return r.ID, err
}

// Abort ends a rollout; what it did is undone.
func (c *Client) Abort(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodPost, "/v1/rollouts/"+url.PathEscape(id)+"/abort", nil, &nothing{})
}

// End takes a stage off; it returns when nothing of it runs any more.
func (c *Client) End(ctx context.Context, stage deploy.StageRef, by deploy.Person) error {
	return c.call(ctx, http.MethodPost, "/v1/ends", endRequest{stage, by}, &nothing{})
}

// Hold keeps new requests of a stage waiting; without bounds it lets them go on.
func (c *Client) Hold(ctx context.Context, q deploy.Closing) (deploy.Closed, error) {
	var r closedReply
	err := c.call(ctx, http.MethodPost, "/v1/holds", q, &r)
	return r.Closed, err
}

// Maintain answers new requests of a stage by a page; without one it lets them in again.
func (c *Client) Maintain(ctx context.Context, q deploy.Closing) (deploy.Closed, error) {
	var r closedReply
	err := c.call(ctx, http.MethodPost, "/v1/maintenances", q, &r)
	return r.Closed, err
}

// Contract runs the migrations that wait on a stage, and returns when they have run.
func (c *Client) Contract(ctx context.Context, q deploy.Contracting) error {
	return c.call(ctx, http.MethodPost, "/v1/contracts", q, &nothing{})
}

// Status returns every stage.
func (c *Client) Status(ctx context.Context) ([]deploy.StageStatus, error) {
	var r stagesReply
	err := c.call(ctx, http.MethodGet, "/v1/stages", nil, &r)
	return r.Stages, err
}

// History returns rollouts, the newest first, at most limit (0: all). An empty app or stage is any.
func (c *Client) History(ctx context.Context, app, stage string, limit int) ([]deploy.Rollout, error) {
	q := url.Values{"app": {app}, "stage": {stage}, "limit": {strconv.Itoa(limit)}}
	var r rolloutsReply
	err := c.call(ctx, http.MethodGet, "/v1/rollouts?"+q.Encode(), nil, &r)
	return r.Rollouts, err
}

// Rollout returns one rollout.
func (c *Client) Rollout(ctx context.Context, id string) (deploy.Rollout, error) {
	var r rolloutReply
	err := c.call(ctx, http.MethodGet, "/v1/rollouts/"+url.PathEscape(id), nil, &r)
	return r.Rollout, err
}

// Release returns a release by its whole digest.
func (c *Client) Release(ctx context.Context, id deploy.Digest) (deploy.Release, error) {
	var r releaseReply
	err := c.call(ctx, http.MethodGet, "/v1/releases/"+url.PathEscape(string(id)), nil, &r)
	return r.Release, err
}

// Names returns the names of those people that the controller knows by name.
func (c *Client) Names(ctx context.Context, ids []string) (map[string]string, error) {
	var r namesReply
	err := c.call(ctx, http.MethodPost, "/v1/names", namesBody{ids}, &r)
	return r.Names, err
}

// Logs gives the output of a stage's instances to yield until it returns false, everything was given or, with Follow, ctx ends.
// A controller that goes away meanwhile is deploy.ErrUnavailable.
func (c *Client) Logs(ctx context.Context, stage deploy.StageRef, q deploy.LogQuery, yield func(deploy.LogLine) bool) error {
	v := url.Values{"rollout": {q.Rollout}, "service": {q.Service}, "lines": {strconv.Itoa(q.Lines)}}
	if q.Follow {
		v.Set("follow", "true")
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.Format(time.RFC3339Nano))
	}
	path := "/v1/stages/" + url.PathEscape(stage.App) + "/" + url.PathEscape(stage.Stage) + "/logs?" + v.Encode()
	err := c.stream(ctx, path, func(item json.RawMessage) error {
		var l deploy.LogLine
		if err := json.Unmarshal(item, &l); err != nil {
			return err
		}
		if !yield(l) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	if errors.Is(err, errCut) {
		return deploy.Hint(fmt.Errorf("%w: %w", deploy.ErrUnavailable, err), "ask again when the controller is back")
	}
	return err
}

var errEnough = errors.New("enough")

// Follow gives what is known of a rollout to yield, then every change and every line of live output, until the rollout has ended
// (nil), yield returns an error (that error) or ctx ends. When the controller goes away, yield is given Lost, and Back when it is there
// again and the rollout's state comes anew; deploy.ErrUnavailable when it stays away for ReachAgain. A controller that does
// not answer the first time is an error at once.
func (c *Client) Follow(ctx context.Context, id string, yield func(Update) error) error {
	f := &following{yield: yield}
	connect := func() error { return c.stream(ctx, "/v1/rollouts/"+url.PathEscape(id)+"/updates", f.item) }
	err := connect()
	for errors.Is(err, errCut) {
		if err := f.lose(c.ReachAgain); err != nil {
			return err
		}
		err = c.again(ctx, f.until, id, connect)
	}
	if no, ok := errors.AsType[refused](err); ok {
		return no.error
	}
	return err
}

// following is one call of Follow over all its connections.
type following struct {
	yield func(Update) error
	lost  bool
	until time.Time // when it is lost for good
}

func (f *following) item(raw json.RawMessage) error {
	var u Update
	if err := json.Unmarshal(raw, &u); err != nil {
		return err
	}
	if f.lost {
		f.lost = false
		if err := f.yield(Update{Connection: Back}); err != nil {
			return refused{err}
		}
	}
	if err := f.yield(u); err != nil {
		return refused{err}
	}
	return nil
}

// lose says it once, however many connections come to nothing.
func (f *following) lose(reachAgain time.Duration) error {
	if f.lost {
		return nil
	}
	f.lost, f.until = true, time.Now().Add(reachAgain)
	return f.yield(Update{Connection: Lost})
}

// refused is what yield said. Nothing that it wraps is seen: it is no matter of the connection.
type refused struct{ error }

const (
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// again calls connect until it does not fail for want of a controller, or it is too late.
func (c *Client) again(ctx context.Context, until time.Time, id string, connect func() error) error {
	limited, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-limited.Done():
			timer.Stop()
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return deploy.Hint(fmt.Errorf("%w: the controller went away and did not come back within %s", deploy.ErrUnavailable, c.ReachAgain),
				"start it with `lotse serve`: it takes the rollout up again; then `lotse follow "+id+"`")
		}
		if err := connect(); !errors.Is(err, deploy.ErrUnavailable) {
			return err
		}
	}
}

// call asks once and reads the whole answer.
func (c *Client) call(ctx context.Context, method, path string, body, into any) error {
	response, err := c.ask(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxReply))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("the controller's answer cannot be read: %w", err)
	}
	return nil
}

func (c *Client) stream(ctx context.Context, path string, yield func(json.RawMessage) error) error {
	response, err := c.ask(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err = receive(response.Body, yield); errors.Is(err, errCut) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// ask returns an answer that is no error; its body is the caller's to close.
func (c *Client) ask(ctx context.Context, method, path string, body any) (*http.Response, error) {
	if err := fits(c.socket); err != nil {
		return nil, err
	}
	var sent io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		sent = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://lotse"+path, sent)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if response.StatusCode == http.StatusOK {
		return response, nil
	}
	defer response.Body.Close()
	var reply errorReply
	if err := json.NewDecoder(io.LimitReader(response.Body, maxReply)).Decode(&reply); err != nil || reply.Error == nil {
		return nil, fmt.Errorf("the controller answered %s and did not say why", response.Status)
	}
	return nil, received(reply.Error)
}

// unreachable says why no answer came, and what to do.
func (c *Client) unreachable(ctx context.Context, err error) error {
	var dial *net.OpError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, fs.ErrPermission):
		return deploy.Hint(fmt.Errorf("%w: the controller at %s belongs to another user", deploy.ErrUnavailable, c.socket),
			"run this as the user who started it, or name your own with --state")
	case errors.As(err, &dial) && dial.Op == "dial":
		return deploy.Hint(fmt.Errorf("%w: no controller answers at %s", deploy.ErrUnavailable, c.socket), "start it with `lotse serve`")
	}
	return deploy.Hint(fmt.Errorf("%w: the controller ended before it answered", deploy.ErrUnavailable),
		"start it with `lotse serve`, then `lotse status` shows what it has begun")
}

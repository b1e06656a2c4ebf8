package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// harbour is a scripted controller in memory, served over a real socket. A transcript describes it in JSON; "@-12m" there is
// a time seen from now. It is an api.Service.
type harbour struct {
	Stages   []deploy.StageStatus
	Rollouts []deploy.Rollout           // the newest first
	Updates  map[string][]deploy.Update // what Follow tells
	Releases []deploy.Release
	People   map[string]string
	Lines    []deploy.LogLine
	Notices  []deploy.NoticeResult
	Refuse   map[string]*api.Error // by verb
	Kept     map[string][]kept     // variables, by stage
	Planned  *deploy.Plan
	Figures  []deploy.Dora
	Jobs     []deploy.DataJob // what a job goes through
	Snaps    []deploy.Snapshot
	Data     []deploy.DataStatus
	Personal deploy.People // columns

	mu    sync.Mutex
	asked []string
	more  chan struct{} // closed and made anew when something changed
}

var fromNow = regexp.MustCompile(`"@(-?[0-9smh]+)"`)

func newHarbour(script string) (*harbour, error) {
	now := time.Now()
	script = fromNow.ReplaceAllStringFunc(script, func(s string) string {
		d, err := time.ParseDuration(strings.Trim(s, `"@`))
		if err != nil {
			return s
		}
		return now.Add(d).Format(`"` + time.RFC3339Nano + `"`)
	})
	h := &harbour{more: make(chan struct{})}
	d := json.NewDecoder(strings.NewReader(script))
	d.DisallowUnknownFields()
	return h, d.Decode(h)
}

// serve answers on the socket until stop, which waits for the end.
func (h *harbour) serve(socket string) (stop func(), err error) {
	l, err := api.Listen(socket)
	// A child of another transcript has this process' lock for the moment between its fork and its exec.
	for deadline := time.Now().Add(20 * time.Second); errors.Is(err, deploy.ErrBusy) && time.Now().Before(deadline); {
		runtime.Gosched()
		l, err = api.Listen(socket)
	}
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- api.NewServer(h, "1.0-test", slog.New(slog.DiscardHandler)).ServeOn(ctx, l) }()
	return sync.OnceFunc(func() { cancel(); <-ended }), nil
}

// note writes down what was asked, and refuses what the script wants refused.
func (h *harbour) note(verb string, with ...any) error {
	h.change(func() { h.asked = append(h.asked, strings.TrimSpace(fmt.Sprintln(append([]any{verb}, with...)...))) })
	if no := h.Refuse[verb]; no != nil {
		return deploy.Hint(no, no.Hint)
	}
	return nil
}

func (h *harbour) change(f func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f()
	close(h.more)
	h.more = make(chan struct{})
}

// await waits until something was asked.
func (h *harbour) await(what string) error {
	limit := time.After(20 * time.Second)
	for {
		h.mu.Lock()
		asked, more := slices.Contains(h.asked, what), h.more
		h.mu.Unlock()
		if asked {
			return nil
		}
		select {
		case <-more:
		case <-limit:
			return fmt.Errorf("nobody asked %q", what)
		}
	}
}

func (h *harbour) log() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.asked, "\n") + "\n"
}

func (h *harbour) tell(id string, u deploy.Update) {
	h.change(func() {
		if h.Updates == nil {
			h.Updates = map[string][]deploy.Update{}
		}
		h.Updates[id] = append(h.Updates[id], u)
	})
}

func (h *harbour) Ready() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (h *harbour) Deploy(_ context.Context, q deploy.Request) (string, error) {
	return "k3v7q2xa", h.note("deploy", fmt.Sprintf("%+v", q))
}

func (h *harbour) Promote(_ context.Context, q deploy.Move) (string, error) {
	return "k3v7q2xa", h.note("promote", fmt.Sprintf("%+v", q))
}

func (h *harbour) Rollback(_ context.Context, q deploy.Move) (string, error) {
	return "k3v7q2xa", h.note("rollback", fmt.Sprintf("%+v", q))
}

func (h *harbour) Redeploy(_ context.Context, q deploy.Move) (string, error) {
	return "k3v7q2xa", h.note("redeploy", fmt.Sprintf("%+v", q))
}

func (h *harbour) Abort(_ context.Context, id string) error { return h.note("abort", id) }

func (h *harbour) End(_ context.Context, stage deploy.StageRef, _ deploy.Person) error {
	return h.note("end", stage)
}

func (h *harbour) Contract(context.Context, deploy.Contracting) error { return nil }

func (h *harbour) Hold(_ context.Context, q deploy.Closing) (deploy.Closed, error) {
	bounds := "none"
	if b := q.Bounds; b != nil {
		bounds = fmt.Sprint(b.For, b.Requests, b.Bytes)
	}
	return deploy.Closed{Until: time.Now()}, h.note("hold", fmt.Sprintf("App:%s Stage:%s Bounds:%s Reason:%s", q.App, q.Stage, bounds, q.Reason))
}

func (h *harbour) Maintain(_ context.Context, q deploy.Closing) (deploy.Closed, error) {
	page := "none"
	if p := q.Page; p != nil {
		page = strings.TrimSpace(p.Message + p.HTML)
	}
	return deploy.Closed{Maintenance: true}, h.note("maintenance", "Page:"+page)
}

func (h *harbour) Status(context.Context) ([]deploy.StageStatus, error) {
	return h.Stages, h.note("status")
}

func (h *harbour) History(_ context.Context, app, stage string, limit int) ([]deploy.Rollout, error) {
	return h.Rollouts, h.note("history", fmt.Sprintf("%q %q %d", app, stage, limit))
}

func (h *harbour) Rollout(_ context.Context, id string) (deploy.Rollout, error) {
	if err := h.note("rollout", id); err != nil {
		return deploy.Rollout{}, err
	}
	i := slices.IndexFunc(h.Rollouts, func(r deploy.Rollout) bool { return r.ID == id })
	if i < 0 {
		return deploy.Rollout{}, deploy.Hint(fmt.Errorf("%w: no rollout %q", deploy.ErrNotFound, id), "`lotse history` lists them")
	}
	return h.Rollouts[i], nil
}

func (h *harbour) Release(_ context.Context, id deploy.Digest) (deploy.Release, error) {
	if err := h.note("release", id); err != nil {
		return deploy.Release{}, err
	}
	i := slices.IndexFunc(h.Releases, func(r deploy.Release) bool { return r.ID == id })
	if i < 0 {
		return deploy.Release{}, fmt.Errorf("%w: release %s", deploy.ErrNotFound, id)
	}
	return h.Releases[i], nil
}

func (h *harbour) Names(context.Context, []string) map[string]string { return h.People }

func (h *harbour) Logs(ctx context.Context, stage deploy.StageRef, q deploy.LogQuery, yield func(deploy.LogLine) bool) error {
	asked := fmt.Sprintf("{Rollout:%s Service:%s Lines:%d Follow:%v}", q.Rollout, q.Service, q.Lines, q.Follow)
	if !q.Since.IsZero() {
		asked += " since " + q.Since.UTC().Format(time.RFC3339)
	}
	if err := h.note("logs", stage, asked); err != nil {
		return err
	}
	for _, l := range h.Lines {
		if !yield(l) {
			return nil
		}
	}
	h.note("logs given")
	if q.Follow {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (h *harbour) Follow(ctx context.Context, id string, yield func(deploy.Update) error) error {
	if err := h.note("follow", id); err != nil {
		return err
	}
	for given := 0; ; {
		h.mu.Lock()
		next, more := slices.Clone(h.Updates[id][given:]), h.more
		h.mu.Unlock()
		for _, u := range next {
			given++
			if err := yield(u); err != nil || u.Rollout != nil && u.Rollout.Outcome.Ended() {
				return err
			}
		}
		if len(next) > 0 {
			h.note("told", id, given)
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (h *harbour) askedFor() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.asked)
}

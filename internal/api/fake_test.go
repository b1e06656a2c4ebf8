package api

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// fake is a controller in memory. A test fills it in; its methods may be called from anywhere.
type fake struct {
	ready   chan struct{}
	err     error // of every verb, where set
	names   map[string]string
	logs    []deploy.LogLine
	release deploy.Release

	mu      sync.Mutex
	asked   []any
	updates map[string][]deploy.Update
	more    chan struct{} // closed and made anew when there are more updates
}

func newFake() *fake {
	f := &fake{ready: make(chan struct{}), updates: map[string][]deploy.Update{}, more: make(chan struct{})}
	close(f.ready)
	return f
}

func (f *fake) note(v any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, v)
	return f.err
}

func (f *fake) Ready() <-chan struct{} { return f.ready }

func (f *fake) Deploy(_ context.Context, q deploy.Request) (string, error) { return "aaaa", f.note(q) }

func (f *fake) Promote(_ context.Context, q deploy.Move) (string, error) { return "pppp", f.note(q) }

func (f *fake) Rollback(_ context.Context, q deploy.Move) (string, error) { return "rrrr", f.note(q) }

func (f *fake) Redeploy(_ context.Context, q deploy.Move) (string, error) { return "dddd", f.note(q) }

func (f *fake) End(_ context.Context, stage deploy.StageRef, by deploy.Person) error {
	return f.note("end " + stage.String() + " " + by.Name)
}

func (f *fake) Contract(context.Context, deploy.Contracting) error { return nil }

func (f *fake) Hold(_ context.Context, q deploy.Closing) (deploy.Closed, error) {
	return deploy.Closed{Waiting: 3}, f.note(q)
}

func (f *fake) Maintain(_ context.Context, q deploy.Closing) (deploy.Closed, error) {
	return deploy.Closed{Maintenance: true}, f.note(q)
}

func (f *fake) Abort(_ context.Context, id string) error { return f.note("abort " + id) }

func (f *fake) Status(context.Context) ([]deploy.StageStatus, error) {
	at := time.Date(2026, 11, 5, 12, 0, 0, 5, time.UTC)
	return []deploy.StageStatus{{Stage: deploy.StageRef{App: "app", Stage: "dev"}, URL: "https://app.localhost",
		Serves: &deploy.Lane{Rollout: "aaaa", Since: at}, OnItsWay: &deploy.Rollout{ID: "bbbb", Began: at},
		Running: []deploy.Running{{Rollout: "aaaa", Share: 100, Since: at, Services: []deploy.RunningService{
			{Name: "api", Instances: []deploy.RunningInstance{{Number: 1, Healthy: true, Restarts: 2, Note: "n"}}}}}}}}, f.note("status")
}

func (f *fake) History(_ context.Context, app, stage string, limit int) ([]deploy.Rollout, error) {
	return []deploy.Rollout{{ID: "aaaa"}}, f.note([]any{app, stage, limit})
}

func (f *fake) Rollout(_ context.Context, id string) (deploy.Rollout, error) {
	return deploy.Rollout{ID: id, Outcome: deploy.Settled}, f.note("rollout " + id)
}

func (f *fake) Release(_ context.Context, id deploy.Digest) (deploy.Release, error) {
	return f.release, f.note(id)
}

func (f *fake) Names(context.Context, []string) map[string]string { return f.names }

func (f *fake) Logs(ctx context.Context, stage deploy.StageRef, q deploy.LogQuery, yield func(deploy.LogLine) bool) error {
	if err := f.note([]any{stage, q}); err != nil {
		return err
	}
	for _, l := range f.logs {
		if !yield(l) {
			return nil
		}
	}
	if q.Follow {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (f *fake) send(id string, u deploy.Update) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.updates[id] = append(f.updates[id], u)
	close(f.more)
	f.more = make(chan struct{})
}

func (f *fake) Follow(ctx context.Context, id string, yield func(deploy.Update) error) error {
	if err := f.note("follow " + id); err != nil {
		return err
	}
	for given := 0; ; {
		f.mu.Lock()
		next, more := slices.Clone(f.updates[id][given:]), f.more
		f.mu.Unlock()
		for _, u := range next {
			given++
			if err := yield(u); err != nil || u.Rollout != nil && u.Rollout.Outcome.Ended() {
				return err
			}
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fake) calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.asked)
}

func (f *fake) last() any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked[len(f.asked)-1]
}

// at is a rollout on its way, or at its end.
func at(id string, outcome deploy.Outcome) deploy.Update {
	return deploy.Update{Rollout: &deploy.Rollout{ID: id, Outcome: outcome}}
}

func says(line string) deploy.Update {
	return deploy.Update{Output: &deploy.Output{Step: "test", Line: line}}
}

// serving serves s on the socket until stop, which waits for the end.
func serving(t *testing.T, s Service, socket string) (stop func()) {
	t.Helper()
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- NewServer(s, "1.0", slog.New(slog.DiscardHandler)).ServeOn(ctx, l) }()
	return sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
}

// reached is a client of a server of f that lives as long as the test.
func reached(t *testing.T, f Service) *Client {
	socket := socketOf(t)
	t.Cleanup(serving(t, f, socket))
	return NewClient(socket)
}

func socketOf(t *testing.T) string { return filepath.Join(t.TempDir(), "s") }

// sentinels are all that deploy has; the test of codes fails when one is missing here.
var sentinels = []error{deploy.ErrRegression, deploy.ErrFenced, deploy.ErrUnknown, deploy.ErrUnsupported, deploy.ErrUnhealthy, deploy.ErrCannotStart,
	deploy.ErrBusy, deploy.ErrNotFound, deploy.ErrBadInput, deploy.ErrBuild, deploy.ErrDamaged, deploy.ErrNoSpace, deploy.ErrAborted,
	deploy.ErrUnavailable, deploy.ErrMissing, deploy.ErrMigration, deploy.ErrRefused, deploy.ErrGate}

// mistakes is an error with a JSON of its own, as a room that reads files has it.
type mistakes []string

func (m mistakes) Error() string                { return "mistakes in the file" }
func (m mistakes) Is(target error) bool         { return target == deploy.ErrBadInput }
func (m mistakes) MarshalJSON() ([]byte, error) { return []byte(`{"mistakes":["` + m[0] + `"]}`), nil }

var errPlain = errors.New("something that has no sentinel")

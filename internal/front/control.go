package front

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/proxy"
)

const (
	taskBody      = 1 << 20
	headerTimeout = 10 * time.Second
)

// listenControl opens the socket. The folder that it lies in is 0700, so who may connect is the same user, or root.
// alive ends what was asked for over it.
func (f *Front) listenControl(alive context.Context) (*http.Server, error) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: f.folder.socket(), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(f.folder.socket(), 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { reply(w, f.status(), nil) })
	mux.HandleFunc("GET /samples", func(w http.ResponseWriter, _ *http.Request) { reply(w, f.proxy.Stats(), nil) })
	mux.HandleFunc("POST /drain", f.serveDrain)
	mux.HandleFunc("POST /task", f.serveTask)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, BaseContext: func(net.Listener) context.Context { return alive }}
	go func() { _ = server.Serve(l) }() // ends with Close, and closes l
	return server, nil
}

// answer is what goes over the socket: a value, or an error in words.
type answer struct {
	Value json.RawMessage `json:"value,omitempty"`
	Error string          `json:"error,omitempty"`
}

func reply(w http.ResponseWriter, value any, err error) {
	var a answer
	if err == nil {
		a.Value, err = json.Marshal(value)
	}
	if err != nil {
		a.Error = err.Error()
	}
	_ = json.NewEncoder(w).Encode(a)
}

func (f *Front) serveDrain(w http.ResponseWriter, r *http.Request) {
	most, err := time.ParseDuration(r.URL.Query().Get("for"))
	var done proxy.Drained
	if err == nil {
		done, err = f.proxy.LetGo(r.Context(), f.spec.key(), f.spec.Rollout, most)
	}
	reply(w, done, err)
}

// Task is a command of the release that is run once.
type Task struct {
	Name    string        `json:"name"`    // of its lines in the front's output
	Command []string      `json:"command"` // one word is given to a shell, several are a program and its arguments
	Timeout time.Duration `json:"timeout"` // 0: none
	Quiet   bool          `json:"quiet"`   // its lines are for who asks alone, and not in the front's output
}

// taskEvent is one line of the answer to a task: lines, and then how it ended.
type taskEvent struct {
	Line *string       `json:"line,omitempty"`
	Exit *process.Exit `json:"exit,omitempty"`
	Late bool          `json:"late,omitempty"` // the timeout ended it
	// Error is why it could not be run.
	Error string `json:"error,omitempty"`
}

// serveTask runs a task for as long as who asked for it stays.
func (f *Front) serveTask(w http.ResponseWriter, r *http.Request) {
	f.tasks.Add(1)
	defer f.tasks.Done()
	var task Task
	events := json.NewEncoder(w)
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, taskBody)).Decode(&task); err != nil {
		_ = events.Encode(taskEvent{Error: err.Error()})
		return
	}
	flush := http.NewResponseController(w)
	exit, err := f.task(r.Context(), task, func(line string) {
		_ = events.Encode(taskEvent{Line: &line})
		_ = flush.Flush()
	})
	switch {
	case errors.Is(err, errLate):
		_ = events.Encode(taskEvent{Late: true})
	case err != nil:
		_ = events.Encode(taskEvent{Error: err.Error()})
	default:
		_ = events.Encode(taskEvent{Exit: &exit})
	}
}

var errLate = errors.New("the task was ended by its time limit")

func (f *Front) task(ctx context.Context, t Task, say func(line string)) (process.Exit, error) {
	if t.Name == "" || len(t.Command) == 0 {
		return process.Exit{}, errors.New("a task has a name and a command")
	}
	if t.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, t.Timeout, errLate)
		defer cancel()
	}
	home, err := os.MkdirTemp(f.folder.at("homes"), "task-")
	if err == nil {
		defer os.RemoveAll(home)
		err = os.Mkdir(home+"/tmp", 0o700)
	}
	if err != nil {
		return process.Exit{}, err
	}
	if len(t.Command) == 1 {
		t.Command = []string{"/bin/sh", "-c", t.Command[0]}
	}
	return process.Run(ctx, f.process(t.Name, t.Command, home, ""), func(line string) {
		if !t.Quiet {
			f.out.say(f.clock(), t.Name, line)
		}
		say(line)
	})
}

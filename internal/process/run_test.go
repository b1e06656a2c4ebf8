package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/secret"
)

func pidIn(t *testing.T, file string) int {
	t.Helper()
	pid := 0
	eventually(t, "a pid in "+filepath.Base(file), func() bool {
		raw, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(raw)))
		return pid > 0
	})
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGKILL) })
	return pid
}

// needCgroup returns where cgroups can be made.
func needCgroup(t *testing.T, what string) string {
	t.Helper()
	home := cgroupHome()
	if home == "" {
		t.Skip("NOT RUN: " + what + ": this user can make no cgroup v2 here")
	}
	return home
}

// A cancelled Run leaves nothing behind, not even a child that was forked twice, has its own session, another environment
// and no parent: that needs a cgroup.
func TestCancelEndsAlsoWhatHasEscaped(t *testing.T) {
	needCgroup(t, "ending what has left the session")
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("superseded")
	done := make(chan error, 1)
	go func() {
		_, err := Run(ctx, Spec{Name: "t", Command: self("stray", file, "stay"), Grace: time.Second}, nil)
		done <- err
	}()
	pid := pidIn(t, file)
	cancel(reason)
	if err := <-done; !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
	if lives(pid) {
		t.Error("the stray lives")
	}
}

// Without a cgroup, whoever has kept the environment, the session or the parent is found.
func TestCancelWithoutCgroupEndsTheTree(t *testing.T) {
	for name, script := range map[string]string{
		"a child":                              `sleep 1000 & echo $! > "$0"; wait`,
		"another session":                      `setsid sleep 1000 & echo $! > "$0"; wait`,
		"another session, orphaned":            `(setsid sh -c 'echo $$ > "$0"; exec sleep 1000' "$0" &) ; exec sleep 1000`,
		"no environment, in session":           `env -i /bin/sleep 1000 & echo $! > "$0"; wait`,
		"no environment, in session, orphaned": `(env -i /bin/sleep 1000 & echo $! > "$0"); exec sleep 1000`,
		"no environment, other session":        `setsid env -i /bin/sleep 1000 & echo $! > "$0"; wait`,
		"deaf to SIGTERM":                      `trap '' TERM; sleep 1000 & echo $! > "$0"; while :; do wait; done`,
		"stopped":                              `sleep 1000 & kill -STOP $!; echo $! > "$0"; wait`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pid")
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := run(ctx, Spec{Name: "t", Command: []string{"sh", "-c", script, file}, Env: []string{"PATH=/usr/bin:/bin"},
					Grace: 200 * time.Millisecond}, nil, "")
				done <- err
			}()
			pid := pidIn(t, file)
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			eventually(t, "the child is gone", func() bool { return !lives(pid) }) // the kernel may be at its end
		})
	}
}

// What a command leaves running when it ends is ended, too, and does not make Run wait for its end of the pipe.
func TestRunLeavesNothingBehind(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	began := time.Now()
	exit, err := Run(t.Context(), Spec{Name: "t", Command: []string{"sh", "-c", `sleep 1000 & echo $! > "$0"; echo done`, file}, Env: []string{"PATH=/usr/bin:/bin"}}, nil)
	if err != nil || !exit.OK() {
		t.Fatalf("%v, %v", exit, err)
	}
	if pid := pidIn(t, file); lives(pid) {
		t.Error("the child lives")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if home := cgroupHome(); home != "" {
		entries, _ := os.ReadDir(home)
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), fmt.Sprintf("run.%d.", os.Getpid())) {
				t.Errorf("the cgroup %s was left behind", e.Name())
			}
		}
	}
}

func TestRunMasksAndReportsSignals(t *testing.T) {
	var got []string
	exit, err := Run(t.Context(), Spec{Name: "t", Command: []string{"sh", "-c", `printf hunter2-; printf 'correct\n' >&2; kill -9 $$`},
		Env: []string{"PATH=/usr/bin:/bin"}, Mask: []secret.Text{secret.New("hunter2-correct")}}, func(l string) { got = append(got, l) })
	if err != nil || exit.Signal != "SIGKILL" || exit.OK() || !slices.Equal(got, []string{"•••"}) {
		t.Errorf("%q, %v, %v", got, exit, err)
	}
}

func TestRunCannotStart(t *testing.T) {
	for name, spec := range map[string]Spec{
		"no such program":   {Command: []string{"/nowhere"}},
		"not in PATH":       {Command: []string{"surely-not-there"}, Env: []string{"PATH=/usr/bin"}},
		"no such directory": {Command: self("exit", "0"), Dir: "/nowhere"},
		"no command":        {},
	} {
		if _, err := Run(t.Context(), spec, nil); !errors.Is(err, ErrCannotStart) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A controller that dies with kill -9 takes its steps with it; what those had started is ended by Sweep.
func TestSweepEndsWhatADeadCallerHasLeft(t *testing.T) {
	needCgroup(t, "finding what has left the session of a dead caller")
	file := filepath.Join(t.TempDir(), "pid")
	caller := startChild(t, "run", file)
	stray := pidIn(t, file)
	var step int
	eventually(t, "the step", func() bool {
		for _, s := range processes() {
			if s.ppid == caller && !s.dead() {
				step = s.pid
			}
		}
		return step != 0
	})
	// As long as the caller lives, nothing of it is touched.
	if _, err := Sweep(soon(t)); err != nil || !lives(stray) || !lives(step) {
		t.Fatalf("a living run was swept: %v", err)
	}
	kill(t, caller)
	eventually(t, "the end of the caller", func() bool { return !lives(caller) })
	eventually(t, "the end of the step with its caller", func() bool { return !lives(step) })
	if !lives(stray) {
		t.Skip("NOT RUN: the stray ended by itself")
	}
	ended, err := Sweep(soon(t))
	if err != nil || ended == 0 || lives(stray) {
		t.Errorf("swept %d, %v; the stray lives: %v", ended, err, lives(stray))
	}
}

func TestPortsOfATree(t *testing.T) {
	ports := make(chan int, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pid := make(chan int, 1)
	go func() {
		_, _ = Run(ctx, Spec{Name: "t", Command: []string{"sh", "-c", `echo $$; exec "$0" child listen and-a-child`, exe()}, Env: []string{"PATH=/usr/bin:/bin"}},
			func(l string) {
				n, _ := strconv.Atoi(l)
				select {
				case pid <- n: // the first line
				default:
					ports <- n
				}
			})
	}()
	want := []int{<-ports, <-ports}
	slices.Sort(want)
	got, err := PortsOf(<-pid)
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// A caller that is itself kept hands its environment on: its marker must not become that of the new tree.
func TestAnInheritedMarkerDoesNotCount(t *testing.T) {
	var got []string
	_, err := Run(t.Context(), Spec{Name: "t", Command: []string{"sh", "-c", `cat /proc/self/environ | tr '\0' '\n' | sed -n 's/^LOTSE_TREE=\(....\).*/\1/p; /^LISTEN_/p; /^A=/p'`},
		Env: []string{"PATH=/usr/bin:/bin", "LOTSE_TREE=outer", "LISTEN_FDS=2", "A=b"}}, func(l string) { got = append(got, l) })
	slices.Sort(got)
	if err != nil || !slices.Equal(got, []string{"A=b", "run."}) {
		t.Errorf("got %q, %v", got, err)
	}
}

// A command may write faster than its output is read, as every program may on a pipe.
func TestOutputFasterThanItIsRead(t *testing.T) {
	lines := 0
	spec := Spec{Name: "fast", Command: []string{"/bin/sh", "-euc", `i=0; line=$(head -c 4000 /dev/zero | tr '\0' x); while [ $i -lt 500 ]; do echo "$line"; i=$((i+1)); done`},
		Dir: "/", Env: []string{"PATH=/usr/bin:/bin"}}
	exit, err := Run(t.Context(), spec, func(string) {
		lines++
		if lines == 1 { // a reader that is slow once: the pipe fills
			eventually(t, "the pipe is full", func() bool { return writerSleeps(t) })
		}
	})
	if err != nil || !exit.OK() || lines != 500 {
		t.Errorf("got %d lines, %v, %v; want 500 and exit code 0", lines, exit, err)
	}
}

// writerSleeps reports whether a child of this process waits in a write to a pipe, or has ended.
func writerSleeps(t *testing.T) bool {
	t.Helper()
	children, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range children {
		pids, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for pid := range strings.FieldsSeq(string(pids)) {
			if where, err := os.ReadFile("/proc/" + pid + "/wchan"); err == nil && strings.Contains(string(where), "pipe_write") {
				return true
			}
			if stat, err := os.ReadFile("/proc/" + pid + "/stat"); err == nil && strings.Contains(string(stat), ") Z ") {
				return true
			}
		}
	}
	return false
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a program that the bench started in the foreground, and ends.
type process struct {
	cmd    *exec.Cmd
	stdin  io.Closer // of our own children: they end when it is closed
	output *limited
}

// limited keeps the beginning of what a program says, for the error when it does not work.
type limited struct{ text []byte }

func (l *limited) Write(p []byte) (int, error) {
	if room := 4096 - len(l.text); room > 0 {
		l.text = append(l.text, p[:min(room, len(p))]...)
	}
	return len(p), nil
}

// start runs a program of somebody else. It ends with us, also when we get kill -9.
func start(argv ...string) (*process, error) {
	p := &process{cmd: exec.Command(argv[0], argv[1:]...), output: &limited{}}
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return p, p.cmd.Start()
}

// startSelf runs this program again as a child of the given kind and returns the address that it listens on.
func startSelf(kind string, plan childPlan) (*process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	p := &process{cmd: exec.Command(self, childArgument, kind), output: &limited{}}
	p.cmd.Stderr = p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	stdin, err1 := p.cmd.StdinPipe()
	stdout, err2 := p.cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		return nil, "", err
	}
	p.stdin = stdin
	if err := p.cmd.Start(); err != nil {
		return nil, "", err
	}
	if err := json.NewEncoder(stdin).Encode(plan); err != nil {
		return nil, "", errors.Join(err, p.stop())
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("the child %s did not start: %w", kind, err), p.stop())
	}
	return p, strings.TrimSpace(line), nil
}

// stop ends the process in its own way and waits for it.
func (p *process) stop() error {
	if p.stdin != nil {
		_ = p.stdin.Close() // it ends by this
	} else if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.AfterFunc(10*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	err := p.cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Sys().(syscall.WaitStatus).Signaled() {
		return nil
	}
	if err != nil && len(p.output.text) > 0 {
		return fmt.Errorf("%s: %w: %s", filepath.Base(p.cmd.Path), err, p.output.text)
	}
	return nil // HAProxy returns 143 after SIGTERM
}

// answers waits until something listens on the address.
func (p *process) answers(ctx context.Context, address string) error {
	err := until(ctx, func() error {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		return fmt.Errorf("%s does not listen: %w: %s", filepath.Base(p.cmd.Path), err, p.output.text)
	}
	return nil
}

// startTime is what a subject gets to begin, on a machine that does much else.
const startTime = 10 * time.Second

// until asks again until there is no error, at most for startTime.
func until(ctx context.Context, ask func() error) error {
	deadline := time.NewTimer(startTime)
	defer deadline.Stop()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-deadline.C:
			return err
		case <-ticker.C:
		}
	}
}

// cpu is the CPU time, user and system, that the process and all below it have taken so far.
func (p *process) cpu() (time.Duration, error) { return cpuOfTree(p.cmd.Process.Pid) }

// clockTick is the unit of /proc/PID/stat, 1/100 s on every Linux that Go runs on (USER_HZ, see times(2)).
const clockTick = 10 * time.Millisecond

func cpuOfTree(root int) (time.Duration, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	parents, used := map[int]int{}, map[int]time.Duration{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		parent, cpu, err := readStat(pid)
		if err == nil { // it may have ended since
			parents[pid], used[pid] = parent, cpu
		}
	}
	if _, alive := used[root]; !alive {
		return 0, fmt.Errorf("the process %d has ended", root)
	}
	var sum time.Duration
	for pid, cpu := range used {
		if isBelow(pid, root, parents) {
			sum += cpu
		}
	}
	return sum, nil
}

func isBelow(pid, root int, parents map[int]int) bool {
	for pid != root && pid > 1 {
		pid = parents[pid]
	}
	return pid == root
}

// readStat reads proc_pid_stat(5). The name stands in brackets and may hold anything.
func readStat(pid int) (parent int, cpu time.Duration, err error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, err
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	const ppid, utime, stime = 4 - 3, 14 - 3, 15 - 3 // the manual counts from 1, and the third field is our first
	if len(fields) <= stime {
		return 0, 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	parent, err1 := strconv.Atoi(fields[ppid])
	user, err2 := strconv.ParseInt(fields[utime], 10, 64)
	system, err3 := strconv.ParseInt(fields[stime], 10, 64)
	return parent, time.Duration(user+system) * clockTick, errors.Join(err1, err2, err3)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

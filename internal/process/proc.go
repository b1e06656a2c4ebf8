package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// identity names one process for good: a pid is given out again, a pid with its start time within one boot is not.
type identity struct {
	PID   int    `json:"pid"`
	Ticks uint64 `json:"ticks"` // since boot, of /proc/PID/stat
	Boot  string `json:"boot"`
}

// stat is what we read of /proc/PID/stat (proc_pid_stat(5)).
type stat struct {
	pid, ppid, session int
	state              byte
	threads            int
	ticks              uint64
}

func readStat(pid int) (stat, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, err
	}
	// The name stands in parentheses and may hold anything, also a parenthesis: what counts is the last one.
	end := bytes.LastIndexByte(raw, ')')
	fields := strings.Fields(string(raw[end+1:]))
	if end < 0 || len(fields) < 20 {
		return stat{}, fmt.Errorf("the state of process %d cannot be read", pid)
	}
	s := stat{pid: pid, state: fields[0][0]}
	s.ppid, _ = strconv.Atoi(fields[1])
	s.session, _ = strconv.Atoi(fields[3])
	s.threads, _ = strconv.Atoi(fields[17])
	s.ticks, err = strconv.ParseUint(fields[19], 10, 64)
	return s, err
}

// dead reports whether the process has ended and only waits to be reaped. While other threads of it live, the first one can
// look like a zombie: it has ended alone, or they are just about to end, and still hold files and locks.
func (s stat) dead() bool { return s.state == 'X' || s.state == 'Z' && s.threads <= 1 }

// identify returns the identity of a process that is alive.
func identify(pid int) (identity, error) {
	s, err := readStat(pid)
	if err != nil {
		return identity{}, err
	}
	return identity{pid, s.ticks, bootID()}, nil
}

// bootID tells one boot of the machine from the next, so that start times of two boots are not confused.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // some sandboxes hide it; then a reboot looks like the same boot, and the start time decides
	}
	return strings.TrimSpace(string(id))
}

// alive reports whether this very process still runs. A zombie does not.
func (id identity) alive() bool {
	if id.PID <= 0 || id.Boot != bootID() {
		return false
	}
	s, err := readStat(id.PID)
	return err == nil && s.ticks == id.Ticks && !s.dead()
}

// open returns a pidfd of this very process, or unix.ESRCH. The start time is read after the pidfd was opened: from then on
// the pidfd means that process, whatever becomes of its pid.
func (id identity) open() (int, error) {
	if id.PID <= 0 || id.Boot != bootID() {
		return -1, unix.ESRCH
	}
	fd, err := unix.PidfdOpen(id.PID, 0)
	if err != nil {
		return -1, err
	}
	s, err := readStat(id.PID)
	if err != nil || s.ticks != id.Ticks || s.dead() {
		unix.Close(fd)
		return -1, unix.ESRCH
	}
	return fd, nil
}

// signal sends sig to this very process; that it is gone is no error.
func (id identity) signal(sig unix.Signal) error {
	fd, err := id.open()
	if err == nil {
		defer unix.Close(fd)
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// processes lists every process of the machine that can be seen.
func processes() []stat {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1) // what was read before an error still counts
	all := make([]stat, 0, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if s, err := readStat(pid); err == nil {
			all = append(all, s)
		}
	}
	return all
}

// wait blocks until one of the files is ready for reading, which for a pidfd means that the process has ended, or the
// timeout (milliseconds, -1 none) is over.
func wait(timeout int, fds ...int) error {
	polled := make([]unix.PollFd, len(fds))
	for i, fd := range fds {
		polled[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
	}
	for {
		_, err := unix.Poll(polled, timeout)
		if err != unix.EINTR {
			return err
		}
	}
}

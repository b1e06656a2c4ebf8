package process

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// journal carries what the process writes, and what its keeper has to say, into the log.
//
// Both ends of the FIFO are held open read-write: by the process, so that it can go on writing when its keeper dies; by the
// keeper, so that it never sees an end of file.
type journal struct {
	path string
	mask *Mask
	fifo *os.File

	mu    sync.Mutex // guards log, which notes are written to as well
	log   *logFile
	again bool          // a timer will flush what could not be written
	done  chan struct{} // closed when the reader has read everything; nil without a reader
}

// pipeSize is how much output waits in the kernel while there is no keeper. It costs nothing until it is used.
const pipeSize = 1 << 20

func openJournal(dir string, spec Spec) (*journal, error) {
	path := filepath.Join(dir, fifoName)
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("%w: make %s: %w", ErrKeeper, path, err)
	}
	fifo, err := os.OpenFile(path, os.O_RDWR|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeeper, err)
	}
	_, _ = unix.FcntlInt(fdOf(fifo), unix.F_SETPIPE_SZ, pipeSize) // less is enough
	return &journal{path: path, mask: NewMask(spec.Mask), fifo: fifo, log: openLog(dir, spec.Log, time.Now)}, nil
}

// writeEnd opens the FIFO for the process. It belongs to its user, who may then also open /dev/stdout.
func (j *journal) writeEnd(user *User) (*os.File, error) {
	fd, err := unix.Open(j.path, unix.O_RDWR|unix.O_CLOEXEC, 0) // not os.OpenFile, which would make it non-blocking
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", j.path, err)
	}
	if user != nil && os.Geteuid() == 0 {
		err = unix.Fchown(fd, int(user.UID), int(user.GID))
	}
	return os.NewFile(uintptr(fd), j.path), err
}

// read starts reading what one run of the process writes. resumed says that another keeper has read the beginning.
func (j *journal) read(resumed bool) {
	_ = j.fifo.SetReadDeadline(time.Time{})
	j.done = make(chan struct{})
	out := newOutput(j.mask, resumed, j.log.add)
	go j.pump(out, j.done)
}

// drain returns when everything that a run has written is in the log, its last line also without a line end. It is for
// when nothing of that run is left that could go on writing.
func (j *journal) drain() {
	if j.done == nil {
		return
	}
	_ = j.fifo.SetReadDeadline(time.Unix(1, 0))
	<-j.done
	j.done = nil
}

// pump reads until drain is called, and then what is left.
func (j *journal) pump(out *output, done chan<- struct{}) {
	defer close(done)
	buf := make([]byte, 16<<10)
	for {
		n, err := j.fifo.Read(buf)
		j.take(out, buf[:n])
		if err != nil {
			break
		}
	}
	raw, err := j.fifo.SyscallConn()
	for err == nil {
		n := 0
		if control := raw.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf) }); control != nil || n <= 0 {
			break
		}
		j.take(out, buf[:n])
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	_ = out.Close() // its writers do not fail
	j.log.flush()
}

func (j *journal) take(out *output, p []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	_, _ = out.Write(p) // its writers do not fail
	j.log.flush()
	j.retry()
}

// retry sees to it that lost lines are owned up to as soon as there is room, also when the process says nothing more.
func (j *journal) retry() {
	if j.log.dropped == 0 || j.again {
		return
	}
	j.again = true
	time.AfterFunc(time.Second, func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.again = false
		j.log.flush()
		j.retry()
	})
}

// note writes a line of the keeper's own.
func (j *journal) note(text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.add("lotse: " + j.mask.String(text))
	j.log.flush()
	j.retry()
}

func (j *journal) close() {
	j.drain()
	j.mu.Lock()
	defer j.mu.Unlock()
	j.log.close()
	j.fifo.Close()
}

package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
)

// program is one of PostgreSQL's, while it runs. It ends when its context does, and when this process is killed.
type program struct {
	cmd  *exec.Cmd
	said tail
	wait func() error
}

// start runs a program in a folder of ours on a database. files are given to it from descriptor 3 on.
func start(ctx context.Context, at *postgres.Address, dir string, stdout io.Writer, files []*os.File, argv ...string) (*program, error) {
	p := &program{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...)}
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr, p.cmd.ExtraFiles = dir, stdout, &p.said, files
	told, err := at.Tell(p.cmd)
	if err != nil {
		return nil, err
	}
	defer told()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) } // by which it cancels its statement
	p.cmd.WaitDelay = patience
	begun, ended := make(chan error, 1), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the signal comes when the thread that started it ends, not the process
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		begun <- err
		if err == nil {
			ended <- p.cmd.Wait()
		}
	}()
	p.wait = sync.OnceValue(func() error { return <-ended })
	return p, <-begun
}

// pipeSize is what a program may be ahead of us, in bytes; fewer changes from one to the other than with Linux' 64 KiB.
const pipeSize = 1 << 20

// dump runs pg_dump and returns what the database holds, read from what went by; out gets the archive.
func dump(ctx context.Context, tools postgres.Binaries, at *postgres.Address, dir string, out io.Writer, options ...string) (*contents, error) {
	// Rows are not compressed by pg_dump: zstd does it better, and what goes by can be read.
	argv := append([]string{filepath.Join(tools.Dir, "pg_dump"), postgres.ServiceArgument, "--no-password", "--format=custom", "--compress=0",
		"--no-subscriptions", "--no-security-labels", "--lock-wait-timeout=60s"}, options...)
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	_, _ = unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, pipeSize) // the limit of the machine may be lower
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	p, err := start(running, at, dir, w, nil, argv...)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	c, readErr := readArchive(io.TeeReader(r, &firstError{to: out}))
	if readErr != nil && !errors.Is(readErr, errCut) {
		cancel() // the other end is full, or what comes is not an archive
	}
	waitErr := p.wait()
	switch {
	case readErr != nil && !errors.Is(readErr, errCut) && !errors.Is(readErr, errFormat):
		return nil, readErr
	case waitErr != nil:
		return nil, p.failed(ctx, "pg_dump", waitErr)
	case readErr != nil:
		return nil, fmt.Errorf("what pg_dump %s writes: %w", tools.Version, readErr)
	}
	return c, nil
}

// firstError keeps io.TeeReader from writing on after an error.
type firstError struct {
	to  io.Writer
	err error
}

func (f *firstError) Write(p []byte) (n int, err error) {
	if f.to == nil {
		return len(p), nil
	}
	if f.err == nil {
		_, f.err = f.to.Write(p)
	}
	return len(p), f.err
}

// failed says why a program ended badly, without repeating a value of a row.
func (p *program) failed(ctx context.Context, name string, err error) error {
	said := p.said.String()
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case postgres.DiskFull(said):
		return fmt.Errorf("%w: the disk of the database is full", deploy.ErrNoSpace)
	case gone.MatchString(said):
		return fmt.Errorf("%w: %s lost the database: %s", deploy.ErrUnavailable, name, plain(said))
	case strings.Contains(said, "row-level security"):
		return deploy.Hint(fmt.Errorf("%w: row level security keeps some rows from this role: %s", deploy.ErrBadInput, plain(said)), "a snapshot takes all rows: use the owner of the tables, or a role with BYPASSRLS")
	case strings.Contains(said, "lock timeout"):
		return fmt.Errorf("%w: a table was locked for a minute: %s", deploy.ErrBusy, plain(said))
	case errors.Is(err, exec.ErrWaitDelay):
		return fmt.Errorf("%w: %s did not end", deploy.ErrUnavailable, name)
	}
	return &refusal{fmt.Sprintf("%s: %s", name, plain(said))}
}

// refusal is what PostgreSQL has against a dump or a restore: it would say the same again.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// Is makes it deploy.ErrBadInput: the role may not, or the database is not one to restore into.
func (r *refusal) Is(target error) bool { return target == deploy.ErrBadInput }

var gone = regexp.MustCompile(`server closed the connection|terminating connection|connection to server .* failed|could not connect|SSL (SYSCALL|error)|no connection to the server|could not (send|receive) data|the database system is|Connection (reset|timed out|refused)|Broken pipe|connection not open`)

// plain is the first thing that PostgreSQL had to say, when it is of a kind that names no value; the name of what it was about; or neither.
func plain(said string) string {
	about, cause := "", "PostgreSQL refused it"
	for line := range strings.Lines(said) {
		if found := tocEntry.FindStringSubmatch(line); found != nil {
			about = strings.TrimSpace(found[1]) + ": "
		}
		if found := telling.FindString(line); found != "" {
			return about + found
		}
	}
	return about + cause
}

var (
	tocEntry = regexp.MustCompile(`from TOC entry \d+; \d+ \d+ (.*)$`)

	// telling are messages that name things of the schema and of the server, never a value.
	telling = regexp.MustCompile(strings.Join([]string{
		`(permission denied|must be (owner|superuser|member)|must have) [a-zA-Z0-9_ "-]*`,
		`(relation|role|extension|schema|type|function|operator|table|column|constraint|index|sequence|collation|language|access method|trigger|policy|publication|server|database|tablespace) "?[\w.$-]+"?(\([\w ,.\[\]"]*\))?( of relation "[^"]*")? (does not exist|already exists|is not available|for table "[^"]*" already exists)`,
		`duplicate key value violates unique constraint "[^"]*"`,
		`insert or update on table "[^"]*" violates foreign key constraint "[^"]*"`,
		`new row for relation "[^"]*" violates check constraint "[^"]*"`,
		`could not (create unique index|open extension control file|access file|load library) "[^"]*"`,
		`query would be affected by row-level security policy for table "[^"]*"`,
		`unrecognized configuration parameter "[^"]*"`,
		`server version mismatch|unsupported version \([\d.]*\) in file header|canceling statement due to [a-z ]*|out of memory|out of shared memory`,
		`server closed the connection unexpectedly|terminating connection due to [a-z ]*|the database system is [a-z ]*|No space left on device`,
		`SSL SYSCALL error: EOF detected|Connection (reset by peer|timed out|refused)|Broken pipe|no connection to the server`,
		`missing chunk number \d+ for toast value \d+ in [\w.]*|invalid page in block \d+ of relation [\w/]*`,
	}, "|"))
)

// tail keeps the last of what a program says, and the first line, which is often the cause.
type tail struct {
	mu   sync.Mutex
	text bytes.Buffer
}

const tailBytes = 32 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text.Write(p[:min(len(p), max(0, tailBytes-t.text.Len()))])
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

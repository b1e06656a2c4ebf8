package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestRotationLosesNoLineAndFollowGoesOn(t *testing.T) {
	dir := t.TempDir()
	const count = 3000
	l := openLog(dir, LogPolicy{MaxBytes: 4 << 10, Files: 1 << 20}, time.Now)
	got := make(chan string, count)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Follow(ctx, dir, -1, func(line Line) bool { got <- line.Text; return true })
	}()
	for i := range count {
		l.add(fmt.Sprintf("line %d", i))
		if i%3 == 0 {
			l.flush()
		}
	}
	l.flush()
	for i := range count {
		select {
		case text := <-got:
			if text != fmt.Sprintf("line %d", i) {
				t.Fatalf("line %d is %q", i, text)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("line %d never came", i)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Follow returned %v", err)
	}
	files := logNumbers(dir)
	if len(files) < 10 {
		t.Errorf("only %d files: it was not rotated", len(files))
	}
	for _, n := range files {
		if info, err := os.Stat(logPath(dir, n)); err != nil || info.Size() > 4<<10 {
			t.Errorf("file %d: %v, %v", n, info.Size(), err)
		}
	}
	for _, last := range []int{0, 1, 7, 150, 2999, 3000, 9999} {
		lines, err := Lines(dir, last)
		if err != nil || len(lines) != min(last, count) {
			t.Fatalf("the last %d: %d lines, %v", last, len(lines), err)
		}
		if len(lines) > 0 && (lines[0].Text != fmt.Sprintf("line %d", count-len(lines)) || lines[0].At.IsZero()) {
			t.Errorf("the last %d begin with %+v", last, lines[0])
		}
	}
}

func TestRotationKeepsSoManyFiles(t *testing.T) {
	dir := t.TempDir()
	l := openLog(dir, LogPolicy{MaxBytes: 1000, Files: 3}, time.Now)
	for i := range 500 {
		l.add(fmt.Sprintf("line %d", i))
		l.flush()
	}
	l.close()
	if n := len(logNumbers(dir)); n != 3 {
		t.Errorf("%d files are kept", n)
	}
	lines, err := Lines(dir, 1)
	if err != nil || len(lines) != 1 || lines[0].Text != "line 499" {
		t.Errorf("the last line is %v, %v", lines, err)
	}
}

// A log that another keeper could not finish goes on behind it.
func TestALogGoesOnBehindHalfALine(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(logPath(dir, 7), []byte("2026-01-02T03:04:05.000000Z whole\n2026-01-02T03:04:05.000000Z hal"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := openLog(dir, LogPolicy{}, time.Now)
	l.add("next")
	l.close()
	lines, err := Lines(dir, -1)
	if err != nil || len(lines) != 3 || lines[1].Text != "hal" || lines[2].Text != "next" {
		t.Errorf("got %v, %v", lines, err)
	}
}

// fullDisk has room for so many bytes.
type fullDisk struct {
	*os.File
	room *int
}

func (f fullDisk) Write(p []byte) (int, error) {
	n := min(len(p), *f.room)
	*f.room -= n
	if _, err := f.File.Write(p[:n]); err != nil {
		return 0, err
	}
	if n < len(p) {
		return n, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
	}
	return n, nil
}

func TestLinesThatFindNoSpaceAreCounted(t *testing.T) {
	dir := t.TempDir()
	room := 100
	l := openLog(dir, LogPolicy{}, time.Now)
	l.open = func(path string) (appender, error) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		return fullDisk{f, &room}, err
	}
	for i := range 10 {
		l.add(fmt.Sprintf("line %d", i))
		l.flush()
	}
	room = 1 << 20
	l.add("back")
	l.close()
	lines, err := Lines(dir, -1)
	if err != nil || len(lines) != 4 {
		t.Fatalf("got %v, %v", lines, err)
	}
	if note := lines[2].Text; !strings.Contains(note, "8 lines were lost") || !strings.Contains(note, "no space") {
		t.Errorf("the note is %q", note)
	}
	if lines[1].Text != "line 1" || lines[3].Text != "back" {
		t.Errorf("got %v", lines)
	}
}

// The same with a real keeper on a real file system that is full: the process goes on, is restarted when it dies, and the
// log says what is missing.
func TestAFullDiskDoesNotStopTheProcess(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("NOT RUN: a keeper on a full disk; mounting a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir := instanceIn(t, disk)
	limit := filepath.Join(t.TempDir(), "limit")
	seen := filepath.Join(t.TempDir(), "seen")
	script := `n=0; while :; do m=$(cat "$0"); while [ $n -lt $m ]; do n=$((n+1)); echo "line $n"; done; echo $n > "$1"; sleep 0.02; done`
	allow := func(n int) {
		if err := os.WriteFile(limit, fmt.Append(nil, n), 0o644); err != nil {
			t.Fatal(err)
		}
		eventually(t, fmt.Sprintf("%d lines written", n), func() bool {
			raw, _ := os.ReadFile(seen)
			return strings.TrimSpace(string(raw)) == fmt.Sprint(n)
		})
	}
	if err := os.WriteFile(limit, []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
	first := start(t, dir, Spec{Name: "full", Command: []string{"/bin/sh", "-c", script, limit, seen},
		Env: []string{"PATH=/usr/bin:/bin"}, Restart: true})
	allow(50)
	eventually(t, "50 lines kept", func() bool { return len(texts(t, dir)) == 50 })
	filler := filepath.Join(disk, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			break
		}
	}
	f.Close()
	allow(60_000) // some 700 KB, more than the disk and more than the pipe
	if s := inspect(t, dir); !s.Process || s.PID != first.PID || !s.Keeper {
		t.Fatalf("status %+v", s)
	}
	if err := os.WriteFile(limit, []byte("0"), 0o644); err != nil { // or the next one fills the disk again
		t.Fatal(err)
	}
	kill(t, first.PID)
	eventually(t, "a new process", func() bool {
		return slices.ContainsFunc(processes(), func(s stat) bool { return s.ppid == first.KeeperPID && s.pid != first.PID && !s.dead() })
	})
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the note about what was lost", func() bool {
		return strings.Contains(strings.Join(texts(t, dir), "\n"), "lines were lost here: no space")
	})
	await(t, dir, "the state on disk again", func(s Status) bool { return s.Process && s.PID != first.PID })
}

// A line that is written between a look at the end of a file and a look for the next file must not be passed over.
func TestAReaderIsNeverTooEarlyInTheNextFile(t *testing.T) {
	dir := t.TempDir()
	const count = 4000
	var read atomic.Int64
	go func() {
		l := openLog(dir, LogPolicy{MaxBytes: 80, Files: 40}, time.Now) // two lines each
		for i := range count {
			for int64(i)-read.Load() > 20 && t.Context().Err() == nil { // close by, and nothing is removed unread
				runtime.Gosched()
			}
			l.add(fmt.Sprint(i))
			l.flush()
		}
	}()
	r := &reader{dir: dir}
	defer r.close()
	for i := 0; i < count; {
		line, ok, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			runtime.Gosched()
			continue
		}
		if line.Text != fmt.Sprint(i) {
			t.Fatalf("instead of %d comes %s", i, line.Text)
		}
		i++
		read.Store(int64(i))
	}
}

func TestAFileThatTheListingMissedIsListed(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []int{3, 4, 7, 5000} {
		if err := os.WriteFile(logPath(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := logNumbers(dir), []int{3, 4, 5, 6, 7, 5000}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A folder that is removed ends the following of it, with all that was in it.
func TestFollowEndsWithItsFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "kept")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l := openLog(dir, LogPolicy{}, time.Now)
	l.add("first")
	l.flush()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var got []string
	err := Follow(ctx, dir, -1, func(line Line) bool {
		if got = append(got, line.Text); len(got) == 1 {
			l.add("last")
			l.flush()
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		}
		return true
	})
	if err != nil || !slices.Equal(got, []string{"first", "last"}) {
		t.Errorf("%q, %v", got, err)
	}
}

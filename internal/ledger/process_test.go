package ledger_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/ledger"
)

// TestMain lets the test binary be the other process.
func TestMain(m *testing.M) {
	if path := os.Getenv("LEDGER_TEST_WRITER"); path != "" {
		writeForEver(path)
	}
	// Each check writes to a disk; `-rapid.checks` on the command line still wins.
	if err := flag.Set("rapid.checks", "40"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// writeForEver appends and prints the seq of each event after Append returned, until it is killed.
func writeForEver(path string) {
	l, err := ledger.Open(context.Background(), path, ledger.Config{})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	for {
		e, err := l.Append(context.Background(), deploy.Event{Kind: "k"})
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
		fmt.Println(e.Seq)
	}
}

// startWriter starts the other process and returns its output.
func startWriter(t *testing.T, path string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "LEDGER_TEST_WRITER="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, bufio.NewScanner(out)
}

// A writer is killed in the middle, five times: what it said it appended is there, and the chain is whole. Beside it, another one
// is refused and a reader verifies.
func TestTwoProcessesAndAKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ledger.db")
	var last int64
	for round := range 5 {
		cmd, lines := startWriter(t, path)
		for n := 0; n < 20+round*7 && lines.Scan(); n++ {
			last = number(t, lines.Text())
		}
		if _, err := ledger.Open(t.Context(), path, ledger.Config{}); !errors.Is(err, deploy.ErrUnavailable) ||
			!strings.Contains(err.Error(), fmt.Sprintf("pid %d)", cmd.Process.Pid)) || deploy.HintOf(err) == "" {
			t.Errorf("a second writer: %v, want ErrUnavailable that names the first one's pid", err)
		}
		if err := verifyFile(t, path); err != nil {
			t.Errorf("reading beside the writer: %v", err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() {
			last = number(t, lines.Text())
		}
		cmd.Wait() // killed: always an error
		if err := verifyFile(t, path); err != nil {
			t.Fatalf("after kill -9, before anybody repaired anything: %v", err)
		}
		l := open(t, path, nil)
		if seq, _, err := l.Head(t.Context()); err != nil || seq < last {
			t.Fatalf("the ledger ends with %d, but %d was appended; %v", seq, last, err)
		}
		if err := errors.Join(l.Verify(t.Context()), l.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func number(t *testing.T, line string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(line, 10, 64)
	if err != nil && line != "" {
		t.Fatal(line)
	}
	return n
}

// A copy of the database without its -wal file lacks events; it is noticed when the note was copied too.
func TestCopyWithoutItsLog(t *testing.T) {
	dir := t.TempDir()
	l := open(t, filepath.Join(dir, "ledger.db"), nil)
	fill(t, l, 9)
	files := filesIn(t, dir)
	copied := filepath.Join(t.TempDir(), "ledger.db")
	for _, name := range []string{"ledger.db", "ledger.db.head"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(copied), name), []byte(files[name]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := verifyFile(t, copied); !errors.Is(err, deploy.ErrDamaged) || !strings.Contains(err.Error(), "-wal") {
		t.Errorf("got %v, want ErrDamaged that speaks of the -wal file", err)
	}
}

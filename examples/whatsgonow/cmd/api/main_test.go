package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"

	"whatsgonow/internal/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// program runs the command as main does, and hands over its log line by line.
func program(ctx context.Context, t *testing.T, args ...string) (log *bufio.Scanner, ended chan error) {
	t.Helper()
	r, w := io.Pipe()
	ended = make(chan error, 1)
	go func() {
		err := run(ctx, slog.New(slog.NewJSONHandler(w, nil)), args)
		w.Close()
		ended <- err
	}()
	return bufio.NewScanner(r), ended
}

// until reads the log up to the line with this message.
func until(t *testing.T, log *bufio.Scanner, msg string) map[string]any {
	t.Helper()
	for log.Scan() {
		var line map[string]any
		if err := json.Unmarshal(log.Bytes(), &line); err != nil {
			t.Fatalf("%q: %v", log.Text(), err)
		}
		if line["msg"] == msg {
			return line
		}
	}
	t.Fatalf("the log ended without %q", msg)
	return nil
}

func drain(log *bufio.Scanner) (rest string) {
	for log.Scan() {
		rest += log.Text() + "\n"
	}
	return rest
}

func TestServeAnswersBeforeTheDatabaseDoes(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres://me:hunter2@/x?host="+t.TempDir())
	t.Setenv("UPLOADS_DIR", t.TempDir())
	t.Setenv("PORT", "0")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log, ended := program(ctx, t)
	address := until(t, log, "listening")["address"].(string)
	rest := make(chan string)
	go func() { rest <- drain(log) }()

	resp, err := http.Get("http://" + address + "/api/health")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("health is %d", resp.StatusCode)
	}
	stop()
	if text := <-rest; strings.Contains(text, "hunter2") {
		t.Errorf("the log tells: %s", text)
	}
	if err := <-ended; err != nil {
		t.Errorf("asked to stop, it ended with %v", err)
	}
}

func TestServeGivesUpOnAPortThatIsTaken(t *testing.T) {
	t.Setenv("DATABASE_URL", "postgres:///x?host="+t.TempDir())
	t.Setenv("UPLOADS_DIR", t.TempDir())
	t.Setenv("PORT", "port")
	log, ended := program(t.Context(), t)
	drain(log)
	if err := <-ended; err == nil {
		t.Error("it ended well")
	}
}

func TestJobsMayRunTwice(t *testing.T) {
	t.Setenv("DATABASE_URL", pgtest.Migrated(t))
	t.Setenv("UPLOADS_DIR", t.TempDir())
	for _, job := range []string{"seed", "seed", "expire", "expire"} {
		log, ended := program(t.Context(), t, job)
		drain(log)
		if err := <-ended; err != nil {
			t.Fatalf("%s: %v", job, err)
		}
	}
	for _, args := range [][]string{{"sed"}, {"appoint"}, {"appoint", "nobody@example.org"}} {
		log, ended := program(t.Context(), t, args...)
		drain(log)
		if <-ended == nil {
			t.Errorf("%v ended well", args)
		}
	}
}

func TestProdIsNotSeeded(t *testing.T) {
	t.Setenv("DATABASE_URL", pgtest.Database(t))
	t.Setenv("LOTSE_STAGE", "prod")
	log, ended := program(t.Context(), t, "seed")
	drain(log)
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "prod") {
		t.Errorf("got %v", err)
	}
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/front"
	"github.com/lotse-eu/lotse/internal/postgres"
)

// frontFolder is the folder of a release as an engine puts it on an instance, with this process standing in it.
func frontFolder(t *testing.T, spec front.Spec) (dir string, env []string) {
	t.Helper()
	spec.App, spec.Stage, spec.Rollout, spec.Host = "shop", "dev", "r1", "shop.example.org"
	spec.Release = deploy.Digest("sha256:" + strings.Repeat("ab", 32))
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	putFile(t, filepath.Join(dir, front.SpecFile), string(text))
	run, err := os.MkdirTemp("", "fr") // t.TempDir can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(run) })
	t.Chdir(dir)
	return dir, []string{"PATH=" + os.Getenv("PATH"), "LOTSE_RUN=" + run, "LOTSE_FRONT_HOST=127.0.0.1", "PORT=0", "SECRET_TOKEN=hunter2-correct-horse"}
}

func putFile(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// frontSaid is what one `lotse front …` has answered.
type frontSaid struct {
	code      int
	out, errs string
}

func askFront(t *testing.T, env []string, args ...string) frontSaid {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	code, err := frontVerb(ctx, args, env, &out, &errs)
	if err != nil {
		fmt.Fprintln(&errs, err, deploy.HintOf(err))
	}
	return frontSaid{code, out.String(), errs.String()}
}

func TestFrontVerbs(t *testing.T) {
	dir, env := frontFolder(t, front.Spec{Services: []deploy.Service{{Name: "jobs", Command: "sleep 600"}}})
	if s := askFront(t, env, "status"); s.code != frontFailed || !strings.Contains(s.errs, "no front runs") {
		t.Errorf("status of nothing: %+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan int, 1)
	output := &frontOutput{}
	go func() {
		code, _ := frontVerb(ctx, nil, env, output, output)
		ended <- code
	}()
	for deadline := time.Now().Add(30 * time.Second); askFront(t, env, "status").code != 0; {
		if time.Now().After(deadline) {
			t.Fatalf("no front: %s", output)
		}
	}
	t.Chdir(t.TempDir()) // who asks stands anywhere, and calls the program that lies in the release
	os.Args[0], dir = filepath.Join(dir, ".lotse/bin/lotse"), os.Args[0]
	defer func() { os.Args[0] = dir }()
	var status front.Status
	if s := askFront(t, env, "status"); s.code != 0 || json.Unmarshal([]byte(s.out), &status) != nil || len(status.Services) != 1 || status.Rollout != "r1" {
		t.Errorf("status: %+v", s)
	}
	if s := askFront(t, env, "samples"); s.code != 0 || !strings.Contains(s.out, `"services":[`) {
		t.Errorf("samples: %+v", s)
	}
	if s := askFront(t, env, "drain", "--for", "1s"); s != (frontSaid{out: "{\"finished\":0,\"cut\":0}\n"}) {
		t.Errorf("drain: %+v", s)
	}
	if s := askFront(t, env, "task", "--name", "t", "--", "echo $SECRET_TOKEN of $LOTSE_STAGE; exit 7"); s != (frontSaid{code: 7, out: "••• of dev\n"}) {
		t.Errorf("task: %+v", s)
	}
	if s := askFront(t, env, "task", "--name", "t", "--", "kill -9 $$"); s.code != 137 {
		t.Errorf("a task that is killed: %+v", s)
	}
	if s := askFront(t, env, "task", "--name", "t", "--timeout", "50ms", "--", "sleep 600"); s.code != frontLate || !strings.Contains(s.errs, "time limit") {
		t.Errorf("a late task: %+v", s)
	}
	for _, args := range [][]string{{"task", "--", "true"}, {"task", "--name", "t"}, {"drain", "--for", "soon"}, {"sail"}} {
		if s := askFront(t, env, args...); s.code != frontUsage || !strings.Contains(s.errs, frontUsageText) {
			t.Errorf("%v: %+v", args, s)
		}
	}
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("the front ended with %d: %s", code, output)
	}
}

func TestFrontThatCannotBegin(t *testing.T) {
	dir, env := frontFolder(t, front.Spec{})
	if s := askFront(t, env); s.code != frontFailed || !strings.Contains(s.errs, "services is missing") {
		t.Errorf("%+v", s)
	}
	putFile(t, filepath.Join(dir, front.SpecFile), "{")
	for _, args := range [][]string{nil, {"migrate"}} {
		if s := askFront(t, env, args...); s.code != frontFailed || !strings.Contains(s.errs, "front.json") {
			t.Errorf("%v: %+v", args, s)
		}
	}
}

// Migrations run before there is a front, once, and say where they failed.
func TestFrontMigrates(t *testing.T) {
	dir, env := frontFolder(t, front.Spec{Services: []deploy.Service{{Name: "jobs", Command: "sleep 600"}}, Migrations: "db/migrations", Postgres: 15})
	putFile(t, filepath.Join(dir, "db/migrations/001_boats.sql"), "create table boats (id int);\ninsert into boats values (1);\n")
	if s := askFront(t, env, "migrate"); s.code != frontFailed || !strings.Contains(s.errs, deploy.DatabaseURL) {
		t.Errorf("without a database: %+v", s)
	}
	address, admin := realDatabase(t)
	env = append(env, deploy.DatabaseURL+"="+address)
	var all sync.WaitGroup
	answers := make([]frontSaid, 3)
	for i := range answers { // as on all instances of an environment at once
		all.Go(func() { answers[i] = askFront(t, env, "migrate") })
	}
	all.Wait()
	applied := 0
	for _, s := range answers {
		var done deploy.Migrated
		if s.code != 0 || json.Unmarshal([]byte(s.out), &done) != nil {
			t.Fatalf("%+v", s)
		}
		applied += len(done.Applied)
	}
	rows := 0
	if err := admin.QueryRow(t.Context(), "select count(*) from boats").Scan(&rows); err != nil || rows != 1 || applied != 1 {
		t.Errorf("%d rows, applied %d times: %v", rows, applied, err)
	}
	putFile(t, filepath.Join(dir, "db/migrations/002_masts.sql"), "create table masts (id int);\n\ncreate table masts (id int);\n")
	s := askFront(t, env, "migrate")
	if s.code != frontFailed || s.out != "" {
		t.Errorf("%+v", s)
	}
	for _, want := range []string{"002_masts.sql", "3", `relation "masts" already exists`} {
		if !strings.Contains(s.errs, want) {
			t.Errorf("it does not say %q: %s", want, s.errs)
		}
	}
	if strings.Contains(s.errs, address) {
		t.Error("it says the address of the database")
	}
	if err := admin.QueryRow(t.Context(), "select count(*) from masts").Scan(&rows); err == nil {
		t.Error("half of a migration is left")
	}
}

// A release without migrations, and a database that is away.
func TestFrontMigratesNothing(t *testing.T) {
	_, env := frontFolder(t, front.Spec{Services: []deploy.Service{{Name: "jobs", Command: "sleep 600"}}})
	if s := askFront(t, env, "migrate"); s != (frontSaid{out: "{\"applied\":[],\"before\":0}\n"}) {
		t.Errorf("%+v", s)
	}
	_, env = frontFolder(t, front.Spec{Services: []deploy.Service{{Name: "jobs", Command: "sleep 600"}}, Migrations: "m"})
	putFile(t, "m/001.sql", "select 1;")
	port, end := listen(t)
	if err := end(); err != nil {
		t.Fatal(err)
	}
	s := askFront(t, append(env, fmt.Sprintf("%s=postgres://shop:battery-staple@127.0.0.1:%d/shop", deploy.DatabaseURL, port)), "migrate")
	if s.code != frontFailed || !strings.Contains(s.errs, "nothing listens there") || strings.Contains(s.errs, "battery") {
		t.Errorf("%+v", s)
	}
}

// realDatabase is one one, and its superuser.
func realDatabase(t *testing.T) (address string, admin *pgx.Conn) {
	t.Helper()
	dir, err := os.MkdirTemp("", "fpg")
	if err == nil {
		err = os.Chmod(dir, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	cluster := postgres.Cluster{Dir: dir + "/c", Port: port, Memory: 1 << 30}
	if _, err := cluster.Start(t.Context(), nil); err != nil {
		t.Skipf("NOT RUN: nothing is proven about migrations on an instance: %v", err)
	}
	t.Cleanup(func() {
		if err := cluster.Remove(context.Background()); err != nil {
			t.Error(err)
		}
	})
	dsn, err := cluster.CreateDatabase(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if admin, err = pgx.Connect(t.Context(), cluster.Admin("shop")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close(context.Background()) })
	return dsn.Reveal(), admin
}

// frontOutput is safe for concurrent use.
type frontOutput struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (w *frontOutput) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

func (w *frontOutput) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

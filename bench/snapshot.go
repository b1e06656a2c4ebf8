package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"filippo.io/age"
	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
	"github.com/lotse-eu/lotse/internal/snapshot"
)

// The size of the generated database in MB, and how often each way is gone, can be said otherwise.
const (
	snapshotMB     = "LOTSE_BENCH_SNAPSHOT_MB"
	snapshotRounds = "LOTSE_BENCH_SNAPSHOT_ROUNDS"
)

// snapshotPlan is what a child does: it takes a snapshot, or restores one.
type snapshotPlan struct{ Root, Scratch, Recipient, Key, URL, Restore string }

func benchData() deploy.StageRef { return deploy.StageRef{App: "bench", Stage: "prod"} }

// snapshotChild is a process of its own, so that its memory can be read.
func snapshotChild(p snapshotPlan) error {
	s, err := snapshot.Open(snapshot.Config{Root: p.Root, Scratch: p.Scratch, Recipients: []string{p.Recipient},
		Keys: func() (secret.Text, error) { return secret.New(p.Key), nil }})
	if err != nil {
		return err
	}
	ctx, data := context.Background(), deploy.Data{Database: "bench", URL: secret.New(p.URL)}
	if p.Restore != "" {
		return s.Restore(ctx, benchData(), p.Restore, data)
	}
	_, err = s.Take(ctx, deploy.SnapshotOrder{Stage: benchData(), Why: deploy.SnapshotByHand, Data: data})
	return err
}

// freezer is a cluster with a generated database, and the tools that stand beside Lotse.
type freezer struct {
	dir      string
	cluster  postgres.Cluster
	plan     snapshotPlan
	tools    string // folder
	identity string // file
	archive  string // of the tools beside
	restores int
}

func benchSnapshot(ctx context.Context, out io.Writer, report *report) (err error) {
	for _, name := range []string{"zstd", "age"} {
		if _, err := exec.LookPath(name); err != nil {
			report.add(figure{Bench: "snapshot", Case: "all", Subject: "lotse", Status: statusNotRun, Reason: name + " is not installed"})
			fmt.Fprintf(out, "NOT RUN: %s is not installed\n", name)
			return nil
		}
	}
	mb, rounds := numberFrom(snapshotMB, 2048), numberFrom(snapshotRounds, 3)
	f, err := openFreezer(ctx)
	if f != nil {
		defer func() { err = errors.Join(err, f.close()) }()
	}
	if err != nil {
		return err
	}
	size, err := f.generate(ctx, int64(mb)<<20)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "the example's schema, %d MB with its indexes; %d rounds, medians\n", size>>20, rounds)
	return f.measure(ctx, rounds, &freezing{out: tabwriter.NewWriter(out, 0, 0, 2, ' ', 0), report: report, took: map[string][]float64{}})
}

func numberFrom(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

func openFreezer(ctx context.Context) (*freezer, error) {
	dir, err := os.MkdirTemp("", "bs") // short where TMPDIR is, for unix sockets
	if err != nil {
		return nil, err
	}
	f := &freezer{dir: dir, cluster: postgres.Cluster{Dir: filepath.Join(dir, "c")}, identity: filepath.Join(dir, "key"), archive: filepath.Join(dir, "beside.dump.zst.age")}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return f, err
	}
	f.plan = snapshotPlan{Root: filepath.Join(dir, "r"), Scratch: filepath.Join(dir, "s"), Recipient: key.Recipient().String(), Key: key.String()}
	if err := errors.Join(os.Chmod(dir, 0o755), os.WriteFile(f.identity, []byte(key.String()+"\n"), 0o600)); err != nil {
		return f, err
	}
	if _, err := f.cluster.Start(ctx, nil); err != nil {
		return f, err
	}
	found, err := postgres.Find()
	f.tools = found.Dir
	if err != nil {
		return f, err
	}
	url, err := f.cluster.CreateDatabase(ctx, "bench")
	f.plan.URL = url.Reveal()
	return f, err
}

func (f *freezer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // also after an interrupt
	defer cancel()
	return errors.Join(f.cluster.Remove(ctx), os.RemoveAll(f.dir))
}

// batch is ten thousand transports with what belongs to them, in the example's schema.
const batch = `
with p as (insert into people (id, email, name, password) select gen_random_uuid(), md5(random()::text || i) || '@example.com', 'Person ' || i, '$argon2id$v=19$m=19456,t=2,p=1$' || md5(random()::text) || md5(random()::text) from generate_series(1, 2000) i
	returning id),
t as (insert into transports (sender, status, title, note, from_name, from_lat, from_lng, to_name, to_lat, to_lng, window_start, window_end, size, weight_kg, price_cents, handover_code)
	select p.id, (array['created', 'offer_pending', 'delivered'])[1 + i % 3], 'A sofa for ' || md5(random()::text), 'Third floor, no lift; please ring twice. ' || md5(random()::text) || ' The door is green and the dog is friendly.',
	'Street ' || (random() * 9999)::int, 47 + random() * 8, 6 + random() * 9, 'Road ' || (random() * 9999)::int, 47 + random() * 8, 6 + random() * 9, now() + i * interval '1 minute', now() + i * interval '2 minutes', 'large', i % 80, 1000 + i % 9000, substr(md5(random()::text), 1, 6)
	from p, generate_series(1, 5) i returning id, sender, status, price_cents),
o as (insert into offers (transport, driver, status, price_cents, note) select id, sender, 'declined', price_cents + n, 'I can be there in the evening, ' || md5(random()::text) from t, generate_series(1, 2) n),
a as (insert into audit (transport, verb, from_status, to_status, part, actor) select id, 'offer', 'created', status, 'sender', sender from t, generate_series(1, 3) n)
insert into events (person, seq, transport, verb, status) select sender, row_number() over (), id, 'offer', status from t`

// generate fills the database until it has that many bytes.
func (f *freezer) generate(ctx context.Context, want int64) (size int64, err error) {
	migrations, err := filepath.Glob(filepath.Join("examples", "whatsgonow", "db", "migrations", "*.sql"))
	if err != nil || len(migrations) == 0 {
		return 0, errors.Join(err, errors.New("the example's migrations are not here: run the bench at the root of the repository"))
	}
	conn, err := pgx.Connect(ctx, f.plan.URL)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close(ctx) }()
	run := func(sql string) error { _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); return err }
	for _, file := range migrations {
		text, err := os.ReadFile(file)
		if err == nil {
			err = run(string(text))
		}
		if err != nil {
			return 0, fmt.Errorf("%s: %w", filepath.Base(file), err)
		}
	}
	for size < want {
		if err := run(batch); err != nil {
			return 0, err
		}
		if err := conn.QueryRow(ctx, "select pg_database_size(current_database())").Scan(&size); err != nil {
			return 0, err
		}
	}
	return size, run("vacuum analyze")
}

// freezing is what was measured.
type freezing struct {
	out    *tabwriter.Writer
	report *report
	took   map[string][]float64 // seconds
	rss    int64                // KiB, at most
}

// Names of what is measured.
const (
	takeLotse, takeBeside = "take: lotse", "take: pg_dump -Fc -Z0 | zstd | age"
	backLotse, backBeside = "back: lotse, compared", "back: age | zstd, pg_restore -j2"
)

// measure goes both ways in turn, so that what the machine does besides meets both.
func (f *freezer) measure(ctx context.Context, rounds int, m *freezing) error {
	for n := range rounds {
		ways := []func(context.Context, *freezing) error{f.takeLotse, f.takeBeside}
		backs := []func(context.Context, *freezing) error{f.backLotse, f.backBeside}
		if n%2 == 1 {
			slices.Reverse(ways)
			slices.Reverse(backs)
		}
		for _, way := range append(ways, backs...) {
			if err := way(ctx, m); err != nil {
				return err
			}
		}
	}
	m.tell(takeLotse, takeBeside)
	m.tell(backLotse, backBeside)
	fmt.Fprintf(m.out, "memory of our process, at most\t%d MB\n", m.rss>>10)
	fmt.Fprintf(m.out, "load of the machine now, with what else goes on\t%s\n", firstLine("/proc/loadavg", ""))
	m.report.add(figure{Bench: "snapshot", Case: "memory", Subject: "lotse", Measure: "peak", Unit: "MB", Value: float64(m.rss >> 10), Status: statusReal})
	if err := f.foreground(ctx, m); err != nil {
		return err
	}
	return m.out.Flush()
}

func (m *freezing) tell(ours, beside string) {
	a, b := median(m.took[ours]), median(m.took[beside])
	fmt.Fprintf(m.out, "%s\t%.1f s\t%s\t%.1f s\tratio %.2f\n", ours, a, beside, b, a/b)
	m.report.add(figure{Bench: "snapshot", Case: ours, Subject: "lotse", Measure: "wall", Unit: "s", Value: a, Status: statusReal})
	m.report.add(figure{Bench: "snapshot", Case: ours, Subject: beside, Measure: "wall", Unit: "s", Value: b, Ratio: a / b, Status: statusReal})
}

// timed measures a command and returns its peak of memory, in KiB.
func timed(cmd *exec.Cmd) (took float64, rss int64, err error) {
	var errs bytes.Buffer
	cmd.Stderr = &errs
	began := time.Now()
	err = cmd.Run()
	took = time.Since(began).Seconds()
	if err != nil {
		return 0, 0, fmt.Errorf("%s: %w\n%s", cmd.Args[0], err, errs.String())
	}
	return took, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss, nil
}

// child does one thing in a process of ours.
func (f *freezer) child(ctx context.Context, p snapshotPlan) (float64, int64, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, 0, err
	}
	text, err := json.Marshal(childPlan{Snapshot: p})
	if err != nil {
		return 0, 0, err
	}
	cmd := exec.CommandContext(ctx, self, childArgument, "snapshot")
	cmd.Stdin = bytes.NewReader(text)
	return timed(cmd)
}

func (f *freezer) takeLotse(ctx context.Context, m *freezing) error {
	if err := os.RemoveAll(f.plan.Root); err != nil {
		return err
	}
	took, rss, err := f.child(ctx, f.plan)
	m.took[takeLotse], m.rss = append(m.took[takeLotse], took), max(m.rss, rss)
	return err
}

func (f *freezer) shell(ctx context.Context, script string, env ...string) (float64, error) {
	cmd := exec.CommandContext(ctx, "bash", "-c", "set -e -o pipefail\n"+script)
	cmd.Env = append(os.Environ(), append(env, "DUMP="+filepath.Join(f.dir, "dump"), "ARCHIVE="+f.archive, "KEY="+f.identity, "RECIPIENT="+f.plan.Recipient, "TOOLS="+f.tools)...)
	took, _, err := timed(cmd)
	return took, err
}

func (f *freezer) takeBeside(ctx context.Context, m *freezing) error {
	took, err := f.shell(ctx, `"$TOOLS/pg_dump" -Fc -Z0 --dbname="$URL" | zstd --quiet | age --encrypt --recipient "$RECIPIENT" > "$ARCHIVE"`, "URL="+f.plan.URL)
	m.took[takeBeside] = append(m.took[takeBeside], took)
	return err
}

// fresh makes an empty database; the one before is dropped.
func (f *freezer) fresh(ctx context.Context) (string, error) {
	if f.restores > 0 {
		if err := f.cluster.DropDatabase(ctx, fmt.Sprintf("back%d", f.restores)); err != nil {
			return "", err
		}
	}
	f.restores++
	url, err := f.cluster.CreateDatabase(ctx, fmt.Sprintf("back%d", f.restores))
	return url.Reveal(), err
}

func (f *freezer) backLotse(ctx context.Context, m *freezing) error {
	kept, err := os.ReadDir(filepath.Join(f.plan.Root, benchData().App, benchData().Stage))
	if err != nil {
		return err
	}
	p := f.plan
	p.Restore = kept[0].Name()
	if p.URL, err = f.fresh(ctx); err != nil {
		return err
	}
	took, rss, err := f.child(ctx, p)
	m.took[backLotse], m.rss = append(m.took[backLotse], took), max(m.rss, rss)
	return err
}

func (f *freezer) backBeside(ctx context.Context, m *freezing) error {
	url, err := f.fresh(ctx)
	if err != nil {
		return err
	}
	took, err := f.shell(ctx, `age --decrypt --identity "$KEY" "$ARCHIVE" | zstd --decompress --quiet > "$DUMP"; "$TOOLS/pg_restore" --no-owner --no-comments -j2 --dbname="$URL" "$DUMP"; rm "$DUMP"`, "URL="+url)
	m.took[backBeside] = append(m.took[backBeside], took)
	return err
}

// foreground asks as an app does, at rest and while a snapshot is taken either way.
func (f *freezer) foreground(ctx context.Context, m *freezing) error {
	rest := func(ctx context.Context, _ *freezing) error {
		timer := time.NewTimer(5 * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
		return ctx.Err()
	}
	for _, c := range []struct {
		name string
		run  func(context.Context, *freezing) error
	}{{"at rest", rest}, {"during " + takeLotse, f.takeLotse}, {"during " + takeBeside, f.takeBeside}} {
		asking, cancel := context.WithCancel(ctx)
		var took []time.Duration
		var failed error
		var wg sync.WaitGroup
		wg.Go(func() { took, failed = f.asks(asking) })
		err := c.run(ctx, m)
		cancel()
		wg.Wait()
		if err = errors.Join(err, failed); err != nil {
			return err
		}
		slices.Sort(took)
		p50, p99 := millis(quantile(took, 0.5)), millis(quantile(took, 0.99))
		fmt.Fprintf(m.out, "an app's question %s\tp50 %.2f ms\tp99 %.2f ms\t%d questions\n", c.name, p50, p99, len(took))
		m.report.add(figure{Bench: "snapshot", Case: "questions " + c.name, Subject: "lotse", Measure: "p99", Unit: "ms", Value: p99, Status: statusReal})
	}
	return nil
}

// asks reads a transport with its offers and writes an audit, each 10 ms, until ctx ends. A question that fails is an error.
func (f *freezer) asks(ctx context.Context) (took []time.Duration, err error) {
	conn, err := pgx.Connect(context.WithoutCancel(ctx), f.plan.URL)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return took, nil
		case <-tick.C:
		}
		began := time.Now()
		_, err := conn.Exec(context.WithoutCancel(ctx), strings.TrimSpace(`
			with t as (select * from transports where id >= gen_random_uuid() order by id limit 1), o as (select count(*) from offers where transport = (select id from t))
			insert into audit (transport, verb, from_status, to_status, part) select id, 'seen', status, status, 'driver' from t, o`))
		if err != nil {
			return nil, err
		}
		took = append(took, time.Since(began))
	}
}

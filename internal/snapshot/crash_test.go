package snapshot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// A child of a test is told what to do, and where to die, by these.
const (
	faultPoint = "LOTSE_TEST_FAULT_POINT" // "take:moment"
	faultPlan  = "LOTSE_TEST_FAULT_PLAN"  // JSON of a plan
)

type plan struct{ Root, Scratch, Recipient, Key, URL, To, Volume, ID string }

// dieAt is the child: it does one thing, and kills itself on the way.
func dieAt(at string) {
	var p plan
	if err := json.Unmarshal([]byte(os.Getenv(faultPlan)), &p); err != nil {
		panic(err)
	}
	s, err := Open(Config{Root: p.Root, Scratch: p.Scratch, Recipients: []string{p.Recipient}, Keys: func() (secret.Text, error) { return secret.New(p.Key), nil }})
	if err != nil {
		panic(err)
	}
	verb, point, _ := strings.Cut(at, ":")
	die := func() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }
	s.at = func(reached string) error {
		switch point {
		case reached:
			die()
		case reached + " and on": // while PostgreSQL's programs are at work
			time.AfterFunc(30*time.Millisecond, die)
		}
		return nil
	}
	ctx := context.Background()
	switch verb {
	case "take":
		_, err = s.Take(ctx, deploy.SnapshotOrder{Stage: stage, Data: deploy.Data{URL: secret.New(p.URL), Volumes: map[string]string{"uploads": p.Volume}}})
	case "prove":
		_, err = s.Prove(ctx, stage, p.ID, func(context.Context, secret.Text) error { return nil })
	case "restore":
		err = s.Restore(ctx, stage, p.ID, deploy.Data{URL: secret.New(p.To), Volumes: map[string]string{"uploads": filepath.Join(p.Scratch, "..", "back")}})
	}
	fmt.Println("it lived:", err)
}

// TestKilledAnywhere kills the process in every phase. Nothing half is listed, the next call takes away what was left, with the scratch
// cluster, and what people work with is as it was.
func TestKilledAnywhere(t *testing.T) {
	name, url := database(t)
	execute(t, url.Reveal(), market)
	volume := t.TempDir()
	fill(t, volume)
	points := []string{"take:moment", "take:part", "take:manifest", "take:taken", "prove:scratch", "restore:rows and on", "restore:restored"}
	if os.Getenv("LOTSE_PROVE") != "" {
		points = append(points, "take:moment and on", "take:part and on", "prove:decrypted", "prove:restore", "prove:restore and on", "prove:rows", "prove:rows and on", "prove:restored", "prove:restored and on", "prove:check",
			"restore:decrypted", "restore:restore", "restore:restore and on", "restore:rows", "restore:restored and on", "restore:volume")
	}
	for _, at := range points {
		_, to := database(t)
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			s, key := store(t)
			p := plan{Root: s.c.Root, Scratch: s.c.Scratch, Recipient: s.c.Recipients[0], Key: key.String(), URL: url.Reveal(), To: to.Reveal(), Volume: volume}
			verb, point, _ := strings.Cut(at, ":")
			whole := 0
			if verb != "take" {
				p.ID = take(t, s, deploy.Data{Database: name, URL: url, Volumes: map[string]string{"uploads": volume}}).ID
				whole++
			}
			runAndDie(t, at, p)
			if point == "taken" {
				whole++
			}
			listed, err := s.List(bounded(t), stage)
			if err != nil || len(listed) != whole {
				t.Fatalf("%d snapshots are there, want %d: %v", len(listed), whole, err)
			}
			if verb == "take" {
				take(t, s, deploy.Data{Volumes: map[string]string{"uploads": volume}})
				whole++
			} else if err := s.Sweep(bounded(t)); err != nil {
				t.Fatal(err)
			}
			of, _ := dir(stage)
			files, err := s.place.list(bounded(t), of)
			if ids := foldersIn(files, of); err != nil || len(ids) != whole {
				t.Errorf("%v are left, %v", ids, err)
			}
			empties(t, s.c.Scratch)
			nobodyIn(t, s.c.Scratch)
			if n := ask[int](t, url.Reveal(), "select count(*) from people"); n != 500 {
				t.Errorf("there are %d people", n)
			}
		})
	}
}

func runAndDie(t *testing.T, at string, p plan) {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(bounded(t), os.Args[0])
	child.Env = append(os.Environ(), faultPoint+"="+at, faultPlan+"="+string(text))
	out, err := child.CombinedOutput()
	if ended, is := errors.AsType[*exec.ExitError](err); !is || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child did not die at %s: %v\n%s", at, err, out)
	}
}

// nobodyIn looks for processes that work in a folder.
func nobodyIn(t *testing.T, dir string) {
	t.Helper()
	links, _ := filepath.Glob("/proc/[0-9]*/cwd") // the pattern is well formed
	for _, link := range links {
		if to, err := os.Readlink(link); err == nil && strings.HasPrefix(to, dir+"/") {
			t.Errorf("%s works in %s", link, to)
		}
	}
}

// wire stands between us and a database, and can be cut: at once, or after so many bytes of answers.
type wire struct {
	mu    sync.Mutex
	conns []net.Conn
	cut   bool
	after atomic.Int64 // 0: not by itself
	seen  atomic.Int64
}

// newWire listens on a socket and returns the address of the database by it.
func newWire(t *testing.T, c postgres.Cluster, url secret.Text) (*wire, secret.Text) {
	t.Helper()
	dir := shortFolder(t)
	listener, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	w := &wire{}
	go func() {
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			w.carry(in, filepath.Join(c.Dir, "run", ".s.PGSQL.5432"))
		}
	}()
	return w, secret.New(strings.ReplaceAll(url.Reveal(), escape(filepath.Join(c.Dir, "run")), escape(dir)))
}

func escape(path string) string { return strings.ReplaceAll(path, "/", "%2F") }

func (w *wire) carry(in net.Conn, to string) {
	out, err := net.Dial("unix", to)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil || w.cut {
		_ = in.Close()
		return
	}
	w.conns = append(w.conns, in, out)
	go func() { _, _ = io.Copy(out, in); _ = out.Close() }()
	go func() { _, _ = io.Copy(in, &metered{w, out}); _ = in.Close() }()
}

type metered struct {
	w    *wire
	from net.Conn
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.from.Read(p[:min(len(p), 4096)])
	if after, seen := m.w.after.Load(), m.w.seen.Add(int64(n)); after > 0 && seen > after {
		m.w.Cut()
	}
	return n, err
}

func (w *wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = true
	for _, c := range w.conns {
		_ = c.Close()
	}
}

// TestTheNetworkIsCut cuts the connection to the database in every phase: the call says so, leaves nothing, and the next one works.
func TestTheNetworkIsCut(t *testing.T) {
	name, url := database(t)
	execute(t, url.Reveal(), market)
	s, _ := store(t)
	taken := take(t, s, deploy.Data{Database: name, URL: url})
	for _, at := range []string{"take:0", "take:9000", "take:80000", "take:moment", "restore:0", "restore:restore", "restore:rows", "restore:restored", "restore:9000"} {
		_, to := database(t)
		t.Run(at, func(t *testing.T) {
			verb, point, _ := strings.Cut(at, ":")
			through := map[string]secret.Text{"take": url, "restore": to}[verb]
			w, address := newWire(t, theCluster(t), through)
			switch point {
			case "0":
				w.Cut()
			case "9000":
				w.after.Store(9000)
			case "80000":
				w.after.Store(80000)
			}
			s.at = func(reached string) error {
				if reached == point {
					w.Cut()
				}
				return nil
			}
			defer func() { s.at = func(string) error { return nil } }()
			var err error
			if verb == "take" {
				_, err = s.Take(bounded(t), deploy.SnapshotOrder{Stage: stage, Data: deploy.Data{URL: address}})
			} else {
				err = s.Restore(bounded(t), stage, taken.ID, deploy.Data{URL: address})
			}
			t.Log(err)
			if !errors.Is(err, deploy.ErrUnavailable) {
				t.Error(err)
			}
			listed, err := s.List(bounded(t), stage)
			if err != nil || len(listed) != 1 {
				t.Errorf("%d snapshots are there: %v", len(listed), err)
			}
			empties(t, s.c.Scratch)
			of, _ := dir(stage)
			files, _ := s.place.list(bounded(t), of)
			if ids := foldersIn(files, of); len(ids) != 1 {
				t.Errorf("%v are left", ids)
			}
		})
	}
}

// TestTheDatabaseIsKilled kills the server of a stage while its snapshot is taken: nothing half is left, and after it came up again, with
// what was committed, the next one is whole.
func TestTheDatabaseIsKilled(t *testing.T) {
	if os.Getenv("LOTSE_PROVE") == "" {
		t.Skip("NOT RUN without LOTSE_PROVE: a server that is killed while a snapshot of it is taken; the network that is cut shows the same to us")
	}
	theCluster(t)
	c := postgres.Cluster{Dir: filepath.Join(shortFolder(t), "c")}
	t.Cleanup(func() { _ = c.Remove(context.Background()) })
	for _, at := range []string{"moment", "part"} {
		if _, err := c.Start(bounded(t), nil); err != nil {
			t.Fatal(err)
		}
		url, err := c.CreateDatabase(bounded(t), "market")
		if err != nil {
			t.Fatal(err)
		}
		if at == "moment" {
			execute(t, url.Reveal(), market)
		}
		s, _ := store(t)
		s.at = func(point string) error {
			if point == at {
				pid, err := c.PID()
				return errors.Join(err, syscall.Kill(pid, syscall.SIGKILL))
			}
			return nil
		}
		_, err = s.Take(bounded(t), deploy.SnapshotOrder{Stage: stage, Data: deploy.Data{URL: url}})
		t.Log(at, err)
		listed, listErr := s.List(bounded(t), stage)
		if listErr != nil || (err == nil) != (len(listed) == 1) {
			t.Error(listed, listErr)
		}
		s.at = func(string) error { return nil }
		if _, err := c.Start(bounded(t), nil); err != nil {
			t.Fatal(err)
		}
		if n := take(t, s, deploy.Data{URL: url}).Rows; n != 1007 {
			t.Errorf("%d rows", n)
		}
		if err := c.Stop(bounded(t)); err != nil {
			t.Fatal(err)
		}
	}
}

// cable carries requests to S3 until it is cut.
type cable struct {
	calls, most atomic.Int64
	http.Transport
}

func (c *cable) RoundTrip(r *http.Request) (*http.Response, error) {
	if n := c.calls.Add(1); c.most.Load() > 0 && n > c.most.Load() {
		return nil, errors.New("the cable is cut")
	}
	return c.Transport.RoundTrip(r)
}

// TestTheNetworkToABucketIsCut cuts it after every call that a snapshot takes.
func TestTheNetworkToABucketIsCut(t *testing.T) {
	volume := large(t)
	for n, ended := int64(1), false; !ended; n++ {
		c, _ := fakeS3(t)
		through := &cable{}
		through.most.Store(n)
		cut := s3.New(c.Options(), func(o *s3.Options) { o.HTTPClient = &http.Client{Transport: through} })
		s, _ := store(t, inBucket(cut))
		_, err := s.Take(bounded(t), deploy.SnapshotOrder{Stage: stage, Data: deploy.Data{Volumes: map[string]string{"uploads": volume}}})
		ended = err == nil && through.calls.Load() <= n
		if err != nil && !errors.Is(err, deploy.ErrUnavailable) && !errors.Is(err, deploy.ErrFenced) {
			t.Errorf("after %d calls: %v", n, err)
		}
		through.most.Store(0)
		s.c.Clock = func() time.Time { return time.Now().Add(2 * lockLasts) } // the lock that nobody gave back ends
		s.place.(*objects).clock = s.c.Clock
		before, listErr := s.List(bounded(t), stage)
		if listErr != nil || err == nil && len(before) != 1 {
			t.Errorf("after %d calls: %v %v", n, before, listErr)
		}
		take(t, s, deploy.Data{Volumes: map[string]string{"uploads": t.TempDir()}})
		of, _ := dir(stage)
		files, err := s.place.list(bounded(t), of)
		begun, err2 := s.place.(*objects).begun(bounded(t), "")
		if ids := foldersIn(files, of); err != nil || err2 != nil || len(ids) != len(before)+1 || len(begun) != 0 {
			t.Errorf("after %d calls: %v %v %v %v", n, ids, begun, err, err2)
		}
	}
}

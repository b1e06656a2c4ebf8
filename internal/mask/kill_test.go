package mask

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// victim makes this program a copier that waits to be killed at the phase of that name.
const victim = "LOTSE_TEST_COPY"

// phases are all, or in a short run those in which most can be half.
func phases() []string {
	if os.Getenv("LOTSE_PROVE") != "" {
		return []string{"pre-data", "rows", "post-data", "check", "release"}
	}
	return []string{"rows", "check"}
}

func dieCopying() {
	c := New(Config{})
	c.reach = func(phase string) {
		if phase == os.Getenv(victim) {
			fmt.Println("there")
			select {}
		}
	}
	_, err := c.Copy(context.Background(), deploy.MaskOrder{From: secret.New(os.Getenv("FROM")), To: secret.New(os.Getenv("TO")), Named: named()})
	fmt.Println(err)
	os.Exit(1)
}

// The copier is killed in every phase: the target is marked as half, the next copy takes it over, and the source notices nothing.
func TestKilledCopier(t *testing.T) {
	from := app(t, 200)
	before := digest(t, from)
	for _, phase := range phases() {
		t.Run(phase, func(t *testing.T) {
			to := database(t)
			cmd := exec.CommandContext(within(t), os.Args[0])
			cmd.Env = append(os.Environ(), victim+"="+phase, "FROM="+from.Reveal(), "TO="+to.Reveal())
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said, _ := bufio.NewReader(out).ReadString('\n')
			if err := errors.Join(cmd.Process.Kill(), ignored(cmd.Wait())); err != nil || said != "there\n" {
				t.Fatal(err, said)
			}
			again(t, from, to, before)
		})
	}
}

func ignored(error) error { return nil }

// again looks at what a broken copy left: it is marked, and the next copy makes it whole.
func again(t *testing.T, from, to secret.Text, before string) {
	t.Helper()
	conn := dial(t, to)
	if !ask[bool](t, conn, "select to_regnamespace('lotse_copy') is not null") {
		t.Error("nothing says that the target is half")
	}
	var err error
	for ctx := within(t); ctx.Err() == nil; { // the server has to notice that a killed copier is gone
		if _, err = New(Config{}).Copy(ctx, deploy.MaskOrder{From: from, To: to, Named: named()}); !errors.Is(err, deploy.ErrBusy) {
			break
		}
	}
	if err != nil {
		t.Fatalf("it cannot be copied again: %v (%s)", err, deploy.HintOf(err))
	}
	none(t, conn, "pg_namespace where nspname = 'lotse_copy'", "users where email !~ 'example$'")
	if digest(t, from) != before {
		t.Error("the source is not as it was")
	}
}

// In every phase, the connections to one of the two databases end, or what asked for the copy does not want it any more.
func TestBrokenOff(t *testing.T) {
	if os.Getenv("LOTSE_PROVE") == "" {
		t.Skip("NOT RUN: it takes a quarter of a minute, `make prove` runs it; nothing was shown of a copy whose connections are ended")
	}
	from := app(t, 200)
	before := digest(t, from)
	admin := dial(t, secret.New(cluster.Admin("postgres")))
	for _, phase := range phases() {
		for _, who := range []string{"source", "target", "caller"} {
			if who == "source" && slices.Contains([]string{"post-data", "release"}, phase) {
				continue // nothing is asked of it any more in that phase
			}
			t.Run(phase+" "+who, func(t *testing.T) {
				to := database(t)
				ctx, cancel := context.WithCancel(within(t))
				defer cancel()
				c := New(Config{})
				c.reach = func(at string) {
					if at != phase {
						return
					}
					switch who {
					case "caller":
						cancel()
					case "source":
						end(t, admin, from)
					default:
						end(t, admin, to)
					}
				}
				_, err := c.Copy(ctx, deploy.MaskOrder{From: from, To: to, Named: named()})
				if who == "caller" && !errors.Is(err, context.Canceled) || who != "caller" && err != nil && !errors.Is(err, deploy.ErrUnavailable) {
					t.Errorf("%v", err)
				}
				if err == nil {
					t.Fatal("it went on")
				}
				again(t, from, to, before)
			})
		}
	}
}

// end ends all connections to a database, as a restart of the server does.
func end(t *testing.T, admin *pgx.Conn, dsn secret.Text) {
	t.Helper()
	config, err := pgx.ParseConfig(dsn.Reveal())
	if err != nil {
		t.Fatal("the URL is no URL")
	}
	execute(t, admin, "select pg_terminate_backend(pid) from pg_stat_activity where datname = '"+config.Database+"' and application_name like 'lotse copy%'")
}

// The network is cut while rows are copied: with a word (RST), and without one.
func TestNetworkCut(t *testing.T) {
	from := app(t, 200)
	before := digest(t, from)
	if os.Getenv("LOTSE_PROVE") == "" {
		t.Skip("NOT RUN: it takes a quarter of a minute, `make prove` runs it; nothing was shown of a network that is cut")
	}
	ways := []string{"source reset", "target silent", "target reset", "source silent"}
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			to := database(t)
			cable := newCable(t)
			order := deploy.MaskOrder{From: from, To: to, Named: named()}
			if strings.HasPrefix(way, "source") {
				order.From = cable.through(from)
			} else {
				order.To = cable.through(to)
			}
			c := New(Config{Stall: time.Second})
			c.reach = func(phase string) {
				if phase == "rows" {
					cable.cut(strings.HasSuffix(way, "silent"))
				}
			}
			if _, err := c.Copy(within(t), order); !errors.Is(err, deploy.ErrUnavailable) || strings.Contains(err.Error(), "127.0.0.1") {
				t.Fatalf("%v", err)
			}
			cable.cut(false)
			again(t, from, to, before)
		})
	}
}

// cable carries connections to the cluster until it is cut.
type cable struct {
	listener net.Listener
	mu       sync.Mutex
	ends     []net.Conn
	silent   chan struct{}
}

func newCable(t *testing.T) *cable {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{listener: l, silent: make(chan struct{})}
	t.Cleanup(func() { c.cut(false) })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", cluster.Port))
			if err != nil {
				near.Close()
				continue
			}
			c.mu.Lock()
			c.ends = append(c.ends, near, far)
			c.mu.Unlock()
			go c.carry(near, far)
			go c.carry(far, near)
		}
	}()
	return c
}

func (c *cable) carry(to io.Writer, from io.Reader) {
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		select {
		case <-c.silent: // what comes is lost, and nobody is told
		default:
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
}

func (c *cable) cut(silent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if silent {
		close(c.silent)
		return
	}
	c.listener.Close()
	for _, end := range c.ends {
		if tcp, ok := end.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		end.Close()
	}
}

func (c *cable) through(dsn secret.Text) secret.Text {
	port := c.listener.Addr().(*net.TCPAddr).Port
	return secret.New(strings.Replace(dsn.Reveal(), fmt.Sprintf(":%d/", cluster.Port), fmt.Sprintf(":%d/", port), 1))
}

package postgres

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// What clients do with the DSN as it is, and what becomes of those who come without TLS or with a wrong idea of the server.
func TestTLS(t *testing.T) {
	c := madeCluster(t)
	c.Port = freePort(t)
	start(t, c, nil)
	dsn := create(t, c, "shop").Reveal()
	t.Run("pgx", func(t *testing.T) {
		if version := ask[string](t, open(t, create(t, c, "shop")), "select version from pg_stat_ssl where pid = pg_backend_pid() and ssl"); version != "TLSv1.3" {
			t.Errorf("TLS version %q", version)
		}
	})
	t.Run("psql", func(t *testing.T) {
		b, err := Find()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(bounded(t), filepath.Join(b.Dir, "psql"), "-Atc", "select ssl from pg_stat_ssl where pid = pg_backend_pid()", dsn)
		cmd.Dir, cmd.Env = "/", []string{"LC_ALL=C"}
		if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "t" {
			t.Errorf("psql: %v %s", err, out)
		}
	})
	t.Run("node", func(t *testing.T) { testNode(t, dsn) })
	t.Run("without TLS", func(t *testing.T) {
		_, err := pgx.Connect(bounded(t), changed(t, dsn, "sslmode", "disable"))
		if code(err) != "28000" || !strings.Contains(err.Error(), "no encryption") {
			t.Errorf("a connection in plain text: %v", err)
		}
	})
	t.Run("another server", func(t *testing.T) {
		other := madeCluster(t)
		other.Port = freePort(t)
		start(t, other, nil)
		theirs, err := url.Parse(create(t, other, "shop").Reveal())
		if err != nil {
			t.Fatal("the DSN is no URL")
		}
		u, _ := url.Parse(dsn)
		u.Host = theirs.Host
		_, err = pgx.Connect(bounded(t), u.String())
		if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
			t.Errorf("a server of another authority: %v", err)
		}
	})
	t.Run("who may read what", func(t *testing.T) {
		if info, err := os.Stat(c.AuthorityPath()); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("the authority's certificate: %v", err)
		}
		for _, name := range []string{authorityKey, "data/" + serverCert} {
			if info, err := os.Stat(filepath.Join(c.Dir, name)); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", name, info.Mode(), err)
			}
		}
	})
}

func changed(t *testing.T, dsn, name, value string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal("the DSN is no URL")
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// nodeModules names a folder with node_modules/pg in it; see CONTRIBUTING.md.
const nodeModules = "LOTSE_TEST_NODE_PG"

func testNode(t *testing.T, dsn string) {
	dir := os.Getenv(nodeModules)
	if dir == "" {
		t.Skipf("NOT RUN: that node's pg takes the DSN as it is: set %s to a folder where `npm install pg` was run", nodeModules)
	}
	const script = `const { Client } = require('pg');
const c = new Client({ connectionString: process.env.DATABASE_URL });
c.connect().then(() => c.query('select ssl from pg_stat_ssl where pid = pg_backend_pid()'))
 .then(r => { console.log(r.rows[0].ssl); return c.end() }).catch(e => { console.error(e.message); process.exit(1) })`
	cmd := exec.CommandContext(bounded(t), "node", "-e", script)
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "DATABASE_URL=" + dsn}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "true") {
		t.Errorf("node: %v\n%s", err, out)
	}
}

// A certificate is renewed before its end while the server runs; the connections of before stay, new ones get the new certificate,
// and a client that has read the authority before it was renewed believes the server still.
func TestRenewal(t *testing.T) {
	c := madeCluster(t)
	c.Port = freePort(t)
	now := time.Now()
	c.Clock = func() time.Time { return now }
	start(t, c, nil)
	dsn := create(t, c, "shop")
	held := open(t, dsn)
	old, err := os.ReadFile(c.AuthorityPath())
	if err != nil {
		t.Fatal(err)
	}
	first := presented(t, c)
	for _, step := range []struct {
		name    string
		after   time.Duration
		renewed bool
	}{
		{"at once", 0, false},
		{"long before half of its life", serverLife/2 - 24*time.Hour, false},
		{"after half of its life", 2 * 24 * time.Hour, true},
		{"the authority too", authorityLife - authorityRenew, true},
	} {
		now = now.Add(step.after)
		if renewed, err := c.Renew(bounded(t)); err != nil || renewed != step.renewed {
			t.Fatalf("%s: renewed %v, %v", step.name, renewed, err)
		}
		if step.renewed {
			before := first
			eventually(t, step.name+": another certificate", func() bool { first = presented(t, c); return !first.Equal(before) })
		}
	}
	if n := ask[int](t, held, "select 1"); n != 1 {
		t.Error("the connection of before is gone")
	}
	fresh, err := os.ReadFile(c.AuthorityPath())
	if err != nil || string(fresh) == string(old) {
		t.Fatalf("the authority was not renewed: %v", err)
	}
	for name, pem := range map[string][]byte{"old": old, "new": fresh} {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		if _, err := first.Verify(x509.VerifyOptions{DNSName: "127.0.0.1", Roots: roots, CurrentTime: now}); err != nil {
			t.Errorf("against the %s authority: %v", name, err)
		}
	}
}

// presented asks the server for its certificate, as a client would (SSLRequest, in "Message Flow" of PostgreSQL's manual).
func presented(t *testing.T, c Cluster) *x509.Certificate {
	t.Helper()
	conn, err := net.Dial("tcp", c.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := binary.BigEndian.AppendUint32(nil, 8)
	request = binary.BigEndian.AppendUint32(request, 80877103)
	answer := make([]byte, 1)
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(answer); err != nil || answer[0] != 'S' {
		t.Fatalf("the server answers %q, %v", answer, err)
	}
	client := tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // it is looked at, not believed
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	return client.ConnectionState().PeerCertificates[0]
}

// A DSN is told before anything is there, and stays.
func TestReserve(t *testing.T) {
	c := newCluster(t)
	c.Port = freePort(t)
	if _, err := c.DSN("shop"); !errors.Is(err, ErrNotMade) {
		t.Errorf("before: %v", err)
	}
	if err := c.Reserve(bounded(t)); err != nil {
		t.Fatal(err)
	}
	told, err := c.DSN("shop")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(c.data()); err == nil {
		t.Error("a cluster was made")
	}
	start(t, c, nil)
	if dsn := create(t, c, "shop"); dsn.Reveal() != told.Reveal() {
		t.Error("the DSN is another")
	}
	open(t, told)
}

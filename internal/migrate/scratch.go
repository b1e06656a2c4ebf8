package migrate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
)

// scratch is a PostgreSQL in a folder of its own, without TCP, in which migrations are tried. What is tried there runs as a role that is
// no superuser: a superuser may run programs of the machine and read the files of every other cluster on it.
type scratch struct {
	cluster postgres.Cluster
	dir     string
	held    *os.File // locked while the folder is in use
	role    string
	key     string // password of role
}

const (
	scratchPrefix = "lotse-judge-"
	scratchMemory = 256 << 20
	// sweepAfter is how old a folder without a lock must be to be a leftover and not one that is just being made.
	sweepAfter = time.Minute
	endMost    = 20 * time.Second
)

// openScratch starts a cluster, after it has thrown away those whose owners were killed. role is the name of who runs migrations in the
// database that is cloned.
func openScratch(ctx context.Context, installed postgres.Binaries, role string) (*scratch, error) {
	sweep(ctx)
	dir, err := os.MkdirTemp("", scratchPrefix)
	if err != nil {
		return nil, err
	}
	s := &scratch{dir: dir, role: role, key: rand.Text()}
	s.cluster = postgres.Cluster{Dir: filepath.Join(dir, "c"), Memory: scratchMemory, Binaries: installed, Scratch: true}
	if s.held, err = hold(filepath.Join(dir, "lock")); err == nil {
		err = os.Chmod(dir, 0o755) // PostgreSQL runs as another user, and its own folders are closed
	}
	if err == nil {
		_, err = s.cluster.Start(ctx, nil)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// close throws the cluster away, also when ctx of its work has ended.
func (s *scratch) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), endMost)
	defer cancel()
	err := s.cluster.Remove(ctx)
	if errors.Is(err, postgres.ErrNotMade) {
		err = nil
	}
	err = errors.Join(err, os.RemoveAll(s.dir))
	if s.held != nil {
		err = errors.Join(err, s.held.Close())
	}
	return err
}

// hold locks a file for as long as this process lives, or the file is open. It is unix.EWOULDBLOCK where another has it.
func hold(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// sweep removes what killed processes of this user have left. What it cannot remove, it leaves to the next.
func sweep(ctx context.Context) {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), scratchPrefix+"*")) // the only error is a bad pattern
	for _, dir := range left {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() || info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
			continue
		}
		if _, err := os.Lstat(filepath.Join(dir, "lock")); err != nil && time.Since(info.ModTime()) < sweepAfter {
			continue
		}
		held, err := hold(filepath.Join(dir, "lock"))
		if err != nil {
			continue
		}
		_ = (&scratch{dir: dir, held: held, cluster: postgres.Cluster{Dir: filepath.Join(dir, "c"), Scratch: true}}).close()
		if ctx.Err() != nil {
			return
		}
	}
}

// superuser is a connection that nothing of a file runs over.
func (s *scratch) superuser(ctx context.Context, database string) (*pgx.Conn, error) {
	return s.dial(ctx, s.cluster.Admin(database))
}

// runner is a connection as the role that owns the clone.
func (s *scratch) runner(ctx context.Context, database string) (*pgx.Conn, error) {
	return s.dial(ctx, s.runnerDSN(database))
}

func (s *scratch) runnerDSN(database string) string {
	return fmt.Sprintf("host='%s' port=5432 user='%s' password=%s dbname='%s' sslmode=disable", filepath.Join(s.cluster.Dir, "run"), quotedIn(s.role), s.key, database)
}

func quotedIn(text string) string { return strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) }

func (s *scratch) dial(ctx context.Context, dsn string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("the scratch cluster's address is not usable") // the cause would repeat the password
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	return pgx.ConnectConfig(ctx, config)
}

// found picks the installation for a server of a major version: the same, else the newest; whole says that it can dump that server.
func found(major int) (b postgres.Binaries, whole bool, err error) {
	if major > 0 {
		if b, err = postgres.FindMajor(major); err == nil {
			return b, true, nil
		}
	}
	b, err = postgres.Find()
	if err != nil {
		return b, false, deploy.Hint(fmt.Errorf("%w: migrations are judged in a PostgreSQL on this machine: %w", deploy.ErrUnsupported, err), postgres.HintOf(err))
	}
	return b, b.Major >= major, nil
}

// prepare makes the role and an empty database of its own.
func (s *scratch) prepare(ctx context.Context, database string, roles []string) error {
	conn, err := s.superuser(ctx, "postgres")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it has nothing to lose
	me := pgx.Identifier{s.role}.Sanitize()
	if _, err := conn.Exec(ctx, "create role "+me+" login bypassrls createdb password '"+s.key+"'"); err != nil {
		return err
	}
	for _, name := range roles {
		if err := s.addRole(ctx, conn, name); err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, "create database "+database+" owner "+me+" template template0")
	return err
}

// addRole makes a role that may do nothing, and of which the runner is a member, so that it can give things to it.
func (s *scratch) addRole(ctx context.Context, conn *pgx.Conn, name string) error {
	if name == s.role || strings.HasPrefix(name, "pg_") {
		return nil
	}
	role := pgx.Identifier{name}.Sanitize()
	if _, err := conn.Exec(ctx, "create role "+role); err != nil && !exists(err) {
		return err
	}
	_, err := conn.Exec(ctx, "grant "+role+" to "+pgx.Identifier{s.role}.Sanitize())
	return err
}

// copyOf makes a database of the base, which nobody may be connected to.
func (s *scratch) copyOf(ctx context.Context, to string) error {
	conn, err := s.superuser(ctx, "postgres")
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "create database "+to+" template "+base+" owner "+pgx.Identifier{s.role}.Sanitize())
	return errors.Join(err, conn.Close(ctx))
}

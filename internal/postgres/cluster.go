package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Cluster says where a cluster is and how it is reached. It is a plain value: the same one in another process is the same
// cluster. Its methods may be called at once, from any number of goroutines and processes.
type Cluster struct {
	Dir    string // absolute; everything of the cluster. Root's must be open to the user that PostgreSQL runs as
	Port   int    // on 127.0.0.1; 0: reached over the socket alone
	Memory int64  // bytes of the machine that it is tuned for; 0: what this machine has

	// Major is the version that is wanted: a new cluster is made with it, and one of another version is refused (ErrVersion).
	// 0: the newest for a new cluster, whatever it is for one that is there.
	Major int

	// Binaries is what a new cluster is made with; the zero value is what Find, or FindMajor(Major), returns. A cluster that
	// is there is run by the installation of its own major version, so that a newer one installed beside it changes nothing.
	Binaries Binaries

	Clock func() time.Time // for the life of certificates; nil: time.Now

	// Scratch makes a cluster that is thrown away: it does not wait for the disk, and what a crash leaves of it is of no use. Its superuser
	// has another name, so that "postgres" can be a role of what is tried out there.
	Scratch bool
}

// User is a numeric user.
type User struct{ UID, GID uint32 }

// Superuser is the name of the role that is reached over the socket alone, without a password.
const Superuser = "postgres"

const scratchSuperuser = "lotse_scratch"

func (c Cluster) superuser() string {
	if c.Scratch {
		return scratchSuperuser
	}
	return Superuser
}

// serviceUser is who PostgreSQL runs as when the caller is root.
const serviceUser = "postgres"

// socketPort names the socket of a cluster without a port; nothing listens on it.
const socketPort = 5432

// sunPath is the longest path of a unix socket: sun_path holds 108 bytes on Linux and 104 on macOS, with a final zero.
const sunPath = 103

func (c Cluster) data() string      { return filepath.Join(c.Dir, "data") }
func (c Cluster) socketDir() string { return filepath.Join(c.Dir, "run") }

func (c Cluster) port() int {
	if c.Port == 0 {
		return socketPort
	}
	return c.Port
}

// Init makes the cluster where it is not there, and writes its configuration afresh: after it, Command can be run. It is
// idempotent, also beside a running cluster, which takes up a new configuration when it is next started. A crash or a cancel
// leaves nothing that a later Init does not put right.
//
// ErrNotInstalled, ErrNoUser, ErrFolder, ErrOwner and ErrVersion say what a person has to do first.
func (c Cluster) Init(ctx context.Context) error {
	return c.prepare(ctx, func(owner User) error {
		if err := c.makeData(ctx, owner); err != nil {
			return fmt.Errorf("make the cluster in %s: %w", c.Dir, err)
		}
		if err := c.makeSocketDir(owner); err != nil {
			return err
		}
		renewed, err := c.certify(owner)
		if err != nil {
			return fmt.Errorf("certificate of the cluster in %s: %w", c.Dir, err)
		}
		return errors.Join(c.configure(owner), c.reload(renewed))
	})
}

// Reserve makes what DSN needs, and nothing else: the DSN of a database can be told before anything is made or started. It
// refuses what Init would refuse.
func (c Cluster) Reserve(ctx context.Context) error {
	return c.prepare(ctx, func(User) error { return nil })
}

// prepare makes sure that the folder can hold the cluster, makes the key, and does the rest under the folder's lock.
func (c Cluster) prepare(ctx context.Context, rest func(owner User) error) error {
	if err := c.checkPath(); err != nil {
		return err
	}
	owner, err := c.owner()
	if err != nil {
		return err
	}
	if _, err := c.binaries(); err != nil {
		return err
	}
	if err := makeFolder(c.Dir, 0o755); err != nil {
		return err
	}
	unlock, err := lock(ctx, filepath.Join(c.Dir, "lock"))
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.makeKey(); err != nil {
		return err
	}
	return rest(owner)
}

// checkPath refuses what would otherwise fail late and without a reason.
func (c Cluster) checkPath() error {
	switch socket := filepath.Join(c.socketDir(), ".s.PGSQL.65535"); {
	case !filepath.IsAbs(c.Dir) || filepath.Clean(c.Dir) != c.Dir || c.Dir == "/":
		return fmt.Errorf("%w: %q is not a clean absolute path", ErrFolder, c.Dir)
	case strings.ContainsAny(c.Dir, "\"'\\,\n\x00"):
		return fmt.Errorf("%w: %q has a character that PostgreSQL's configuration cannot hold", ErrFolder, c.Dir)
	case len(socket) > sunPath:
		return &hinted{fmt.Errorf("%w: the path of its unix socket has %d bytes, %d are possible: %s", ErrFolder, len(socket), sunPath, socket),
			fmt.Sprintf("use a folder whose path is at least %d bytes shorter", len(socket)-sunPath)}
	}
	return nil
}

// owner is who PostgreSQL runs as: the caller, or the service user where the caller is root. A cluster of somebody else is refused.
func (c Cluster) owner() (User, error) {
	me := User{uint32(os.Geteuid()), uint32(os.Getegid())}
	info, err := os.Lstat(c.data())
	switch {
	case err == nil:
		stat := info.Sys().(*syscall.Stat_t)
		there, ours := User{stat.Uid, stat.Gid}, me
		if me.UID == 0 {
			if ours, err = lookUp(serviceUser); err != nil {
				return User{}, err
			}
		}
		if !info.IsDir() || there.UID != ours.UID {
			return User{}, &hinted{fmt.Errorf("%w: %s is owned by uid %d, not by %d", ErrOwner, c.data(), there.UID, ours.UID), "act as the user that made it, or use another folder"}
		}
		return there, nil
	case !errors.Is(err, fs.ErrNotExist):
		return User{}, err
	case me.UID != 0:
		return me, nil
	}
	return lookUp(serviceUser)
}

func lookUp(name string) (User, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return User{}, &hinted{fmt.Errorf("%w: PostgreSQL refuses to run as root, and there is no user %q", ErrNoUser, name),
			"useradd --system --user-group --shell /usr/sbin/nologin " + name}
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return User{}, err
	}
	if uid == 0 {
		return User{}, fmt.Errorf("%w: the user %q is root", ErrNoUser, name)
	}
	return User{uint32(uid), uint32(gid)}, nil
}

// binaries is the installation that can run what is in the folder, or make it.
func (c Cluster) binaries() (Binaries, error) {
	major, err := c.made()
	switch {
	case err != nil:
		return Binaries{}, err
	case major == 0 && c.Binaries.Dir != "":
		return c.Binaries, nil
	case major == 0 && c.Major == 0:
		return Find()
	case major == 0:
		return FindMajor(c.Major)
	case c.Major != 0 && c.Major != major:
		return Binaries{}, &hinted{fmt.Errorf("%w: %s holds data of version %d, and %d is asked for", ErrVersion, c.data(), major, c.Major),
			fmt.Sprintf("ask for %d, which the data is of; a change of version is a dump and a restore, see docs/database.md", major)}
	}
	found := c.Binaries
	if found.Major != major {
		if found, err = FindMajor(major); err != nil {
			return Binaries{}, fmt.Errorf("%w: %s holds data of version %d: %w", ErrVersion, c.data(), major, err)
		}
	}
	if _, err := os.Stat(filepath.Join(c.data(), "global", "pg_control")); errors.Is(err, fs.ErrNotExist) {
		return Binaries{}, c.noCluster("is damaged: it has no global/pg_control")
	}
	return found, nil
}

func (c Cluster) noCluster(why string) error {
	return &hinted{fmt.Errorf("%w: %s %s", ErrFolder, c.data(), why), "move the folder away, or put the whole cluster back from a backup"}
}

// made is the major version of the cluster that is there, 0 where there is none. What is there and is no cluster is an error.
func (c Cluster) made() (int, error) {
	if _, err := os.Lstat(c.data()); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	text, err := os.ReadFile(filepath.Join(c.data(), "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, c.noCluster("is there and is no cluster: it has no PG_VERSION")
	}
	if err != nil {
		return 0, err
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || major <= 0 {
		return 0, fmt.Errorf("%w: %s/PG_VERSION says %.40q", ErrVersion, c.data(), text)
	}
	return major, nil
}

// makeData runs initdb aside and renames the result, so that a half-made cluster is never taken for one.
func (c Cluster) makeData(ctx context.Context, owner User) error {
	if _, err := os.Lstat(c.data()); err == nil {
		return nil
	}
	b, err := c.binaries()
	if err != nil {
		return err
	}
	aside := c.data() + ".new"
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	if err := os.Mkdir(aside, 0o700); err != nil {
		return err
	}
	if err := os.Lchown(aside, int(owner.UID), int(owner.GID)); err != nil {
		return err
	}
	if err := c.traversable(ctx, b, owner); err != nil {
		return err
	}
	if err := c.initdb(ctx, b, owner, aside); err != nil {
		return errors.Join(err, os.RemoveAll(aside)) // where the disk is full, others need the room
	}
	if err := os.Rename(aside, c.data()); err != nil {
		return err
	}
	return syncFolder(c.Dir)
}

// initdb syncs everything it writes.
func (c Cluster) initdb(ctx context.Context, b Binaries, owner User, dir string) error {
	// The C locale sorts by code point, the same in every version of the C library: an upgrade of the machine cannot damage
	// an index. Those who want German order say COLLATE "de-x-icu" where they want it.
	argv := []string{filepath.Join(b.Dir, "initdb"), "-D", dir, "-U", c.superuser(), "--encoding=UTF8", "--locale=C",
		"--auth-local=peer", "--auth-host=scram-sha-256"}
	if c.Scratch {
		argv = append(argv, "--no-sync")
	} else {
		argv = append(argv, "--data-checksums")
	}
	cmd := c.as(ctx, owner, argv...)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil && DiskFull(string(out)) {
		err = fmt.Errorf("%w: %w", syscall.ENOSPC, err)
	}
	if err != nil {
		return fmt.Errorf("initdb: %w; its last output:\n  %s", err, strings.Join(lastLines(string(out), 10), "\n  "))
	}
	return nil
}

// as makes a command that runs as owner in the cluster's folder, with an environment of its own: PG… variables of the
// caller would change what initdb and postgres do.
func (c Cluster) as(ctx context.Context, owner User, argv ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = c.Dir, c.env()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner.UID, Gid: owner.GID}
	}
	// initdb starts postgres: a cancel ends both. It gets SIGTERM, by which it removes what it made.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

func (c Cluster) env() []string {
	return []string{"PATH=/usr/bin:/bin", "HOME=" + c.Dir, "LC_ALL=C", "TZ=UTC"}
}

// traversable says which folder keeps PostgreSQL's user out. Whether one does is asked of the kernel, by a process of that
// user which enters the folder: modes alone do not know about ACLs.
func (c Cluster) traversable(ctx context.Context, b Binaries, owner User) error {
	err := c.as(ctx, owner, filepath.Join(b.Dir, "postgres"), "--version").Run()
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	for dir := c.Dir; ; dir = filepath.Dir(dir) {
		info, statErr := os.Stat(dir)
		if statErr != nil {
			return statErr
		}
		if !mayEnter(info, owner) {
			return &hinted{fmt.Errorf("%w: the user that PostgreSQL runs as (uid %d) may not enter %s", ErrFolder, owner.UID, dir), "chmod o+x " + dir}
		}
		if dir == "/" {
			return fmt.Errorf("%w: the user that PostgreSQL runs as (uid %d) may not enter %s: %w", ErrFolder, owner.UID, c.Dir, err)
		}
	}
}

func mayEnter(info fs.FileInfo, u User) bool {
	stat := info.Sys().(*syscall.Stat_t)
	switch {
	case stat.Uid == u.UID:
		return info.Mode()&0o100 != 0
	case stat.Gid == u.GID:
		return info.Mode()&0o010 != 0
	}
	return info.Mode()&0o001 != 0
}

func (c Cluster) makeSocketDir(owner User) error {
	if err := makeFolder(c.socketDir(), 0o755); err != nil {
		return err
	}
	return os.Lchown(c.socketDir(), int(owner.UID), int(owner.GID))
}

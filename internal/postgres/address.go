package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Address is where a database is, ours or somebody else's, for connections of our own and for PostgreSQL's programs alike. It never
// leaves this machine without TLS. It may be used concurrently.
type Address struct {
	settings map[string]string // of libpq, without the password
	password secret.Text
}

// settingsTaken are the settings of libpq that are taken from an address. Others are for the app's own driver (Prisma's ?schema=, a pool's
// size), and both libpq and the server refuse what they do not know.
var settingsTaken = []string{"host", "hostaddr", "port", "dbname", "user", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding", "connect_timeout", "gssencmode", "options", "application_name"}

// aliveness finds a server that is gone without a word within about a minute.
var aliveness = map[string]string{"connect_timeout": "15", "keepalives_idle": "20", "keepalives_interval": "10", "keepalives_count": "4", "tcp_user_timeout": "60000"}

// ParseAddress reads an address in one of the two forms of libpq: a URL, or words as in host=… dbname=…. program is the name under which
// the server shows our connections, unless the address has one. ErrAddress never repeats any of it.
func ParseAddress(text secret.Text, program string) (*Address, error) {
	said, err := settingsOfURL(text.Reveal())
	if err != nil {
		said, err = settingsOfWords(text.Reveal())
	}
	if err != nil {
		return nil, &hinted{fmt.Errorf("%w: it is not an address of PostgreSQL", ErrAddress), "for example postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full"}
	}
	a := &Address{settings: maps.Clone(aliveness), password: secret.New(said["password"])}
	a.settings["application_name"] = program
	for name, value := range said {
		if value != "" && slices.Contains(settingsTaken, name) {
			a.settings[name] = value
		}
	}
	if path := said["search_path"]; path != "" { // of the server, which libpq takes among the options alone
		a.settings["options"] = strings.TrimSpace(a.settings["options"] + " -c search_path=" + strings.NewReplacer(`\`, `\\`, " ", `\ `).Replace(path))
	}
	for _, value := range append(slices.Collect(maps.Values(a.settings)), a.password.Reveal()) {
		if strings.ContainsAny(value, "\n\r\x00") {
			return nil, fmt.Errorf("%w: it has a line break in it", ErrAddress)
		}
	}
	return a, errors.Join(a.encrypt(), a.readable())
}

func settingsOfURL(text string) (map[string]string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, errors.New("not a URL of PostgreSQL")
	}
	settings := map[string]string{"host": u.Hostname(), "port": u.Port(), "dbname": strings.TrimPrefix(u.Path, "/"), "user": u.User.Username()}
	settings["password"], _ = u.User.Password()
	for name, values := range u.Query() {
		settings[name] = values[0]
	}
	return settings, nil
}

var (
	// word is one setting of the other form: name = value, or name = 'va\'lue'.
	word    = regexp.MustCompile(`^\s*([a-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)*)(?:\s+|$)`)
	escaped = regexp.MustCompile(`\\(.)`)
)

func settingsOfWords(text string) (map[string]string, error) {
	settings := map[string]string{}
	for strings.TrimSpace(text) != "" {
		found := word.FindStringSubmatch(text)
		if found == nil {
			return nil, errors.New("not settings of PostgreSQL")
		}
		value := strings.TrimSuffix(strings.TrimPrefix(found[2], "'"), "'")
		settings[found[1]] = escaped.ReplaceAllString(value, "$1")
		text = text[len(found[0]):]
	}
	if len(settings) == 0 {
		return nil, errors.New("empty")
	}
	return settings, nil
}

// encrypt sees to it that passwords and rows do not leave this machine in plain text. An address that does not say allows both.
func (a *Address) encrypt() error {
	host := a.settings["host"]
	if strings.Contains(host, ",") {
		return &hinted{fmt.Errorf("%w: it names several hosts", ErrAddress), "name the one that takes writes"}
	}
	if at := a.settings["hostaddr"]; onThisMachine(host) && (at == "" || onThisMachine(at)) {
		return nil
	}
	switch a.settings["sslmode"] {
	case "disable":
		return &hinted{fmt.Errorf("%w: it asks for a connection without TLS", ErrAddress), "say sslmode=verify-full, or sslmode=require where its certificate is not known"}
	case "", "allow", "prefer":
		a.settings["sslmode"] = "require"
	case "verify-ca", "verify-full":
		if a.settings["sslrootcert"] == "" { // libpq would look for a file in the home folder alone
			a.settings["sslrootcert"] = systemRoots()
		}
	}
	return nil
}

// readable refuses a file that is named and cannot be read; libpq would go on without some of them.
func (a *Address) readable() error {
	for _, name := range []string{"sslrootcert", "sslcert", "sslkey", "sslcrl"} {
		file := a.settings[name]
		if file == "" || file == "system" {
			continue
		}
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("%w: %s names a file that cannot be read: %w", ErrAddress, name, err)
		}
		_ = f.Close() // nothing was written
	}
	return nil
}

// systemRoots is the file with the authorities that this machine trusts; the same places as crypto/x509 looks at.
func systemRoots() string {
	for _, path := range []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

func onThisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "" || host == "localhost" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || err == nil && ip.IsLoopback()
}

// ofLibpq are settings that pgx would take for ones of the server.
var ofLibpq = []string{"hostaddr", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "gssencmode", "sslcrl"}

// cancelPatience is how long a server may take to end a statement that was cancelled before the connection is cut.
const cancelPatience = 5 * time.Second

// Connect opens a connection of our own, which the caller closes. Nothing is prepared on it, since a pooler may stand between; notices are
// dropped; a cancel ends the statement in the server too, and so frees what it has locked. ErrEntry and ErrUnreachable say why not, and
// nothing of the address; after a cancel it is the cause of that.
func (a *Address) Connect(ctx context.Context) (*pgx.Conn, error) {
	var text strings.Builder
	for name, value := range a.settings {
		if !slices.Contains(ofLibpq, name) {
			fmt.Fprintf(&text, "%s='%s' ", name, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
		}
	}
	config, err := pgx.ParseConfig(text.String())
	if err != nil {
		return nil, fmt.Errorf("%w: a setting of it is not one of PostgreSQL", ErrAddress)
	}
	if at := a.settings["hostaddr"]; at != "" {
		config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{at}, nil }
	}
	config.Password = a.password.Reveal()
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelPatience}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	return conn, nil
}

// ServiceArgument is what PostgreSQL's programs take for a database that Tell has told them.
const ServiceArgument = "--dbname=service=" + serviceName

const serviceName = "lotse"

// Tell tells one of PostgreSQL's programs where to go: by two files without a name, which it inherits behind the other extra files, so that
// no process list, no environment and no folder shows a password. It sets the whole environment, in which the zone is always the same, since
// COPY writes times in it. The caller starts the program and then calls told.
func (a *Address) Tell(cmd *exec.Cmd) (told func(), err error) {
	var service strings.Builder
	service.WriteString("[" + serviceName + "]\n")
	for _, name := range slices.Sorted(maps.Keys(a.settings)) {
		fmt.Fprintf(&service, "%s=%s\n", name, a.settings[name])
	}
	password := "*:*:*:*:" + strings.NewReplacer(`\`, `\\`, `:`, `\:`).Replace(a.password.Reveal()) + "\n"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=/nonexistent", "LC_ALL=C", "PGTZ=UTC"}
	var files []*os.File
	told = func() {
		for _, f := range files {
			_ = f.Close() // it is only read from now on
		}
	}
	for variable, text := range map[string]string{"PGSERVICEFILE": service.String(), "PGPASSFILE": password} {
		f, err := nameless(variable, text)
		if err != nil {
			told()
			return nil, err
		}
		files = append(files, f)
		cmd.Env = append(cmd.Env, fmt.Sprintf("%s=/dev/fd/%d", variable, 3+len(cmd.ExtraFiles)))
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	return told, nil
}

// nameless is a file in memory. libpq takes passwords only from one that nobody else may read.
func nameless(name, text string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(0o600)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

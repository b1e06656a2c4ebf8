package migrate

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

const connectMost = 15 * time.Second

// connect opens the one connection of a run. What it says of a failure has no part of the address.
func connect(ctx context.Context, url secret.Text) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url.Reveal())
	if err != nil {
		return nil, unreadable(err)
	}
	if err := encrypted(&config.Config); err != nil {
		return nil, err
	}
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectMost
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "lotse migrate"
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing is prepared: a pooler may stand between
	config.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
	// A cancel ends the statement in the server too, and so frees what it has locked.
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 5 * time.Second}
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, unreachable(ctx, err)
	}
	return conn, nil
}

func unreadable(err error) error {
	if missing, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("%w: the address of the database names the file %s, which cannot be read: %w", deploy.ErrBadInput, missing.Path, missing.Err)
	}
	return deploy.Hint(fmt.Errorf("%w: the address of the database is not one of PostgreSQL", deploy.ErrBadInput), "for example postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full")
}

// encrypted takes away every way of connecting that sends passwords and rows in plain text beyond this machine. An address that
// does not say allows both.
func encrypted(c *pgconn.Config) error {
	ways := append([]*pgconn.FallbackConfig{{Host: c.Host, Port: c.Port, TLSConfig: c.TLSConfig}}, c.Fallbacks...)
	ways = slices.DeleteFunc(ways, func(w *pgconn.FallbackConfig) bool { return w.TLSConfig == nil && !onThisMachine(w.Host) })
	if len(ways) == 0 {
		return deploy.Hint(fmt.Errorf("%w: the address of the database asks for a connection without TLS", deploy.ErrBadInput), "say sslmode=verify-full, or sslmode=require where its certificate is not known")
	}
	c.Host, c.Port, c.TLSConfig, c.Fallbacks = ways[0].Host, ways[0].Port, ways[0].TLSConfig, ways[1:]
	return nil
}

func onThisMachine(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || err == nil && ip.IsLoopback()
}

// unreachable says why without repeating where.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if told, ok := errors.AsType[*pgconn.PgError](err); ok {
		return refused(told)
	}
	cause := "it does not answer"
	switch {
	case is[*net.DNSError](err):
		cause = "its host is not known"
	case is[x509.UnknownAuthorityError](err):
		cause = "its certificate is of an authority that is not known here; sslrootcert names a file with it"
	case is[x509.HostnameError](err), is[x509.CertificateInvalidError](err):
		cause = "its certificate is not valid for this address, or not any more"
	case errors.Is(err, syscall.ECONNREFUSED):
		cause = "nothing listens there"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		cause = "there is no answer in time"
	case strings.Contains(err.Error(), "refused TLS"):
		cause = "it has no TLS"
	}
	return fmt.Errorf("%w: the database cannot be reached: %s", deploy.ErrUnavailable, cause)
}

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

func refused(told *pgconn.PgError) error {
	var cause string
	switch told.Code {
	case "28P01", "28000":
		cause = "it refuses the user, the password, or a connection from here"
	case "3D000":
		cause = "it has no database of that name"
	case "53300":
		return fmt.Errorf("%w: the database has no connection left (%s)", deploy.ErrUnavailable, told.Code)
	default:
		return fmt.Errorf("%w: the database takes no connection now (%s)", deploy.ErrUnavailable, told.Code)
	}
	return fmt.Errorf("%w: the database cannot be entered: %s (%s)", deploy.ErrBadInput, cause, told.Code)
}

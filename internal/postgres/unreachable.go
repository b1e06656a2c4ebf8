package postgres

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
)

// unreachable says why there is no connection, without repeating where.
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
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, os.ErrNotExist):
		cause = "nothing listens there"
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		cause = "there is no answer in time"
	case strings.Contains(err.Error(), "refused TLS"):
		cause = "it has no TLS"
	}
	return fmt.Errorf("%w: %s", ErrUnreachable, cause)
}

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// refused puts the server's answer into words of ours: its own name users, hosts and databases.
func refused(told *pgconn.PgError) error {
	switch told.Code {
	case "28P01", "28000":
		return fmt.Errorf("%w: it refuses the user, the password, or a connection from here (%s)", ErrEntry, told.Code)
	case "3D000":
		return fmt.Errorf("%w: it has no database of that name (%s)", ErrEntry, told.Code)
	case "53300":
		return fmt.Errorf("%w: it has no connection left (%s)", ErrUnreachable, told.Code)
	}
	return fmt.Errorf("%w: it takes no connection now (%s)", ErrUnreachable, told.Code)
}

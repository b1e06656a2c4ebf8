package mask

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// settings make text of values the same on both sides, as pg_dump does it, and see to it that nothing is hidden or ends by the clock.
const settings = `set client_encoding = 'UTF8'; set datestyle = 'ISO'; set intervalstyle = 'postgres'; set timezone = 'UTC'; set bytea_output = 'hex';
	set extra_float_digits = 3; set row_security = off; set statement_timeout = 0; set lock_timeout = 0; set idle_in_transaction_session_timeout = 0`

// connect opens a connection on which values are written alike.
func connect(ctx context.Context, url secret.Text) (*pgx.Conn, error) {
	address, err := addressOf(url)
	if err != nil {
		return nil, err
	}
	conn, err := address.Connect(ctx)
	if err != nil {
		return nil, told(ctx, "enter the database", translate(err))
	}
	if err := conn.PgConn().Exec(ctx, settings).Close(); err != nil {
		return nil, errors.Join(told(ctx, "prepare the connection", err), conn.Close(context.WithoutCancel(ctx)))
	}
	return conn, nil
}

func addressOf(url secret.Text) (*postgres.Address, error) {
	address, err := postgres.ParseAddress(url, "lotse copy")
	return address, translate(err)
}

// translate turns the sentinels of the room below into those of deploy.
func translate(err error) error {
	switch {
	case errors.Is(err, postgres.ErrAddress), errors.Is(err, postgres.ErrEntry):
		return fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	case errors.Is(err, postgres.ErrUnreachable):
		return fmt.Errorf("%w: %w", deploy.ErrUnavailable, err)
	case errors.Is(err, postgres.ErrNotInstalled):
		return fmt.Errorf("%w: %w", deploy.ErrUnsupported, err)
	}
	return err
}

// told is an error without what repeats values: PostgreSQL's DETAIL and CONTEXT, and the messages about values themselves (class 22, P0).
func told(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	if deploy.CodeOf(err) != "internal" {
		return err
	}
	server, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || strings.HasPrefix(server.Code, "57P") || strings.HasPrefix(server.Code, "08") {
		return fmt.Errorf("%w: %s: the database does not answer, or the connection broke", deploy.ErrUnavailable, what)
	}
	of := ""
	if column := copiedColumn.FindStringSubmatch(server.Where); column != nil {
		of = " in the column " + column[1]
	}
	switch {
	case server.Code == "53100":
		return fmt.Errorf("%w: %s: the disk of the database is full", deploy.ErrNoSpace, what)
	case strings.HasPrefix(server.Code, "22"), strings.HasPrefix(server.Code, "P0"):
		return fmt.Errorf("%w: %s: a value does not fit%s (%s; PostgreSQL's message repeats it and is left out)", deploy.ErrRefused, what, of, server.Code)
	case server.Code == "42501":
		return fmt.Errorf("%w: %s: %s (%s)", deploy.ErrBadInput, what, server.Message, server.Code)
	}
	return fmt.Errorf("%w: %s: %s%s (%s)", deploy.ErrRefused, what, server.Message, of, server.Code)
}

var copiedColumn = regexp.MustCompile(`^COPY [^,]+, line \d+, column ([A-Za-z0-9_]+)`)

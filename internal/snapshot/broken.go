package snapshot

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

func addressOf(url secret.Text) (*postgres.Address, error) {
	a, err := postgres.ParseAddress(url, "lotse snapshot")
	return a, translate(err)
}

func connect(ctx context.Context, a *postgres.Address) (*pgx.Conn, error) {
	conn, err := a.Connect(ctx)
	return conn, translate(err)
}

func toolsFor(major int) (postgres.Binaries, error) {
	tools, err := postgres.ToolsFor(major)
	return tools, translate(err)
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

func is[T error](err error) bool {
	_, ok := errors.AsType[T](err)
	return ok
}

// broken says what went wrong with a question of ours. PostgreSQL's words are left out where they could repeat a value; ours hold none.
func broken(ctx context.Context, doing string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	told, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case !ok:
		return fmt.Errorf("%w: %s: the connection to the database is gone", deploy.ErrUnavailable, doing)
	case strings.HasPrefix(told.Code, "57P"), strings.HasPrefix(told.Code, "08"):
		return fmt.Errorf("%w: %s: the database ended the connection (%s)", deploy.ErrUnavailable, doing, told.Code)
	case told.Code == "53100":
		return fmt.Errorf("%w: %s: the disk of the database is full", deploy.ErrNoSpace, doing)
	}
	return fmt.Errorf("%s: %s (%s)", doing, told.Message, told.Code)
}

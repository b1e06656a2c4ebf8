package migrate

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// connect opens the one connection of a run.
func connect(ctx context.Context, url secret.Text) (*pgx.Conn, error) {
	address, err := postgres.ParseAddress(url, "lotse migrate")
	if err != nil {
		return nil, translate(err)
	}
	conn, err := address.Connect(ctx)
	return conn, translate(err)
}

// translate turns the sentinels of the room below into those of deploy.
func translate(err error) error {
	switch {
	case errors.Is(err, postgres.ErrAddress), errors.Is(err, postgres.ErrEntry):
		return fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
	case errors.Is(err, postgres.ErrUnreachable):
		return fmt.Errorf("%w: %w", deploy.ErrUnavailable, err)
	}
	return err
}

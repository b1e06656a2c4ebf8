package ledger

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Place implements deploy.Places: it returns the opaque id of a path, always the same one.
func (l *Ledger) Place(ctx context.Context, path string) (id string, err error) {
	if path == "" || !utf8.ValidString(path) {
		return "", fmt.Errorf("a path that is empty or not UTF-8: %w", deploy.ErrBadInput)
	}
	err = l.write(ctx, func(ctx context.Context, tx *sql.Tx) error {
		err := tx.QueryRowContext(ctx, "SELECT id FROM places WHERE path = ?", path).Scan(&id)
		if errors.Is(err, sql.ErrNoRows) {
			id = opaque("w-")
			_, err = tx.ExecContext(ctx, "INSERT INTO places (id, path) VALUES (?, ?)", id, path)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

// PathOf implements deploy.Places. deploy.ErrNotFound for an id that was never given.
func (l *Ledger) PathOf(ctx context.Context, id string) (path string, err error) {
	err = l.reader.QueryRowContext(ctx, "SELECT path FROM places WHERE id = ?", id).Scan(&path)
	if errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("the folder behind %q: %w", id, deploy.ErrNotFound)
	}
	return path, translate(l.path, err)
}

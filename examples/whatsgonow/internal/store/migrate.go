package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/jackc/pgx/v5"
)

// The advisory lock that instances queue at. Any number does, as long as it stays.
const migrationLock = 7_263_401

// Migrate applies the files that have not been applied yet, in the order of their names.
// All of it is one transaction under one lock: of two instances that start at once, one
// does the work and the other finds it done. Twice is fine.
func (s *Store) Migrate(ctx context.Context, files fs.FS) (applied []string, err error) {
	names, err := fs.Glob(files, "*.sql")
	if err != nil {
		return nil, err
	}
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `select pg_advisory_xact_lock($1)`, migrationLock); err != nil {
			return err
		}
		// A migration that has to wait for a table makes everybody else wait behind it.
		if _, err := tx.Exec(ctx, `set local lock_timeout = '5s'`); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `create table if not exists schema_migrations (
			name       text primary key,
			sha256     text not null,
			applied_at timestamptz not null default now()
		)`)
		if err != nil {
			return err
		}
		for _, name := range names {
			did, err := apply(ctx, tx, files, name)
			if err != nil {
				return fmt.Errorf("migration %s: %w", name, err)
			}
			if did {
				applied = append(applied, name)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	s.migrated.Store(true)
	return applied, nil
}

func apply(ctx context.Context, tx pgx.Tx, files fs.FS, name string) (bool, error) {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return false, err
	}
	sum := sha256.Sum256(text)
	digest := hex.EncodeToString(sum[:])

	var before string
	switch err := tx.QueryRow(ctx, `select sha256 from schema_migrations where name = $1`, name).Scan(&before); {
	case err == nil && before == digest:
		return false, nil
	case err == nil:
		return false, fmt.Errorf("it was changed after it had been applied; write a new one instead")
	case err != pgx.ErrNoRows:
		return false, err
	}
	if _, err := tx.Exec(ctx, string(text)); err != nil {
		return false, err
	}
	_, err = tx.Exec(ctx, `insert into schema_migrations (name, sha256) values ($1, $2)`, name, digest)
	return err == nil, err
}

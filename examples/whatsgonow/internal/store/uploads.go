package store

import (
	"context"
	"errors"
)

// ErrTooManyUploads: more photos wait for a transport than make sense.
var ErrTooManyUploads = errors.New("too many unused uploads")

// mostWaiting bounds what people who never signed in can put on the disk: with 5 MiB a
// photo, 5 GiB.
const mostWaiting = 1000

// UploadsFull reports ErrTooManyUploads before somebody sends a photo in vain.
func (s *Store) UploadsFull(ctx context.Context) error {
	var waiting int
	err := s.pool.QueryRow(ctx, `select count(*) from uploads where transport is null`).Scan(&waiting)
	if err == nil && waiting >= mostWaiting {
		return ErrTooManyUploads
	}
	return err
}

// AddUpload notes a photo whose bytes are on disk already.
func (s *Store) AddUpload(ctx context.Context, id string, bytes int64) error {
	return s.change(ctx, func(tx *tx) error {
		_, err := tx.Exec(ctx, `insert into uploads (id, bytes, created_at) values ($1, $2, $3)`, id, bytes, tx.now)
		return err
	})
}

// HasUpload reports whether the photo is one that the app still knows of.
func (s *Store) HasUpload(ctx context.Context, id string) (known bool, err error) {
	err = s.pool.QueryRow(ctx, `select exists (select from uploads where id = $1)`, id).Scan(&known)
	return known, err
}

package web

import (
	"errors"
	"io/fs"
	"net/http"

	"whatsgonow/internal/photo"
	"whatsgonow/internal/store"
)

// upload takes the bytes of a photo as the body, from guests too: a transport can be
// drafted before there is an account. What it is, is judged by the bytes, not by what
// the request claims.
func (s *Server) upload(w http.ResponseWriter, r *http.Request) error {
	if err := s.Store.UploadsFull(r.Context()); err != nil {
		return err
	}
	id, size, err := s.Photos.Put(http.MaxBytesReader(w, r.Body, mostPhoto))
	if err != nil {
		return err
	}
	if err := s.Store.AddUpload(r.Context(), id, size); err != nil {
		return errors.Join(err, s.Photos.Remove(id))
	}
	return write(w, http.StatusCreated, map[string]string{"id": id})
}

// photo serves a photo to whoever knows its id, as long as the app knows of it. An id
// is never given to another photo, so the answer may be kept.
func (s *Server) photo(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("id")
	if !photo.Valid(id) {
		return store.ErrNotFound
	}
	known, err := s.Store.HasUpload(r.Context(), id)
	if err != nil {
		return err
	}
	if !known {
		return store.ErrNotFound
	}
	f, err := s.Photos.Get(id)
	if errors.Is(err, fs.ErrNotExist) {
		return store.ErrNotFound
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "image/jpeg")
	w.Header().Set("Cache-Control", "private, max-age=86400, immutable")
	http.ServeContent(w, r, "", info.ModTime(), f)
	return nil
}

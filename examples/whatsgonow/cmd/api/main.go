// Command api is Whatsgonow's back end.
//
//	api                  serves /api
//	api seed             fills an empty database with people and transports to look at
//	api expire           ends what ran out of time; meant to run every few minutes
//	api appoint ADDRESS  makes the person with this address a manager
//
// It is set up by its environment alone; see .env.example.
package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"whatsgonow/internal/password"
	"whatsgonow/internal/photo"
	"whatsgonow/internal/store"
	"whatsgonow/internal/web"
)

// How long requests in flight may take after SIGTERM. Lotse waits 30 s before it kills.
const lastRequests = 25 * time.Second

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stdout, nil))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, log, os.Args[1:]); err != nil {
		log.Error("ended", "cause", err.Error())
		os.Exit(1)
	}
}

func run(ctx context.Context, log *slog.Logger, args []string) error {
	url := os.Getenv("DATABASE_URL")
	if url == "" {
		return errors.New("DATABASE_URL is missing")
	}
	st, err := store.Open(url, time.Now)
	if err != nil {
		return err
	}
	defer st.Close()
	if len(args) == 0 {
		return serve(ctx, log, st)
	}
	switch {
	case args[0] == "seed" && len(args) == 1:
		return seed(ctx, log, st)
	case args[0] == "expire" && len(args) == 1:
		return expire(ctx, log, st)
	case args[0] == "appoint" && len(args) == 2:
		return st.Appoint(ctx, args[1])
	}
	return errors.New("usage: api [seed | expire | appoint ADDRESS]")
}

// serve answers from the first moment, also while the database is away or without its
// tables; the health check says so then.
func serve(ctx context.Context, log *slog.Logger, st *store.Store) error {
	shelf, err := photo.Open(uploadsDir())
	if err != nil {
		return err
	}
	api := &web.Server{
		Store: st, Photos: shelf, Passwords: password.NewKeeper(2), Log: log, Now: time.Now,
		Release: os.Getenv("LOTSE_RELEASE"), Stage: os.Getenv("LOTSE_STAGE"),
		Heartbeat: 15 * time.Second,
	}
	server := &http.Server{
		Handler:           api.Handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       60 * time.Second,
		WriteTimeout:      60 * time.Second, // event streams set their own
		IdleTimeout:       2 * time.Minute,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(or(os.Getenv("HOST"), "127.0.0.1"), or(os.Getenv("PORT"), "8080")))
	if err != nil {
		return err
	}
	log.Info("listening", "address", listener.Addr().String(), "release", api.Release)

	asked := ctx // to stop, by a signal
	ctx, give := context.WithCancelCause(ctx)
	defer give(nil)
	go api.Streams(ctx)
	go func() { give(server.Serve(listener)) }()

	<-ctx.Done()
	log.Info("stopping: no new requests, those in flight may finish")
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRequests)
	defer cancel()
	err = server.Shutdown(last)
	if asked.Err() == nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return err
}

func expire(ctx context.Context, log *slog.Logger, st *store.Store) error {
	shelf, err := photo.Open(uploadsDir())
	if err != nil {
		return err
	}
	done, err := st.Expire(ctx)
	if err != nil {
		return err
	}
	if err := shelf.Remove(done.Photos...); err != nil {
		return err
	}
	swept, err := shelf.Sweep(time.Now().Add(-store.UploadLife), func(id string) (bool, error) { return st.HasUpload(ctx, id) })
	log.Info("expired", "transports", done.Transports, "uploads", done.Uploads, "sessions", done.Sessions,
		"events", done.Events, "swept_files", swept)
	return err
}

func uploadsDir() string { return or(os.Getenv("UPLOADS_DIR"), "data/uploads") }

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

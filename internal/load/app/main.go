// Command app is the App of package load as a program, with ways to misbehave. It is what the tests of the engines deploy.
//
//	app [mode]
//
// It listens on HOST and PORT, and ends well on SIGTERM.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/load"
)

func main() {
	mode := "good"
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	fmt.Fprintf(os.Stdout, "app starts in mode %s\n", mode)
	if err := run(mode); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(mode string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	app := load.NewApp(load.About{
		Release: os.Getenv("LOTSE_RELEASE"), Stage: os.Getenv("LOTSE_STAGE"), Service: os.Getenv("LOTSE_SERVICE"),
		Instance: os.Getenv("LOTSE_INSTANCE"), PID: os.Getpid(), UID: os.Getuid(),
	})
	app.Setting = os.Getenv
	port := os.Getenv("PORT")
	switch mode {
	case "crash":
		fmt.Fprintln(os.Stderr, "cannot find the module that it needs")
		os.Exit(3) //nolint:forbidigo // as a program that crashes
	case "hang": // listens and never answers
		l, err := net.Listen("tcp", net.JoinHostPort(os.Getenv("HOST"), port))
		if err != nil {
			return err
		}
		defer l.Close()
		<-ctx.Done()
		return nil
	case "idle", "worker": // listens to nothing
		<-ctx.Done()
		return nil
	case "wrongport":
		port = "0"
	case "unhealthy":
		app.Health = func() (int, string) { return http.StatusInternalServerError, "the database is away" }
	case "slow":
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	case "rude": // does not finish what it is at when SIGTERM comes
		signal.Reset(syscall.SIGTERM)
		ctx = context.Background()
	case "stubborn": // does not hear SIGTERM
		signal.Ignore(syscall.SIGTERM)
		ctx = context.Background()
	case "tell", "tellcrash": // prints every setting that a test calls a secret
		tell()
		if mode == "tellcrash" {
			os.Exit(3) //nolint:forbidigo // as a program that crashes
		}
	case "leaky", "leakycrash", "leakyend", "leakyhealth":
		known := leaky()
		switch mode {
		case "leakycrash":
			panic(strings.Join(known, " "))
		case "leakyend": // a job or a smoke test that fails
			os.Exit(4) //nolint:forbidigo // as a program that crashes
		case "leakyhealth":
			app.Health = func() (int, string) { return http.StatusInternalServerError, "cannot log in with " + known[0] }
		}
		return serve(ctx, app, debugging(known, app), net.JoinHostPort(os.Getenv("HOST"), port))
	case "chatty":
		for i := range 200_000 {
			fmt.Fprintf(os.Stdout, "line %d %s\n", i, strings.Repeat("x", 80))
		}
	case "refusing": // finds its port taken the first time
		if err := os.Mkdir(os.Getenv("HOME")+"/refused", 0o700); err == nil {
			return fmt.Errorf("listen: %w", syscall.EADDRINUSE)
		}
	}
	return serve(ctx, app, worse(mode, app), net.JoinHostPort(os.Getenv("HOST"), port))
}

func tell() {
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "SECRET") {
			fmt.Fprintln(os.Stdout, "connecting with", v)
			fmt.Fprintln(os.Stderr, "error: could not log in as", v)
		}
	}
}

func serve(ctx context.Context, app *load.App, handler http.Handler, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stdout, "app listens")
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	app.Shutdown(ctx)
	if err := server.Shutdown(ctx); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

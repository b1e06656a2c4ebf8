// Lotse carries a web app from a commit to production. This package names every backend, wires, and does nothing else.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	_ "time/tzdata" // lotse.yaml names time zones, also on machines that have none

	"github.com/lotse-eu/lotse/internal/cli"
	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/ledger"
	"github.com/lotse-eu/lotse/internal/pipeline"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/proxy"
	"github.com/lotse-eu/lotse/internal/vault"
)

func main() {
	if err := process.NoDumps(); err != nil {
		fmt.Fprintln(os.Stderr, "lotse: core files cannot be kept from holding secrets:", err) // nothing that anybody asked for fails by it
	}
	if len(os.Args) == 3 && os.Args[1] == "keep" { // before anything else: a keeper is to stay small
		os.Exit(exit(process.Keep(context.Background(), os.Args[2], os.Stdin)))
	}
	if len(os.Args) > 1 && os.Args[1] == "front" { // its exit codes are those of the commands that it runs
		os.Exit(frontMain(os.Args[2:], os.Environ(), os.Stdout, os.Stderr))
	}
	os.Exit(cli.New(parts()).Run(context.Background(), os.Args[1:], cli.OS()))
}

func exit(err error) int {
	if err != nil {
		fmt.Fprintln(os.Stderr, "lotse keep:", err)
		return 1
	}
	return 0
}

func parts() cli.Parts {
	return cli.Parts{
		Version: version(),
		Serve: func(ctx context.Context, o cli.ServeOptions) error {
			if o.Detach {
				return serveDetached(ctx, o)
			}
			return serve(ctx, place(o.State), ports{o.HTTPS, o.HTTP}, o.Shared, o.Log, o.Ready)
		},
		Down: func(ctx context.Context, state string) error {
			return down(ctx, place(state), slog.New(slog.DiscardHandler))
		},
		Upgrade:         upgrade,
		Install:         install,
		Uninstall:       uninstall,
		Unit:            printUnit,
		Browse:          browse,
		DropDatabase:    dropDatabase,
		Recover:         recoverData,
		JudgeMigrations: judgeMigrations,
		Proxy:           proxyCommand,
		Keep:            process.Keep,
		Check:           func(name string, data []byte) error { _, err := config.Read(name, data); return err },
		Keys:            keys,
		Remarks:         remarks,
		Outline:         outline,
		ReadEnv:         vault.ReadEnv,
		Who:             who,

		Survey:       surveyOf,
		Schema:       config.Schema,
		VerifyLedger: verifyLedger,
		InstallHook:  installHook,
		RemoveHook:   pipeline.RemoveHook,
		Trust:        func(state string) (string, error) { return trust(state, (*proxy.Authority).Trust) },
		Untrust:      func(state string) (string, error) { return trust(state, (*proxy.Authority).Untrust) },
		Doctor:       doctor,
		Infra:        infrastructure(),
		Demo:         runDemo,
		DemoDown:     endDemo,
	}
}

// proxyCommand is `lotse proxy --state DIR`, which the controller starts under a keeper.
func proxyCommand(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("proxy", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	state := flags.String("state", "", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	return runProxy(ctx, place(*state), slog.New(slog.NewJSONHandler(os.Stderr, nil)))
}

func verifyLedger(ctx context.Context, state string) error {
	book, err := ledger.OpenReadOnly(ctx, place(state).ledger(), ledger.Config{})
	if err != nil {
		return err
	}
	defer book.Close()
	return book.Verify(ctx)
}

func trust(state string, change func(*proxy.Authority) ([]string, error)) (string, error) {
	authority, err := proxy.OpenAuthority(place(state).authority(), nil)
	if err != nil {
		return "", err
	}
	done, err := change(authority)
	return strings.Join(done, " "), err
}

// version is what the binary was built from.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "development"
	}
	return info.Main.Version
}

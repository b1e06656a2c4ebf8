package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/aws"
	"github.com/lotse-eu/lotse/internal/front"
	"github.com/lotse-eu/lotse/internal/migrate"
	"github.com/lotse-eu/lotse/internal/secret"
	"github.com/lotse-eu/lotse/internal/snapshot"
)

// Exit codes of `lotse front` beside those of a task's command, which are handed on.
const (
	frontFailed = 1
	frontUsage  = 2
	frontLate   = 124 // as of timeout(1)
	frontSignal = 128 // and the signal's number, as shells have it
)

const frontUsageText = "lotse front [status | samples | migrate | drain --for 30s | task --name N [--timeout T] [--quiet] -- COMMAND | look [--at HOST:PORT] [--rows none|count|read] | at --at HOST:PORT -- COMMAND]"

// frontMain is `lotse front`: on an instance of a platform the front process itself, and the verbs by which it is asked.
func frontMain(args []string, env []string, out, errs io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	code, err := frontVerb(ctx, args, env, out, errs)
	if err != nil {
		fmt.Fprintln(errs, "lotse front:", err)
		if hint := deploy.HintOf(err); hint != "" {
			fmt.Fprintln(errs, "→", hint)
		}
	}
	return code
}

func frontVerb(ctx context.Context, args, env []string, out, errs io.Writer) (code int, err error) {
	dir, err := releaseFolder()
	if err != nil {
		return frontFailed, err
	}
	log := slog.New(slog.NewJSONHandler(errs, nil))
	if len(args) == 0 {
		cloudWatch := &aws.LogWriter{Config: awsConfig}
		tell := func(ctx context.Context, to front.Log, at time.Time, lines []string) error {
			return cloudWatch.Write(ctx, to.Region, to.Group, to.Stream, at, lines)
		}
		err := front.Run(ctx, front.Config{Dir: dir, Env: env, Out: out, Log: log, Tell: tell})
		return codeOf(err), err
	}
	verb, args := args[0], args[1:]
	flags := flag.NewFlagSet(verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	most := flags.Duration("for", 30*time.Second, "")
	name := flags.String("name", "", "")
	timeout := flags.Duration("timeout", 0, "")
	quiet := flags.Bool("quiet", false, "")
	at := flags.String("at", "", "")
	rows := flags.String("rows", string(snapshot.LookCount), "")
	if err := flags.Parse(args); err != nil {
		return frontUsage, deploy.Hint(err, frontUsageText)
	}
	switch verb {
	case "migrate":
		err := frontMigrate(ctx, dir, env, log, out)
		return codeOf(err), err
	case "look":
		return frontLook(ctx, env, *at, *rows, out)
	case "at":
		return frontAt(env, *at, flags.Args())
	}
	asked := map[string]func(*front.Client) (any, error){
		"status":  func(c *front.Client) (any, error) { return c.Status(ctx) },
		"samples": func(c *front.Client) (any, error) { return c.Samples(ctx) },
		"drain":   func(c *front.Client) (any, error) { return c.Drain(ctx, *most) },
	}
	ask := asked[verb]
	if ask == nil && verb != "task" {
		return frontUsage, deploy.Hint(fmt.Errorf("%w: there is no verb %q", deploy.ErrBadInput, verb), frontUsageText)
	}
	client, err := front.Find(ctx, dir, env)
	if err != nil {
		return frontFailed, err
	}
	if verb == "task" {
		return frontTask(ctx, client, front.Task{Name: *name, Command: flags.Args(), Timeout: *timeout, Quiet: *quiet}, out)
	}
	said, err := ask(client)
	if err == nil {
		err = json.NewEncoder(out).Encode(said)
	}
	return codeOf(err), err
}

func codeOf(err error) int {
	if err != nil {
		return frontFailed
	}
	return 0
}

func frontTask(ctx context.Context, client *front.Client, task front.Task, out io.Writer) (int, error) {
	if task.Name == "" || len(task.Command) == 0 {
		return frontUsage, deploy.Hint(fmt.Errorf("%w: a task has a name and a command", deploy.ErrBadInput), frontUsageText)
	}
	exit, err := client.Task(ctx, task, func(line string) { fmt.Fprintln(out, line) })
	switch {
	case errors.Is(err, front.ErrLate):
		return frontLate, fmt.Errorf("%s: %w", task.Name, err)
	case err != nil:
		return frontFailed, fmt.Errorf("%s: %w", task.Name, err)
	case exit.Signal != "":
		return frontSignal + int(unix.SignalNum(exit.Signal)), nil
	}
	return exit.Code, nil
}

// frontMigrate runs the release's migrations. It is a process of its own, before there is a front.
func frontMigrate(ctx context.Context, dir string, env []string, log *slog.Logger, out io.Writer) error {
	spec, err := front.Read(dir)
	if err != nil {
		return err
	}
	if spec.Migrations == "" {
		return json.NewEncoder(out).Encode(deploy.Migrated{Applied: []string{}})
	}
	address := ""
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, deploy.DatabaseURL+"="); ok {
			address = value
		}
	}
	if address == "" {
		return deploy.Hint(fmt.Errorf("%w: %s: the release has migrations in %s and no database", deploy.ErrMissing, deploy.DatabaseURL, spec.Migrations),
			"the platform gives it to what it runs before a release; look whether it may read the secret")
	}
	done, err := migrate.New(migrate.Config{Log: log}).Migrate(ctx, secret.New(address), os.DirFS(dir), spec.Migrations, spec.Wait...)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(done)
}

// releaseFolder is the folder of the release: the working directory, or that in which this program lies as .lotse/bin/lotse, since who
// asks from outside stands anywhere.
func releaseFolder() (string, error) {
	here, err := os.Getwd()
	if err != nil {
		return "", err
	}
	if _, err := os.Lstat(filepath.Join(here, front.SpecFile)); err == nil {
		return here, nil
	}
	for _, program := range []func() (string, error){func() (string, error) { return filepath.Abs(os.Args[0]) }, self} { // a link, then where it leads
		at, err := program()
		if err != nil {
			continue
		}
		around := filepath.Dir(filepath.Dir(filepath.Dir(at)))
		if _, err := os.Lstat(filepath.Join(around, front.SpecFile)); err == nil {
			return around, nil
		}
	}
	return here, nil
}

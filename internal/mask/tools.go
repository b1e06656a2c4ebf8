package mask

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/secret"
)

// tools are pg_dump and pg_restore of one installation.
type tools struct{ dir string }

// findTools wants those of the source's version: what a newer pg_dump writes may be new to the target.
func findTools(ctx context.Context, conn *pgx.Conn) (tools, error) {
	var version int
	if err := conn.QueryRow(ctx, "select current_setting('server_version_num')::int / 10000").Scan(&version); err != nil {
		return tools{}, told(ctx, "ask for the version", err)
	}
	found, err := postgres.ToolsFor(version)
	return tools{found.Dir}, translate(err)
}

// dump is the schema as the snapshot shows it, without any row.
func (t tools) dump(ctx context.Context, from secret.Text, snapshot string) ([]byte, error) {
	return t.run(ctx, "read the tables of the source", from, nil, "pg_dump", postgres.ServiceArgument, "--format=custom", "--compress=0", "--schema-only", "--snapshot="+snapshot, "--lock-wait-timeout=60000",
		"--no-owner", "--no-privileges", "--no-publications", "--no-subscriptions", "--no-security-labels", "--no-tablespaces", "--exclude-schema="+markSchema)
}

// restore makes a section of the schema: pre-data or post-data.
func (t tools) restore(ctx context.Context, to secret.Text, schema []byte, section string) error {
	what := "make the tables of the copy"
	if section == "post-data" {
		what = "make the indexes and keys of the copy"
	}
	_, err := t.run(ctx, what, to, schema, "pg_restore", "--exit-on-error", "--section="+section, "--no-owner", "--no-privileges", postgres.ServiceArgument)
	return err
}

func (t tools) run(ctx context.Context, what string, at secret.Text, in []byte, name string, args ...string) ([]byte, error) {
	address, err := addressOf(at)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, filepath.Join(t.dir, name), args...)
	told, err := address.Tell(cmd)
	if err != nil {
		return nil, err
	}
	defer told()
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	if err != nil {
		return nil, failed(what, name, said.String(), err)
	}
	return out.Bytes(), nil
}

// failed has the first line of PostgreSQL's error, and not the statement and the values behind it.
func failed(what, name, said string, err error) error {
	for line := range strings.Lines(said) {
		line = strings.TrimSpace(line)
		_, message, found := strings.Cut(line, "ERROR:")
		switch {
		case strings.Contains(line, "server closed the connection"), strings.Contains(line, "connection to server"), strings.Contains(line, "terminating connection"), strings.Contains(line, "SSL SYSCALL"):
			return fmt.Errorf("%w: %s: the database does not answer, or the connection broke", deploy.ErrUnavailable, what)
		case strings.Contains(line, "No space left"):
			return fmt.Errorf("%w: %s: the disk of the database is full", deploy.ErrNoSpace, what)
		case strings.Contains(message, "could not create unique index"):
			return deploy.Hint(fmt.Errorf("%w: %s: %s: two values have become one", deploy.ErrRefused, what, strings.TrimSpace(message)),
				"name a kind with more room for one of its columns, such as people: { TABLE.COLUMN: username }")
		case found:
			return fmt.Errorf("%w: %s: %s", deploy.ErrRefused, what, strings.TrimSpace(message))
		}
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w: %s: %s ended with exit code %d", deploy.ErrUnavailable, what, name, exit.ExitCode())
	}
	return fmt.Errorf("%s: %w", what, err)
}

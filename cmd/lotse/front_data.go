package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
	"github.com/lotse-eu/lotse/internal/snapshot"
)

// Exit codes of what is asked of a database (sysexits.h), so that whoever asks over a platform's run command can decide by them.
const (
	frontDamaged  = 65
	frontTryAgain = 75
)

// mostLooked is how long what a look prints may be: Run Command hands out 24,000 characters (API reference, GetCommandInvocation).
const mostLooked = 23000

// frontLook prints how the database of the release looks, or the one at another host that has the same roles: JSON, by gzip, in Base64,
// so that many tables fit and no name in it can be taken for a value that is masked. It runs as a task of the front, which has the address.
func frontLook(ctx context.Context, env []string, at, depth string, out io.Writer) (int, error) {
	address, err := databaseAt(env, at)
	if err != nil {
		return frontFailed, err
	}
	look, err := snapshot.Look(ctx, address, snapshot.Depth(depth))
	switch {
	case errors.Is(err, deploy.ErrDamaged):
		return frontDamaged, err
	case err != nil && deploy.Retryable(err):
		return frontTryAgain, err
	case err != nil:
		return frontFailed, err
	}
	text, err := packed(look)
	if err != nil {
		return frontFailed, err
	}
	for line := range slices.Chunk([]byte(text), 1000) {
		fmt.Fprintf(out, "%s\n", line)
	}
	return 0, nil
}

// packed leaves out the last tables where there is no room for all.
func packed(look deploy.Look) (string, error) {
	for {
		raw, err := json.Marshal(look)
		if err != nil {
			return "", err
		}
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		if _, err := z.Write(raw); err != nil {
			return "", err
		}
		if err := z.Close(); err != nil {
			return "", err
		}
		if text := base64.StdEncoding.EncodeToString(b.Bytes()); len(text) <= mostLooked || len(look.Tables) == 0 {
			return text, nil
		}
		left := len(look.Tables) / 8
		look.More += left + 1
		look.Tables = look.Tables[:len(look.Tables)-left-1]
	}
}

// frontAt becomes a command for which the database is at another host. It returns where that could not be.
func frontAt(env []string, at string, command []string) (int, error) {
	if at == "" || len(command) != 1 {
		return frontUsage, deploy.Hint(fmt.Errorf("%w: at has a host and a command", deploy.ErrBadInput), frontUsageText)
	}
	address, err := databaseAt(env, at)
	if err != nil {
		return frontFailed, err
	}
	env = slices.DeleteFunc(slices.Clone(env), func(kv string) bool { return strings.HasPrefix(kv, deploy.DatabaseURL+"=") })
	env = append(env, deploy.DatabaseURL+"="+address.Reveal())
	return frontFailed, unix.Exec("/bin/sh", []string{"sh", "-c", command[0]}, env)
}

// databaseAt is the address of the release's database, at another host and port where one is named.
func databaseAt(env []string, at string) (secret.Text, error) {
	var none secret.Text
	text := ""
	for _, kv := range env {
		if value, ok := strings.CutPrefix(kv, deploy.DatabaseURL+"="); ok {
			text = value
		}
	}
	if text == "" {
		return none, fmt.Errorf("%w: %s: the release has no database", deploy.ErrMissing, deploy.DatabaseURL)
	}
	if at == "" {
		return secret.New(text), nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" { // err may repeat a part of it
		return none, fmt.Errorf("%w: %s is no URL", deploy.ErrBadInput, deploy.DatabaseURL)
	}
	u.Host = at
	return secret.New(u.String()), nil
}

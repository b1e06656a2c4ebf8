//go:build crashpoints

package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/local"
	"github.com/lotse-eu/lotse/internal/secret"
)

// moments count when this controller writes or calls an engine. It gets SIGKILL at one of them, before the call or after it, and writes
// the name of each into a file. Nobody is given a binary with this tag.
//
//	LOTSE_DIE_AT    "N before" or "N after", counted from 1; empty: never
//	LOTSE_MOMENTS   the file; empty: none
type moments struct {
	mu     sync.Mutex
	at     int
	after  bool
	passed int
	seen   map[string]int
	told   string
}

// seldom bounds how often what is repeated all the time is counted.
var seldom = map[string]int{"check": 4, "list": 6, "renew": 1, "samples": 3}

func dying(c deploy.Config) deploy.Config {
	at, when, _ := strings.Cut(os.Getenv("LOTSE_DIE_AT"), " ")
	m := &moments{after: when == "after", seen: map[string]int{}, told: os.Getenv("LOTSE_MOMENTS")}
	m.at, _ = strconv.Atoi(at)
	c.Ledger, c.Builder, c.Migrate = mortalLedger{c.Ledger, m}, mortalBuilder{c.Builder, m}, mortalMigrator{c.Migrate, m}
	open := c.Engine
	c.Engine = func(app string, stage deploy.Stage) (deploy.Engine, error) {
		e, err := open(app, stage)
		if here, ok := e.(*local.Engine); ok && err == nil {
			return mortalEngine{here, m}, nil
		}
		return e, err
	}
	return c
}

// call does something, unless this is where it ends.
func (m *moments) call(name string, do func() error) error {
	mine := m.moment(name)
	if mine && !m.after {
		die()
	}
	err := do()
	if mine {
		die()
	}
	return err
}

// moment counts one and reports whether it is the last.
func (m *moments) moment(name string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if most, bounded := seldom[name]; bounded && m.seen[name] >= most {
		return false
	}
	m.seen[name]++
	m.passed++
	if f, err := os.OpenFile(m.told, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err == nil {
		fmt.Fprintln(f, name)
		f.Close()
	}
	return m.passed == m.at
}

// die is kill -9: nothing is written, nothing is closed.
func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {}
}

type mortalLedger struct {
	deploy.Ledger
	m *moments
}

func (l mortalLedger) Append(ctx context.Context, e deploy.Event) (written deploy.Event, err error) {
	err = l.m.call("append "+e.Kind, func() error { written, err = l.Ledger.Append(ctx, e); return err })
	return written, err
}

func (l mortalLedger) Acquire(ctx context.Context, s deploy.StageRef, owner string, ttl time.Duration, gone func(string) bool) (got deploy.Lease, err error) {
	err = l.m.call("acquire", func() error { got, err = l.Ledger.Acquire(ctx, s, owner, ttl, gone); return err })
	return got, err
}

func (l mortalLedger) Renew(ctx context.Context, got deploy.Lease, ttl time.Duration) error {
	return l.m.call("renew", func() error { return l.Ledger.Renew(ctx, got, ttl) })
}

func (l mortalLedger) Release(ctx context.Context, got deploy.Lease) error {
	return l.m.call("release", func() error { return l.Ledger.Release(ctx, got) })
}

type mortalBuilder struct {
	deploy.Builder
	m *moments
}

func (b mortalBuilder) Build(ctx context.Context, id string, app deploy.App, c deploy.Commit, report func(deploy.StepEvidence), output func(step, line string)) (r deploy.Release, err error) {
	err = b.m.call("build", func() error { r, err = b.Builder.Build(ctx, id, app, c, report, output); return err })
	return r, err
}

func (b mortalBuilder) Prune(ctx context.Context, keep []deploy.Digest) error {
	return b.m.call("prune", func() error { return b.Builder.Prune(ctx, keep) })
}

type mortalMigrator struct {
	deploy.Migrator
	m *moments
}

func (g mortalMigrator) Run(ctx context.Context, url secret.Text, c deploy.MigrationCommand) (done deploy.Migrated, err error) {
	err = g.m.call("migrate", func() error { done, err = g.Migrator.Run(ctx, url, c); return err })
	return done, err
}

func (g mortalMigrator) Migrate(ctx context.Context, url secret.Text, files fs.FS, dir string, wait ...string) (done deploy.Migrated, err error) {
	err = g.m.call("migrate", func() error { done, err = g.Migrator.Migrate(ctx, url, files, dir, wait...); return err })
	return done, err
}

// mortalEngine is the engine of this machine with all that it can.
type mortalEngine struct {
	*local.Engine
	m *moments
}

func (e mortalEngine) Start(ctx context.Context, fence deploy.Fence, order deploy.Order) error {
	return e.m.call("start", func() error { return e.Engine.Start(ctx, fence, order) })
}

func (e mortalEngine) Check(ctx context.Context, rollout string) error {
	return e.m.call("check", func() error { return e.Engine.Check(ctx, rollout) })
}

func (e mortalEngine) Shift(ctx context.Context, fence deploy.Fence, rollout string, share int) error {
	return e.m.call("shift", func() error { return e.Engine.Shift(ctx, fence, rollout, share) })
}

func (e mortalEngine) Stop(ctx context.Context, fence deploy.Fence, rollout string, drain time.Duration) error {
	return e.m.call("stop", func() error { return e.Engine.Stop(ctx, fence, rollout, drain) })
}

func (e mortalEngine) List(ctx context.Context) (all []deploy.Running, err error) {
	err = e.m.call("list", func() error { all, err = e.Engine.List(ctx); return err })
	return all, err
}

func (e mortalEngine) Adopt(ctx context.Context, rollout string, order deploy.Order) error {
	return e.m.call("adopt", func() error { return e.Engine.Adopt(ctx, rollout, order) })
}

func (e mortalEngine) OpenDatabase(ctx context.Context, fence deploy.Fence, db deploy.Database) error {
	return e.m.call("database", func() error { return e.Engine.OpenDatabase(ctx, fence, db) })
}

func (e mortalEngine) Hold(ctx context.Context, fence deploy.Fence, b deploy.Bounds) error {
	return e.m.call("hold", func() error { return e.Engine.Hold(ctx, fence, b) })
}

func (e mortalEngine) EndHold(ctx context.Context, fence deploy.Fence) error {
	return e.m.call("end hold", func() error { return e.Engine.EndHold(ctx, fence) })
}

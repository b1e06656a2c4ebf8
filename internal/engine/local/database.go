package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/process"
	"github.com/lotse-eu/lotse/internal/secret"
)

const (
	clusterFolder = "postgres" // the cluster: data, key, socket
	keeperFolder  = "database" // its keeper: state and output

	// databaseClaim is what the cluster's port is claimed as. No rollout is called so. The claim is the one record of the port.
	databaseClaim = ".database"

	// databaseLock is held while the cluster is made, started, or removed.
	databaseLock = ".database"

	// databasesPerMachine divides the machine's memory: dev, staging and prod.
	databasesPerMachine = 3

	// databaseGrace is for the checkpoint at a shutdown: all that is in memory goes to the disk.
	databaseGrace = 60 * time.Second

	// endsMost is how often in a row PostgreSQL may end before its start is given up.
	endsMost = 3

	// adoptMost is how long instances wait for a database that recovers, when they are taken up again.
	adoptMost = 2 * time.Minute
)

// DatabaseURL implements deploy.Databases.
func (e *Engine) DatabaseURL(ctx context.Context, db deploy.Database) (deploy.Setting, error) {
	url, err := e.databaseURL(ctx, db)
	return deploy.Setting{Name: deploy.DatabaseURL, Value: url}, e.failed("database", err)
}

func (e *Engine) databaseURL(ctx context.Context, db deploy.Database) (secret.Text, error) {
	c, err := e.cluster(ctx, db)
	if err != nil {
		return secret.Text{}, err
	}
	return c.DSN(DatabaseName(e.App))
}

// OpenDatabase implements deploy.Databases.
func (e *Engine) OpenDatabase(ctx context.Context, fence deploy.Fence, db deploy.Database) error {
	err := e.admit(ctx, fence)
	if err == nil {
		_, err = e.openDatabase(ctx, db)
	}
	return e.failed("database", err)
}

// databaseOf makes sure that the stage's database runs, where it has one that is ours to run.
func (e *Engine) databaseOf(ctx context.Context, s deploy.Stage) error {
	if !s.Database.Own() {
		return nil
	}
	if _, err := os.Stat(e.at(clusterFolder, "data", "PG_VERSION")); errors.Is(err, fs.ErrNotExist) {
		return deploy.Hint(fmt.Errorf("%w: the data of %s is gone", deploy.ErrNotFound, e.key()), "`lotse redeploy "+e.Stage+"` makes a new database and runs all migrations")
	}
	ctx, cancel := context.WithTimeoutCause(ctx, adoptMost, fmt.Errorf("%w: the database is not ready yet", deploy.ErrUnavailable))
	defer cancel()
	_, err := e.openDatabase(ctx, s.Database)
	return err
}

// cluster is the stage's, with a password and a port that are its own from now on. What cannot be run is given neither.
func (e *Engine) cluster(ctx context.Context, db deploy.Database) (postgres.Cluster, error) {
	if !db.Own() {
		return postgres.Cluster{}, fmt.Errorf("%w: the stage has no database of its own", deploy.ErrBadInput)
	}
	c := postgres.Cluster{Dir: e.at(clusterFolder), Major: db.Postgres, Memory: postgres.MachineMemory() / databasesPerMachine, Clock: e.Clock}
	if err := c.Reserve(ctx); err != nil {
		return c, err
	}
	port, err := e.databasePort(ctx)
	c.Port = port
	return c, err
}

// databasePort returns the port that the stage's database has, or gives it one.
func (e *Engine) databasePort(ctx context.Context) (int, error) {
	unlock, err := e.lock(ctx, ".port")
	if err != nil {
		return 0, err
	}
	defer unlock()
	if port, err := e.databaseClaimed(); err != nil || port != 0 {
		return port, err
	}
	return e.claimPort(databaseClaim)
}

// databaseClaimed returns the port that the stage's database has, 0 for none.
func (e *Engine) databaseClaimed() (int, error) {
	taken, err := os.ReadDir(filepath.Join(e.Registry, "ports"))
	if err != nil {
		return 0, err
	}
	for _, t := range taken {
		owner, err := os.ReadFile(filepath.Join(e.Registry, "ports", t.Name()))
		if err == nil && string(owner) == e.key()+" "+databaseClaim {
			return strconv.Atoi(t.Name())
		}
	}
	return 0, nil
}

// DatabaseName is the database and the role of an app in the clusters that this package runs: the app's name as one that PostgreSQL takes without quotes; see the names that postgres refuses.
func DatabaseName(app string) string {
	name := strings.ReplaceAll(app, "-", "_")
	if name[0] >= '0' && name[0] <= '9' || strings.HasPrefix(name, "pg_") || strings.HasPrefix(name, "template") || name == postgres.Superuser {
		name = "app_" + name
	}
	return name[:min(len(name), 63)]
}

// openDatabase makes what is not there, starts what does not run, and returns when it takes connections. From the call on, Run
// starts it again whenever it is gone, whatever became of the call. It reports whether it had to give it a keeper.
func (e *Engine) openDatabase(ctx context.Context, db deploy.Database) (gave bool, err error) {
	e.mu.Lock()
	e.database = db
	e.mu.Unlock()
	unlock, err := e.lock(ctx, databaseLock)
	if err != nil {
		return false, err
	}
	defer unlock()
	c, err := e.cluster(ctx, db)
	if err != nil {
		return false, err
	}
	if err := c.Init(ctx); err != nil {
		return false, err
	}
	if gave, err = e.keepDatabase(ctx, c); err != nil {
		return gave, err
	}
	if err := e.awaitDatabase(ctx, c); err != nil {
		return gave, err
	}
	_, err = c.CreateDatabase(ctx, DatabaseName(e.App))
	return gave, err
}

// keepDatabase gives the cluster a keeper where it has none, which starts it where it does not run.
func (e *Engine) keepDatabase(ctx context.Context, c postgres.Cluster) (gave bool, err error) {
	dir := e.at(keeperFolder)
	status, err := process.Inspect(dir)
	if err != nil && !errors.Is(err, process.ErrUnknown) {
		return false, err
	}
	if status.Keeper && status.Process {
		return false, nil
	}
	if status.Keeper { // it pauses before it tries again, and would find what it found before
		if err := e.Keepers.Stop(ctx, dir, 0); err != nil {
			return false, err
		}
	}
	if !status.Process { // then what of it runs is nobody's: backends without their server, or a server that no keeper knows
		if err := c.Stop(ctx); err != nil {
			return false, err
		}
	}
	run, err := c.Command()
	if err != nil {
		return false, err
	}
	spec := process.Spec{Name: strings.Join([]string{e.App, e.Stage, "postgres"}, "-"), Command: run.Argv, Dir: run.Dir, Env: run.Env, Restart: true, Grace: databaseGrace}
	if run.User != nil {
		spec.User = &process.User{UID: run.User.UID, GID: run.User.GID}
	}
	return true, e.Keepers.Start(ctx, dir, spec)
}

// awaitDatabase waits as long as the server works at its start, which after a crash may be long, and gives up when it ends again
// and again.
func (e *Engine) awaitDatabase(ctx context.Context, c postgres.Cluster) error {
	first, err := process.Inspect(e.at(keeperFolder))
	if err != nil {
		return err
	}
	for {
		ready := c.Ready(ctx)
		if ready == nil || !errors.Is(ready, postgres.ErrNotReady) && !errors.Is(ready, postgres.ErrNotRunning) {
			return ready
		}
		now, err := process.Inspect(e.at(keeperFolder))
		if err != nil {
			return err
		}
		if now.Ended || now.Restarts-first.Restarts >= endsMost {
			return e.databaseEnds()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), ready)
		case <-time.After(30 * time.Millisecond):
		}
	}
}

// databaseEnds says why the server does not stay. Its output holds no value of anybody's; see the package postgres.
func (e *Engine) databaseEnds() error {
	var text strings.Builder
	lines, _ := process.Lines(e.at(keeperFolder), 12) // without them, there is less to say
	for _, l := range lines {
		text.WriteString("\n  " + l.Text)
	}
	cause := deploy.ErrCannotStart
	if postgres.DiskFull(text.String()) {
		cause = syscall.ENOSPC
	}
	return fmt.Errorf("%w: PostgreSQL ends whenever it is started; its last output:%s", cause, text.String())
}

// tendDatabase starts the stage's database again when its keeper is gone, and renews its certificate, until ctx ends.
func (e *Engine) tendDatabase(ctx context.Context) {
	const pauseMost, renewEvery = time.Minute, time.Hour
	var again, renew time.Time
	var pause time.Duration
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		db, now := e.databaseWanted(), time.Now()
		switch {
		case !db.Own():
		case kept(e.at(keeperFolder)):
			if pause = 0; now.After(renew) {
				renew = now.Add(renewEvery)
				e.renew(ctx, db)
			}
		case now.After(again):
			gave, err := e.openDatabase(ctx, db)
			if gave || err != nil { // else somebody was opening it just then
				e.told(ctx, err, "it had lost its keeper and was given another")
			}
			pause = min(max(2*pause, time.Second), pauseMost)
			again = time.Now().Add(pause)
		}
	}
}

func (e *Engine) databaseWanted() deploy.Database {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.database
}

func (e *Engine) renew(ctx context.Context, db deploy.Database) {
	c, err := e.cluster(ctx, db)
	renewed := false
	if err == nil {
		renewed, err = c.Renew(ctx)
	}
	if renewed || err != nil {
		e.told(ctx, err, "it has a new certificate")
	}
}

func (e *Engine) told(ctx context.Context, err error, done string) {
	switch {
	case ctx.Err() != nil:
	case err != nil:
		e.Log.Error("the database needs somebody", "app", e.App, "stage", e.Stage, "err", e.failed("database", err), "hint", deploy.HintOf(err))
	default:
		e.Log.Warn("the database was mended", "app", e.App, "stage", e.Stage, "done", done)
	}
}

// StopDatabase ends the PostgreSQL of the stage whose folder is dir, with its connections closed and all data on disk, and returns
// when nothing of it runs. The data stays, and OpenDatabase starts it again. A stage without a database, or whose database does not
// run, is fine. Nobody may open it meanwhile.
func StopDatabase(ctx context.Context, k *process.Keepers, dir string) error {
	c := postgres.Cluster{Dir: filepath.Join(dir, clusterFolder)}
	if _, err := os.Stat(c.Dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// A keeper says SIGTERM, by which the server waits for clients to leave. The server is told beside it, as often as it takes,
	// that it should not wait.
	kept := make(chan error, 1)
	go func() { kept <- k.Stop(ctx, filepath.Join(dir, keeperFolder), databaseGrace) }()
	for {
		select {
		case err := <-kept:
			return errors.Join(err, c.Stop(ctx))
		case <-time.After(50 * time.Millisecond):
			if err := c.Stop(ctx); err != nil {
				return errors.Join(err, <-kept)
			}
		}
	}
}

// DropDatabase ends the stage's database and deletes it with all its data, its password, and the claim on its port. It is for a person
// who has named the stage; no other verb deletes data. Twice is fine. A release that is up loses what it works with, so none should be.
func (e *Engine) DropDatabase(ctx context.Context) error {
	return e.failed("delete the database", e.dropDatabase(ctx))
}

func (e *Engine) dropDatabase(ctx context.Context) error {
	e.mu.Lock()
	e.database = deploy.Database{} // Run is not to start it again
	e.mu.Unlock()
	unlock, err := e.lock(ctx, databaseLock)
	if err != nil {
		return err
	}
	defer unlock()
	if err := StopDatabase(ctx, e.Keepers, e.Dir); err != nil {
		return err
	}
	if err := (postgres.Cluster{Dir: e.at(clusterFolder)}).Remove(ctx); err != nil {
		return err
	}
	if err := os.RemoveAll(e.at(keeperFolder)); err != nil {
		return err
	}
	port, err := e.databaseClaimed()
	if err != nil || port == 0 {
		return err
	}
	return e.freePort(port)
}

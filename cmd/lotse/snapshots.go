package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/lotse-eu/lotse/internal/cli"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/local"
	"github.com/lotse-eu/lotse/internal/postgres"
	"github.com/lotse-eu/lotse/internal/snapshot"
)

// snapshotKey is the file with the key that opens the snapshots which this machine takes. A copy of it belongs on another machine: without it
// nobody can read them.
func (p place) snapshotKey() string { return p.at("snapshots.key") }

// recipient is who snapshots are encrypted for: the key of this machine, which is made where there is none.
func (p place) recipient() (string, error) {
	text, err := os.ReadFile(p.snapshotKey())
	if errors.Is(err, fs.ErrNotExist) {
		return p.newSnapshotKey()
	}
	if err != nil {
		return "", err
	}
	all, err := age.ParseIdentities(strings.NewReader(string(text)))
	if err == nil {
		if key, ok := all[0].(*age.X25519Identity); ok {
			return key.Recipient().String(), nil
		}
	}
	return "", deploy.Hint(fmt.Errorf("%w: %s holds no key", deploy.ErrDamaged, p.snapshotKey()), "put the copy of it back; without it, move the file away, and older snapshots are lost")
}

// newSnapshotKey is written aside, synced, and linked: of two who make one, one wins.
func (p place) newSnapshotKey() (string, error) {
	key, err := age.GenerateX25519Identity()
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(string(p), ".snapshots.key-")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	_, err = fmt.Fprintf(f, "# opens the snapshots of Lotse; keep a copy where a loss of this machine does not reach it\n# public key: %s\n%s\n", key.Recipient(), key)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", err
	}
	if err := os.Link(f.Name(), p.snapshotKey()); errors.Is(err, fs.ErrExist) {
		return p.recipient()
	} else if err != nil {
		return "", err
	}
	return key.Recipient().String(), nil
}

// snapshots opens what keeps the snapshots of stages.
func (p place) snapshots(ctx context.Context, log *slog.Logger) func(app string, stage deploy.Stage) (deploy.Snapshots, error) {
	return func(_ string, stage deploy.Stage) (deploy.Snapshots, error) {
		if stage.Engine == "aws" && stage.Database.Own() {
			return nil, fmt.Errorf("%w: the database of %s is reached inside of AWS alone; RDS keeps its own snapshots", deploy.ErrUnsupported, stage.Name)
		}
		to, err := p.recipient()
		if err != nil {
			return nil, err
		}
		from := stage.Database.Snapshots.To
		if from == "" {
			from = p.at("snapshots")
		}
		return openStore(ctx, p, from, stage.AWS.Region, p.snapshotKey(), []string{to}, log)
	}
}

// openStore opens snapshots in a folder or a bucket, with a key. The region is where AWS is asked first; empty: eu-central-1.
func openStore(ctx context.Context, p place, from, region, key string, recipients []string, log *slog.Logger) (*snapshot.Store, error) {
	c := snapshot.Config{Root: from, Recipients: recipients, Scratch: p.at("scratch"), Log: log, Keys: snapshot.KeyFile(key)}
	if bucket, is := strings.CutPrefix(from, "s3://"); is {
		account, err := awsConfig(ctx, cmp.Or(region, "eu-central-1"))
		if err != nil {
			return nil, err
		}
		name, prefix, _ := strings.Cut(bucket, "/")
		c.Root, c.Bucket = "", snapshot.Bucket{S3: s3.NewFromConfig(account), Name: name, Prefix: strings.Trim(prefix, "/")}.Located(ctx)
	}
	return snapshot.Open(c)
}

// recoverData brings the data of a stage back from a folder of snapshots on a machine that has nothing of it.
func recoverData(ctx context.Context, o cli.RecoverOptions) (back cli.Recovered, err error) {
	ref := deploy.StageRef{App: o.App, Stage: o.Stage}
	if err := ref.Problem(); err != nil {
		return back, err
	}
	begun, p, log := time.Now(), place(o.State), slog.New(slog.DiscardHandler)
	if err := p.make(); err != nil {
		return back, err
	}
	unlock, err := p.lock()
	if errors.Is(err, deploy.ErrBusy) {
		return back, deploy.Hint(fmt.Errorf("%w: a controller runs here", deploy.ErrBusy), "`lotse db restore` brings data back while it runs; else `lotse down` first")
	}
	if err != nil {
		return back, err
	}
	defer unlock()
	if _, err := os.Stat(o.From); !strings.HasPrefix(o.From, "s3://") && err != nil {
		return back, fmt.Errorf("%w: the folder of snapshots: %w", deploy.ErrNotFound, err)
	}
	store, err := openStore(ctx, p, o.From, "", o.Key, nil, log)
	if err != nil {
		return back, err
	}
	from, err := chosen(ctx, store, ref, o)
	if err != nil {
		return back, err
	}
	o.Say("snapshot " + from.ID + " of " + from.At.UTC().Format(time.RFC3339))
	back, err = fill(ctx, p, store, ref, from, log)
	back.Took = time.Since(begun)
	return back, err
}

// chosen is the snapshot that is meant.
func chosen(ctx context.Context, store *snapshot.Store, ref deploy.StageRef, o cli.RecoverOptions) (deploy.Snapshot, error) {
	all, err := store.List(ctx, ref)
	if err != nil {
		return deploy.Snapshot{}, err
	}
	var ids []string
	for _, s := range slices.Backward(all) {
		if s.ID == o.ID || o.ID == "" && s.Damaged == "" {
			return s, nil
		}
		ids = append(ids, s.ID)
	}
	hint := "there are: " + strings.Join(ids, ", ")
	if stages, err := store.Stages(ctx); len(ids) == 0 && err == nil {
		hint = fmt.Sprintf("there are snapshots of: %v", stages)
	}
	return deploy.Snapshot{}, deploy.Hint(fmt.Errorf("%w: there is no snapshot %s of %s in %s", deploy.ErrNotFound, o.ID, ref, o.From), hint)
}

// fill makes the database and the folders where the engine of a stage on this machine has them, and restores into them.
func fill(ctx context.Context, p place, store *snapshot.Store, ref deploy.StageRef, from deploy.Snapshot, log *slog.Logger) (back cli.Recovered, err error) {
	keepers, err := openKeepers(log)
	if err != nil {
		return back, err
	}
	dir := p.at("local", ref.App, ref.Stage)
	cluster := postgres.Cluster{Dir: filepath.Join(dir, "postgres")}
	if _, err := os.Stat(cluster.Dir); err == nil {
		return back, deploy.Hint(fmt.Errorf("%w: %s has a database in %s already", deploy.ErrRefused, ref, p), "`lotse db restore` brings its data back; or use another --state")
	}
	engine, err := local.Open(local.Config{App: ref.App, Stage: ref.Stage, Dir: dir, Keepers: keepers, Log: log})
	if err != nil {
		return back, err
	}
	back = cli.Recovered{Stage: ref, Snapshot: from, Folder: cluster.Dir}
	if back.Volumes, err = engine.NewVolumes(from.Volumes); err != nil {
		return back, err
	}
	done, err := store.Recover(ctx, snapshot.Recovery{Stage: ref, ID: from.ID, Data: deploy.Data{Volumes: back.Volumes}, Cluster: cluster, Name: local.DatabaseName(ref.App)})
	if err != nil {
		return back, err
	}
	if done.Server != nil { // the controller starts it under a keeper
		err = done.Server.Stop(context.WithoutCancel(ctx))
	}
	return back, errors.Join(err, engine.OwnVolumes(from.Volumes))
}

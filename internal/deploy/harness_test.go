package deploy_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/engine/memory"
	"github.com/lotse-eu/lotse/internal/ledger"
	"github.com/lotse-eu/lotse/internal/secret"
	"github.com/lotse-eu/lotse/internal/vault"
	"github.com/lotse-eu/lotse/internal/watch"
)

// site is a machine in memory: a world that runs releases, a real ledger, commits, and one controller after another.
type site struct {
	t       *testing.T
	world   *memory.World
	ledger  *ledger.Ledger
	builder *builder
	secrets map[string]string
	vault   vaulted
	real    *vault.Vault // nil: secrets are what is set
	given   sync.Map     // []deploy.Setting that a rollout was started with, by its id
	keys    sync.Mutex   // of secrets, where somebody changes them while a controller looks
	data    databases
	snaps   *snaps         // nil: nobody keeps snapshots
	theirs  bool           // the platform takes them, and the controller has nothing of its own
	masks   *masks         // nil: nobody copies databases
	abroad  error          // what is said of where Supabase stands
	sources deploy.Sources // nil: no push starts anything
	browser deploy.Browser // nil: there is none
	free    int64          // bytes on the disk; 0: nobody asks
	// certificate is what clients are shown; nil: the engine does not know
	certificate func() (deploy.Certificate, error)
	points      *points // nil: nothing crashes
	life        int
	jump        atomic.Int64 // by so much the wall clock is wrong
	freed       atomic.Int64 // how often an engine gave an address back
	crashed     atomic.Int64 // how often the first instance of the api ended and was started again
	*deploy.Controller
	end func()
}

var app = deploy.App{
	Name:     "shop",
	Pipeline: []deploy.StepSpec{{Name: "site", Run: "make", Public: []string{"TOKEN"}}},
	Services: []deploy.Service{
		{Name: "site", Static: "dist", Path: "/"},
		{Name: "api", Command: "bin/api", Path: "/api", Instances: 2, Start: 60 * time.Second, Drain: 30 * time.Second},
	},
	Stages: []deploy.Stage{
		stageOf("dev", "https://dev.shop.localhost"), stageOf("staging", "https://staging.shop.localhost"), stageOf("prod", "https://shop.localhost"),
	},
}

func stageOf(name, url string) deploy.Stage {
	return deploy.Stage{Name: name, URL: url, Watch: time.Minute, Warm: 5 * time.Minute, Stable: 5 * time.Second,
		Limits: deploy.Limits{Errors: 5, Requests: 50}, Database: deploy.Database{Postgres: 15, Migrations: "db"}}
}

// inSite runs a test in a bubble where time passes at once when everybody waits.
func inSite(t *testing.T, f func(t *testing.T, s *site)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &site{t: t, world: memory.NewWorld(), builder: &builder{app: app}, secrets: map[string]string{"KEY": "first-value"}}
		book, err := ledger.Open(t.Context(), filepath.Join(inMemory(t), "ledger.db"), ledger.Config{Now: s.wallClock})
		if err != nil {
			t.Fatal(err)
		}
		s.ledger = book
		defer func() {
			s.end()
			s.world.Close()
			if err := book.Close(); err != nil {
				t.Error(err)
			}
		}()
		s.boot()
		f(t, s)
	})
}

// wallClock is the time that people see, which may jump.
func (s *site) wallClock() time.Time { return time.Now().Add(time.Duration(s.jump.Load())) }

// boot starts a controller, as after a crash of the one before.
func (s *site) boot() {
	s.life++
	ctx, cancel := context.WithCancel(context.Background())
	c := deploy.Config{Ledger: s.ledger, Places: s.ledger, Builder: s.builder, Migrate: &s.data, Sources: s.sources, Browser: s.browser, Read: s.builder.read, Settings: s.settings, Earlier: s.earlier,
		Whereabouts: func(context.Context, deploy.Stage, []deploy.Setting) ([]deploy.Evidence, error) {
			return []deploy.Evidence{{Probe: "region", Figure: "somewhere"}}, s.abroad
		},
		Engine: func(app string, stage deploy.Stage) (deploy.Engine, error) {
			e := restarting{memory.Open(s.world, app, stage.Name), s, stage.Name}
			if s.theirs {
				return platformed{e}, nil
			}
			if s.certificate != nil {
				return certified{e}, nil
			}
			return e, nil
		},
		Now:     s.wallClock,
		Judge:   watch.New,
		Address: func(s deploy.Stage) string { return s.URL }, Owner: fmt.Sprint("controller-", s.life), Log: slog.New(slog.DiscardHandler)}
	if s.free > 0 {
		c.Space = func() (free, total int64, err error) { return s.free, 1 << 40, nil }
	}
	if s.snaps != nil && !s.theirs {
		c.Snapshots = func(string, deploy.Stage) (deploy.Snapshots, error) { return s.snaps, nil }
	}
	if s.masks != nil {
		c.Masks = s.masks
	}
	if s.points != nil {
		s.points.wrap(&c)
	}
	s.Controller = deploy.New(c)
	done := make(chan error, 1)
	controller := s.Controller
	go func() { done <- controller.Run(ctx) }()
	ended := sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil && s.points == nil {
			s.t.Errorf("controller: %v", err)
		}
	})
	s.end = ended
	if s.points == nil {
		<-controller.Ready()
	}
}

func (s *site) settings(ctx context.Context, dir, app string, stage deploy.Stage) (deploy.Settings, error) {
	if s.real != nil {
		return s.real.Of(ctx, dir, app, stage)
	}
	s.keys.Lock()
	defer s.keys.Unlock()
	of := settingsOf(stage, s.secrets)
	of.Versions = s.versions()
	return of, nil
}

func settingsOf(stage deploy.Stage, values map[string]string) deploy.Settings {
	of := deploy.Settings{Values: []deploy.Setting{{Name: "TOKEN", Value: secret.New(stage.Name)}}}
	sum := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		of.Values = append(of.Values, deploy.Setting{Name: name, Value: secret.New(values[name])})
		sum.Write([]byte(name + values[name]))
		if strings.HasPrefix(name, "SECRET") {
			of.Secrets = append(of.Secrets, name)
		}
	}
	of.Version, of.Digests = hex.EncodeToString(sum.Sum(nil)), deploy.ValueNames{}
	for _, v := range of.Values {
		of.Digests[v.Name] = string(digestOf(v.Value.Reveal()))
	}
	return of
}

// vaulted are the values that variables of the site have had, as a vault keeps them: a version is a place in the list.
type vaulted struct {
	had     map[string][]string
	revoked map[string]bool // NAME@version
	asked   int             // how often Earlier was asked
}

// versions notes what has changed, and names what is there.
func (s *site) versions() deploy.ValueVersions {
	now := deploy.ValueVersions{}
	for name, value := range s.secrets {
		if s.vault.had == nil {
			s.vault.had, s.vault.revoked = map[string][]string{}, map[string]bool{}
		}
		all := s.vault.had[name]
		if len(all) == 0 || all[len(all)-1] != value {
			all = append(all, value)
		}
		s.vault.had[name], now[name] = all, strconv.Itoa(len(all))
	}
	return now
}

func (s *site) earlier(ctx context.Context, dir, app string, stage deploy.Stage, had deploy.ValueVersions) (deploy.Settings, error) {
	if s.real != nil {
		return s.real.Earlier(ctx, dir, app, stage, had)
	}
	s.keys.Lock()
	defer s.keys.Unlock()
	s.vault.asked++
	gone := &deploy.VersionsError{Stage: deploy.StageRef{App: "shop", Stage: stage.Name}}
	values := map[string]string{}
	for name, version := range had {
		n, _ := strconv.Atoi(version)
		all := s.vault.had[strings.TrimSuffix(name, "_PREVIOUS")]
		switch {
		case s.vault.revoked[name+"@"+version]:
			gone.Gone = append(gone.Gone, deploy.GoneVersion{Name: name, Why: deploy.VersionRevoked})
		case n < 1 || n > len(all):
			gone.Gone = append(gone.Gone, deploy.GoneVersion{Name: name, Why: deploy.VersionNotKept})
		default:
			values[name] = all[n-1]
		}
	}
	if len(gone.Gone) > 0 {
		return deploy.Settings{}, gone
	}
	of := settingsOf(stage, values)
	of.Versions = maps.Clone(had)
	return of, nil
}

// databases are what the stages have, by name, and what was run on them.
type databases struct {
	mu      sync.Mutex
	open    map[string]int
	applied map[string][]string
	err     error               // of the next migration
	inside  bool                // the engine runs them
	without error               // why none can be judged
	tool    []deploy.JudgedFile // what a command would do
	ran     []string            // commands, with the databases that they ran on
	exit    error               // of the next command
}

// Judge says what the names of the files say: 2_contract.sql.
func (d *databases) Judge(ctx context.Context, q deploy.MigrationQuestion) (j deploy.Judgement, err error) {
	if q.Command != nil && d.without == nil {
		err := q.Command.Run(ctx, []deploy.Setting{{Name: deploy.DatabaseURL, Value: secret.New("memory://clone")}})
		return deploy.Judgement{Files: slices.Clone(d.tool)}, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.without != nil {
		return j, d.without
	}
	found, err := fs.ReadDir(q.Files, q.Dir)
	for _, f := range found {
		if slices.Contains(d.applied[q.URL.Reveal()], f.Name()) {
			continue
		}
		of := deploy.JudgedFile{Name: f.Name()}
		for _, class := range []deploy.MigrationClass{deploy.Contract, deploy.Dangerous} {
			if strings.Contains(f.Name(), string(class)) {
				of.Verdicts = []deploy.Verdict{{Class: class, Rule: "some-rule", Line: 1, Reason: "it does", Safer: "another way", Key: deploy.AllowanceKey(f.Name())}}
			}
		}
		if strings.Contains(f.Name(), "needs") {
			of.Needs = []string{"2_contract.sql"}
		}
		j.Files = append(j.Files, of)
	}
	return j, err
}

// Run runs the command each time.
func (d *databases) Run(ctx context.Context, _ secret.Text, c deploy.MigrationCommand) (deploy.Migrated, error) {
	if err := c.Run(ctx, nil); err != nil {
		return deploy.Migrated{}, fmt.Errorf("%w: %w", deploy.ErrMigration, err)
	}
	return deploy.Migrated{Changed: []string{"table x is new"}}, nil
}

func (d *databases) Migrate(_ context.Context, url secret.Text, files fs.FS, dir string, wait ...string) (deploy.Migrated, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return deploy.Migrated{}, d.err
	}
	before := d.applied[url.Reveal()]
	found, err := fs.ReadDir(files, dir)
	if err != nil {
		return deploy.Migrated{}, err
	}
	done := deploy.Migrated{Before: len(before)}
	for _, f := range found {
		switch {
		case slices.Contains(before, f.Name()):
		case slices.Contains(wait, f.Name()):
			done.Waiting = append(done.Waiting, f.Name())
		default:
			done.Applied = append(done.Applied, f.Name())
		}
	}
	if d.applied == nil {
		d.applied = map[string][]string{}
	}
	d.applied[url.Reveal()] = append(before, done.Applied...)
	return done, nil
}

// restarting shows how often an instance was started again, and has databases.
type restarting struct {
	*memory.Engine
	site  *site
	stage string
}

func (e restarting) DatabaseURL(context.Context, deploy.Database) (deploy.Setting, error) {
	return deploy.Setting{Name: deploy.DatabaseURL, Value: e.DataURL()}, nil
}

// TaskInstead is the app's own check.
func (e restarting) TaskInstead(_ context.Context, _, _, command string, _ []deploy.VolumeMount, settings []deploy.Setting) error {
	return e.site.snaps.check(command, settings)
}

// TaskAhead runs nothing, and notes where.
func (e restarting) TaskAhead(_ context.Context, _ deploy.Order, _, command string, instead []deploy.Setting, yield func(string)) error {
	e.site.data.mu.Lock()
	defer e.site.data.mu.Unlock()
	for _, s := range instead {
		if s.Name == deploy.DatabaseURL {
			command += " on " + s.Value.Reveal()
		}
	}
	e.site.data.ran = append(e.site.data.ran, command)
	yield("it says so")
	return e.site.data.exit
}

// platformed takes snapshots itself.
type platformed struct{ restarting }

func (e platformed) Snapshots(db deploy.Database) (deploy.Snapshots, bool) {
	return e.site.snaps, db.Own()
}

// Start notes what the release is given.
func (e restarting) Start(ctx context.Context, fence deploy.Fence, order deploy.Order) error {
	e.site.given.Store(order.Rollout, order.Settings)
	return e.Engine.Start(ctx, fence, order)
}

func (e restarting) End(context.Context, deploy.Fence) error { e.site.freed.Add(1); return nil }

func (e restarting) MigratesInStart(deploy.Database) bool { return e.site.data.inside }

func (e restarting) OpenDatabase(context.Context, deploy.Fence, deploy.Database) error {
	e.site.data.mu.Lock()
	defer e.site.data.mu.Unlock()
	if e.site.data.open == nil {
		e.site.data.open = map[string]int{}
	}
	e.site.data.open[e.stage]++
	return nil
}

func (e restarting) List(ctx context.Context) ([]deploy.Running, error) {
	running, err := e.Engine.List(ctx)
	for _, r := range running {
		for _, service := range r.Services {
			if service.Name == "api" {
				service.Instances[0].Restarts = int(e.site.crashed.Load())
			}
		}
	}
	return running, err
}

// deploy deploys a commit to dev and returns how it ended.
func (s *site) deploy(commit string) deploy.Rollout {
	s.t.Helper()
	id, err := s.Deploy(s.t.Context(), deploy.Request{Dir: "/app", Rev: commit})
	if err != nil {
		s.t.Fatalf("deploy %s: %v", commit, err)
	}
	return s.ended(id)
}

// ended waits until a rollout has ended and everybody is at rest, so that a test may change its site.
func (s *site) ended(id string) deploy.Rollout {
	s.t.Helper()
	var last deploy.Rollout
	err := s.Follow(s.t.Context(), id, func(u deploy.Update) error {
		if u.Rollout != nil {
			last = *u.Rollout
		}
		return nil
	})
	if err != nil {
		s.t.Fatalf("following %s: %v", id, err)
	}
	synctest.Wait()
	return last
}

// running returns the rollouts on dev by their share.
func (s *site) running() map[string]int { return s.runningOn("dev") }

func (s *site) runningOn(stage string) map[string]int {
	s.t.Helper()
	running, err := memory.Open(s.world, "shop", stage).List(context.Background())
	if err != nil {
		s.t.Fatal(err)
	}
	shares := map[string]int{}
	for _, r := range running {
		shares[r.Rollout] = r.Share
	}
	return shares
}

// leaseIsFree fails the test when somebody holds the lease of dev.
func (s *site) leaseIsFree() { s.leaseOfIsFree("dev") }

func (s *site) leaseOfIsFree(stage string) {
	s.t.Helper()
	synctest.Wait() // the lease is given back after the last event
	ref := deploy.StageRef{App: "shop", Stage: stage}
	lease, err := s.ledger.Acquire(context.Background(), ref, "test", time.Second, func(string) bool { return false })
	if err != nil {
		s.t.Errorf("the lease was left behind: %v", err)
		return
	}
	if err := s.ledger.Release(context.Background(), lease); err != nil {
		s.t.Error(err)
	}
}

// builder makes a release of any commit that is not called broken.
type builder struct {
	app   deploy.App
	apps  map[string]deploy.App // of commits whose lotse.yaml is another
	wrong map[string]error      // of commits whose lotse.yaml has mistakes

	mu     sync.Mutex
	builds int
	made   map[deploy.Digest]deploy.Release
	pruned []deploy.Digest // what the last Prune kept
	hold   chan struct{}   // a build waits for it

	at      func(rev string) time.Time // when a commit was made; nil: nobody knows
	files   map[string][]string        // of commits, where it matters
	record  []deploy.StepEvidence      // of every release
	leaks   map[string][]deploy.Leak   // keys in commits
	asked   []leaksAsked
	tells   string          // in everything that it says; then it fails
	history []deploy.Commit // the oldest first; commits that are not in it are on top of each other, and of one each
}

// Leaks are those of the commit that a test has put there.
func (b *builder) Leaks(_ context.Context, c deploy.Commit, before string, known []deploy.Setting) (deploy.Leaks, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, leaksAsked{before, known})
	return deploy.Leaks{Files: 3, Read: 3, Found: b.leaks[c.ID]}, nil
}

type leaksAsked struct {
	before string
	known  []deploy.Setting
}

// Commits knows the history; a commit that is not in it is new by itself.
func (b *builder) Commits(_ context.Context, c deploy.Commit, before string) (deploy.Span, error) {
	at := func(id string) int {
		return slices.IndexFunc(b.history, func(h deploy.Commit) bool { return h.ID == id })
	}
	from, to := at(before), at(c.ID)
	switch {
	case before == "lost" || c.ID == "lost":
		return deploy.Span{Unknown: true, Why: "it is lost"}, nil
	case from < 0 || to < 0:
		c.Message = c.ID
		return deploy.Span{New: []deploy.Commit{c}}, nil
	case from > to:
		return deploy.Span{Gone: newestFirst(b.history[to+1 : from+1])}, nil
	}
	return deploy.Span{New: newestFirst(b.history[from+1 : to+1])}, nil
}

func newestFirst(all []deploy.Commit) []deploy.Commit {
	all = slices.Clone(all)
	slices.Reverse(all)
	return all
}

func (b *builder) Names(_ context.Context, c deploy.Commit, folder string) ([]string, error) {
	return b.files[c.ID], nil
}

// read knows lotse.yaml of a commit by the commit's name.
func (b *builder) read(_ string, file []byte) (deploy.App, error) {
	if other, ok := b.apps[string(file)]; ok {
		return other, b.wrong[string(file)]
	}
	return b.app, b.wrong[string(file)]
}

func (b *builder) Resolve(_ context.Context, dir, rev string) (deploy.Commit, error) {
	if rev == "" {
		rev = "head"
	}
	c := deploy.Commit{Tree: dir, Dir: ".", ID: rev, Name: "Ada", Mail: "ada@example.org"}
	if b.at != nil {
		c.At = b.at(rev)
	}
	return c, nil
}

func (b *builder) File(_ context.Context, c deploy.Commit, name string) ([]byte, error) {
	if strings.HasSuffix(name, ".sql") {
		return nil, nil // as Files has it
	}
	return []byte(c.ID), nil
}

// Files has the lotse.yaml of the release's commit, and its migrations.
func (b *builder) Files(_ context.Context, r deploy.Release) (fs.FS, error) {
	files := fstest.MapFS{deploy.LotseFile: {Data: []byte(r.Manifest.Commit)}}
	own, ok := b.files[r.Manifest.Commit]
	if !ok {
		own = []string{"db/1.sql", "db/2.sql"}
	}
	for _, name := range own {
		files[name] = &fstest.MapFile{}
	}
	return files, nil
}

// Fit makes another release for every stage but the first.
func (b *builder) Fit(_ context.Context, _ string, _ deploy.App, _ deploy.Commit, r deploy.Release, public []deploy.Setting, _ func(deploy.StepEvidence), _ func(step, line string)) (deploy.Release, error) {
	if len(public) != 1 || public[0].Name != "TOKEN" {
		return r, fmt.Errorf("fit was given %d values", len(public))
	}
	if public[0].Value.Reveal() == "dev" {
		return r, nil
	}
	r.ID = fittedTo(r.ID, public[0].Value.Reveal())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.made[r.ID] = r
	return r, nil
}

func fittedTo(release deploy.Digest, stage string) deploy.Digest {
	return digestOf(string(release) + stage)
}

func (b *builder) Build(ctx context.Context, _ string, app deploy.App, c deploy.Commit, report func(deploy.StepEvidence), output func(step, line string)) (deploy.Release, error) {
	report(deploy.StepEvidence{Name: "compile", State: deploy.StepRunning})
	output("compile", "compiling "+c.ID)
	b.mu.Lock()
	b.builds++
	hold := b.hold
	b.mu.Unlock()
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return deploy.Release{}, ctx.Err()
		}
	}
	if b.tells != "" {
		report(deploy.StepEvidence{Name: "compile", State: deploy.StepFailed, Cause: b.tells, Tail: []string{b.tells}})
		for line := range strings.Lines(b.tells) {
			output("compile", line)
		}
		return deploy.Release{}, deploy.Hint(errors.New(b.tells), b.tells)
	}
	if c.ID == "broken" {
		report(deploy.StepEvidence{Name: "compile", State: deploy.StepFailed, Cause: "a type error"})
		return deploy.Release{}, errors.New("step compile failed")
	}
	report(deploy.StepEvidence{Name: "compile", State: deploy.StepDone})
	release := deploy.Release{ID: digestOf(c.ID), Record: deploy.Record{Steps: b.record}, Manifest: deploy.Manifest{App: app.Name, Commit: c.ID, Services: app.Services, Jobs: app.Jobs}}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.made == nil {
		b.made = map[deploy.Digest]deploy.Release{}
	}
	b.made[release.ID] = release
	return release, nil
}

func (b *builder) Release(_ context.Context, id deploy.Digest) (deploy.Release, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r, ok := b.made[id]
	if !ok {
		return r, deploy.ErrNotFound
	}
	return r, nil
}

func (b *builder) Verify(ctx context.Context, id deploy.Digest) error {
	_, err := b.Release(ctx, id)
	return err
}

func (b *builder) Prune(_ context.Context, keep []deploy.Digest) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pruned = slices.Clone(keep)
	return nil
}

func digestOf(commit string) deploy.Digest {
	sum := sha256.Sum256([]byte(commit))
	return deploy.Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// steps names the steps that a rollout took, in order.
func steps(r deploy.Rollout) []string {
	var names []string
	for _, s := range r.Steps {
		names = append(names, s.Name)
	}
	return names
}

// pass lets time pass, in the bubble where that takes none.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // every caller is inside synctest, where this is how time passes
}

// inMemory is a folder that waits for no disk, where the machine has such: hundreds of sites sync each of their events, and what is
// shown here is not shown of a disk (package ledger is).
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "lotse-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

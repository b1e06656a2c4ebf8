// Package cli is how Lotse is shown to people at a terminal, and to scripts: commands over api.Client, and nothing else of ours but the
// nouns of deploy. What other rooms do comes in as functions (Parts). The voice is written down in voice.go, the exit codes in exit.go;
// the transcripts in testdata are the spec.
package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// Parts is what the command line needs from rooms that it does not know. cmd/lotse fills it in. A nil function takes its
// command away.
type Parts struct {
	Version string

	// Client reaches the controller of a state folder; nil: over <state>/lotse.sock.
	Client func(state string) *api.Client

	// Serve runs a controller until ctx ends, which is no error.
	Serve func(ctx context.Context, o ServeOptions) error

	// Down ends every process that was started below a state folder. Nothing running is fine.
	Down func(ctx context.Context, state string) error

	// Upgrade puts the proxy of this program in the place of the one that runs below a state folder, and returns its process id. After an
	// error the one before goes on.
	Upgrade func(ctx context.Context, state string) (pid int, err error)

	// DropDatabase deletes the database that Lotse runs for a stage, with all its data. No controller may run meanwhile.
	DropDatabase func(ctx context.Context, state, app, stage string) error

	// Recover brings the data of a stage back from a folder of snapshots, on a machine that has nothing of it. No controller may run meanwhile.
	Recover func(ctx context.Context, o RecoverOptions) (Recovered, error)

	// JudgeMigrations judges files of a folder of migrations in the work tree, or its last one; with all, each against those before it. dir
	// is where lotse.yaml lies, which says the folder where that is empty.
	JudgeMigrations func(ctx context.Context, dir, folder string, files []string, all bool) (deploy.Judgement, error)

	// Install puts the controller under systemd, Uninstall takes that away again, and Unit is what Install would write.
	Install   func(ctx context.Context, o InstallOptions) (Installed, error)
	Uninstall func(ctx context.Context, o InstallOptions) (Installed, error)
	Unit      func(o InstallOptions) (string, error)

	// Browse opens an address in this person's browser. deploy.ErrUnsupported where there is none to be seen.
	Browse func(ctx context.Context, address string) error

	// Proxy and Keep are the bodies of two hidden commands that Lotse starts itself. Proxy is given its arguments as they are,
	// flags and all; Keep the folder of the instance.
	Proxy func(ctx context.Context, args []string) error
	Keep  func(ctx context.Context, dir string, stdin io.Reader) error

	// Check reads a configuration and returns every mistake in it. name is the file's, for the messages.
	Check func(name string, data []byte) error

	// Keys looks for keys in the folder of a configuration that has no mistakes. Its error names them; remarks are what is to be said otherwise.
	Keys func(ctx context.Context, dir string, data []byte) (remarks []string, err error)

	// Remarks are about what is no mistake in a configuration that has none, and may yet surprise: each a sentence. dir is the file's folder.
	Remarks func(dir string, data []byte) []string

	// Outline is the name of the app and of its stages, as lotse.yaml in a folder has them. deploy.ErrNotFound where there is no file.
	Outline func(dir string) (Outline, error)

	// ReadEnv reads variables in the form of a .env file. Errors name lines of name and no value.
	ReadEnv func(name string, text []byte) ([]deploy.Setting, error)

	// Who asks, as git knows them in a folder. An empty person is fine.
	Who func(dir string) deploy.Person

	// Survey finds out what kind of app a folder holds, and which lotse.yaml fits it. deploy.ErrBadInput where it recognises none.
	Survey func(ctx context.Context, dir string) (Survey, error)

	// Schema returns the JSON schema of lotse.yaml.
	Schema func() []byte

	// VerifyLedger recomputes the chain of the ledger in a state folder. deploy.ErrDamaged where it does not hold.
	VerifyLedger func(ctx context.Context, state string) error

	// InstallHook has git call `lotse pushed` for the repository in a folder, and RemoveHook takes that away. They return the hooks.
	InstallHook func(ctx context.Context, dir, state string) ([]string, error)
	RemoveHook  func(ctx context.Context, dir string) ([]string, error)

	// Trust and Untrust make this machine trust the local certificate authority, or no longer. They return what they did, in
	// a sentence.
	Trust   func(state string) (string, error)
	Untrust func(state string) (string, error)

	// Doctor looks at what this machine can do.
	Doctor func(ctx context.Context, state string) []Finding

	// Infra is the infrastructure of stages in the cloud; nil takes its commands away.
	Infra *Infra

	// Demo sets an example up and deploys it; DemoDown takes it away again.
	Demo     func(ctx context.Context, o DemoOptions) error
	DemoDown func(ctx context.Context, o DemoOptions) error
}

// Outline is what a command needs to know of lotse.yaml.
type Outline struct {
	App     string
	Stages  []string // in the order of promotion
	Private []string // stages that ask for a password
	Owned   []string // stages whose database Lotse runs
	Public  []string // variables that a step bakes into what everybody may download

	Uses    map[string]map[string][]string // by stage and variable: what in lotse.yaml names it
	Overlap map[string]time.Duration       // secrets whose value before is given beside a new one for so long

	Homes map[string]deploy.Home // of stages whose secrets do not rest on the controller's machine
}

// ServeOptions says how a controller is to run.
type ServeOptions struct {
	State string // folder of everything that it keeps
	HTTPS int    // port of the proxy; 0: 443 where it may be had, else 8443
	HTTP  int    // port that sends people to HTTPS; 0: 80 where it may be had, else 8080
	Log   *slog.Logger
	Ready func(line string) // call it once when requests are taken: where, in a sentence

	Shared  string // name of the bucket in which history and releases are shared with controllers on other machines; empty: they are not
	Detach  bool   // return when requests are taken; the controller goes on under a keeper until Parts.Down
	Verbose bool
	Say     func(line string) // with Detach: what is waited for
}

// Finding is one thing that the doctor looked at.
type Finding struct {
	Name  string       `json:"name"`
	State FindingState `json:"state"`
	Says  string       `json:"says"`           // what is, and what follows from it
	Hint  string       `json:"hint,omitempty"` // what to do
}

// FindingState is how well something is.
type FindingState string

// The states of findings. Only FindingBad makes `lotse doctor` end with an error.
const (
	FindingGood FindingState = "good"
	FindingPoor FindingState = "poor" // Lotse works, but gives or proves less
	FindingBad  FindingState = "bad"  // Lotse cannot work
)

// DemoOptions is what a demo may use.
type DemoOptions struct {
	State      string
	StateGiven bool // State was chosen by flag or environment: a demo without it may choose its own
	Say        func(line string)
	// Verbs are the commands of the same names, for the controller of a state folder: with what they show and their errors.
	Verbs func(state string) Verbs
}

// Stdio is what the command line is connected with.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
	Env      func(string) string
}

// OS is the standard streams and the environment of this process.
func OS() Stdio { return Stdio{os.Stdin, os.Stdout, os.Stderr, os.Getenv} }

// CLI is the command line.
type CLI struct{ parts Parts }

// New makes the command line of these parts.
func New(p Parts) *CLI {
	if p.Client == nil {
		p.Client = func(state string) *api.Client { return api.NewClient(filepath.Join(state, "lotse.sock")) }
	}
	return &CLI{parts: p}
}

// Run runs one command and returns its exit code (exit.go has the table). The first SIGINT or SIGTERM ends ctx for the command,
// the second ends the process as if nobody listened.
func (c *CLI) Run(ctx context.Context, args []string, io Stdio) int {
	ctx, stop := untilSignal(ctx)
	defer stop()
	s := &session{Parts: c.parts, Stdio: io, now: time.Now}
	root := s.root()
	root.SetArgs(args)
	root.SetIn(io.In)
	root.SetOut(io.Out)
	root.SetErr(io.Err)
	ran, err := root.ExecuteContextC(ctx)
	switch {
	case err != nil && !s.began:
		err = usage(err, ran.CommandPath())
	case errors.Is(err, context.Canceled):
		err = &failure{Code: codeInterrupted, Message: "interrupted"}
	}
	if err != nil {
		err = s.withState(err)
		report(io.Err, err, s.json || !s.began && slices.Contains(args, "--json"))
	}
	return exitOf(err)
}

// untilSignal ends with the first signal, and has then stopped listening to the next one.
func untilSignal(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		select {
		case <-signals:
		case <-ctx.Done():
		}
		signal.Stop(signals)
		cancel()
	}()
	return ctx, cancel
}

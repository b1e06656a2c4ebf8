package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/cli"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/depot"
)

// installer puts the controller under systemd, and takes that away again. Every step looks first whether it is done.
type installer struct {
	root   string // what its paths are below: /, in tests a folder
	exe    string // the program that runs now
	binary string // where it is to be
	file   string // of the unit
	unit   unit

	systemctl  func(ctx context.Context, args ...string) error
	controller func() (pid int, err error) // of the state folder; 0: none
	ready      func(ctx context.Context) error
	down       func(ctx context.Context, state string) error
	make       func() error // the state folder
}

// newInstaller plans for this machine, or for this user alone.
func newInstaller(o cli.InstallOptions) (*installer, error) {
	exe, err := self()
	if err != nil {
		return nil, err
	}
	root := os.Geteuid() == 0
	i := &installer{root: "/", exe: exe, binary: "/usr/local/bin/lotse", file: filepath.Join("/etc/systemd/system", unitName)}
	base := []string{"systemctl"}
	if o.User {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
		}
		config, err := os.UserConfigDir()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", deploy.ErrBadInput, err)
		}
		i.binary, i.file = filepath.Join(home, ".local", "bin", "lotse"), filepath.Join(config, "systemd", "user", unitName)
		base = append(base, "--user")
	}
	p := place(o.State)
	i.unit = unit{user: o.User, binary: i.binary, state: o.State, path: safePath(os.Getenv("PATH"), root)}
	i.systemctl = func(ctx context.Context, args ...string) error { return run(ctx, append(base, args...)) }
	i.controller, i.make = p.controller, p.make
	i.ready = func(ctx context.Context) error { return answers(ctx, api.NewClient(p.socket())) }
	i.down = func(ctx context.Context, state string) error {
		return down(ctx, place(state), slog.New(slog.DiscardHandler))
	}
	return i, i.unit.problem()
}

func install(ctx context.Context, o cli.InstallOptions) (cli.Installed, error) {
	i, err := newInstaller(o)
	if err == nil {
		err = mayInstall(o)
	}
	if err != nil {
		return cli.Installed{}, err
	}
	return i.install(ctx)
}

func uninstall(ctx context.Context, o cli.InstallOptions) (cli.Installed, error) {
	i, err := newInstaller(o)
	if err == nil {
		err = mayInstall(o)
	}
	if err != nil {
		return cli.Installed{}, err
	}
	return i.uninstall(ctx)
}

// printUnit is the unit as install would write it, were the binary where it is to be.
func printUnit(o cli.InstallOptions) (string, error) {
	i, err := newInstaller(o)
	if err != nil {
		return "", err
	}
	return i.unit.text(), nil
}

func mayInstall(o cli.InstallOptions) error {
	switch root := os.Geteuid() == 0; {
	case root && o.User:
		return deploy.Hint(fmt.Errorf("%w: --user is for a user without root", deploy.ErrBadInput), "as root, without --user, it is the machine's")
	case !root && !o.User:
		return deploy.Hint(fmt.Errorf("%w: the machine's services are root's", deploy.ErrBadInput), "`sudo lotse install`, or `lotse install --user` for this user alone")
	}
	return nil
}

func (i *installer) at(path string) string { return filepath.Join(i.root, path) }

// booted is how sd_booted(3) asks.
func (i *installer) booted() error {
	if info, err := os.Stat(i.at("/run/systemd/system")); err == nil && info.IsDir() {
		return nil
	}
	return deploy.Hint(fmt.Errorf("%w: this machine does not run systemd", deploy.ErrBadInput),
		"`lotse serve` runs the controller in the foreground; `lotse install --print` shows the unit as a pattern for what runs services here")
}

// before is the unit that is there; ours only when an install has written it.
func (i *installer) before() (u unit, text string, err error) {
	raw, err := os.ReadFile(i.at(i.file))
	if errors.Is(err, fs.ErrNotExist) {
		return unit{}, "", nil
	}
	if err != nil {
		return unit{}, "", err
	}
	u, ours := parseUnit(string(raw))
	if !ours {
		err = deploy.Hint(fmt.Errorf("%w: %s was not made by `lotse install`", deploy.ErrBadInput, i.file), "move it away, or look after it yourself")
	}
	return u, string(raw), err
}

func (i *installer) install(ctx context.Context) (cli.Installed, error) {
	var said cli.Installed
	before, text, err := i.admit(ctx)
	if err != nil {
		return said, err
	}
	copying, err := i.planBinary(before)
	if err != nil {
		return said, err
	}
	if err := i.make(); err != nil {
		return said, err
	}
	// The unit first: it says which binary is ours.
	wanted := i.unit.text()
	if wanted != text {
		if err := writeAside(i.at(i.file), strings.NewReader(wanted), 0o644); err != nil {
			return said, err
		}
		said.Done = append(said.Done, "wrote "+i.file)
	}
	if copying {
		if err := i.copyBinary(); err != nil {
			return said, err
		}
		said.Done = append(said.Done, "installed "+i.binary)
	}
	started, err := i.start(ctx, len(said.Done) > 0)
	if err != nil {
		return said, deploy.Hint(err, "`"+i.command("systemctl")+" status lotse` and `"+i.command("journalctl")+" -u lotse` say more; `lotse install` again goes on from here, `lotse uninstall` takes it away")
	}
	if started != "" {
		said.Done = append(said.Done, started)
	}
	if i.unit.user && len(said.Done) > 0 {
		said.Notes = append(said.Notes, "→ `loginctl enable-linger` lets it run while you are not logged in, too")
	}
	return said, nil
}

// admit refuses what cannot be installed, before anything is changed.
func (i *installer) admit(ctx context.Context) (before unit, text string, err error) {
	if err := i.booted(); err != nil {
		return unit{}, "", err
	}
	before, text, err = i.before()
	if err != nil {
		return unit{}, "", err
	}
	if text != "" && before.state != i.unit.state {
		return unit{}, "", deploy.Hint(fmt.Errorf("%w: it is installed with the state folder %s", deploy.ErrBadInput, before.state),
			"`lotse uninstall` first, which leaves the data where it is")
	}
	pid, err := i.controller()
	if err != nil {
		return unit{}, "", err
	}
	if pid != 0 && i.systemctl(ctx, "is-active", "--quiet", unitName) != nil {
		return unit{}, "", deploy.Hint(fmt.Errorf("%w: a controller of %s runs without systemd (process %d)", deploy.ErrBusy, i.unit.state, pid),
			fmt.Sprintf("end it with Ctrl-C or `kill %d`: what it has started goes on, and the next controller takes it over", pid))
	}
	return before, text, nil
}

// command is a tool of systemd as one types it.
func (i *installer) command(tool string) string {
	if i.unit.user {
		return tool + " --user"
	}
	return tool
}

// planBinary says whether the program that runs now is to be copied to where the unit starts it, and notes in the unit which one is
// ours. One that somebody else has put there already is not.
func (i *installer) planBinary(before unit) (copying bool, err error) {
	if i.exe == i.at(i.binary) {
		i.unit.digest = before.digest
		return false, nil
	}
	digest, err := digestOf(i.exe)
	if err != nil {
		return false, err
	}
	there, err := digestOf(i.at(i.binary))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	if there != digest || before.digest == digest {
		i.unit.digest = digest
	}
	return there != digest, nil
}

func (i *installer) copyBinary() error {
	program, err := os.Open(i.exe)
	if err != nil {
		return err
	}
	defer program.Close()
	return writeAside(i.at(i.binary), program, 0o755)
}

// start makes systemd run what the unit says now, and returns what it did; nothing where that runs already.
func (i *installer) start(ctx context.Context, changed bool) (string, error) {
	if changed {
		if err := i.systemctl(ctx, "daemon-reload"); err != nil {
			return "", err
		}
	}
	active := i.systemctl(ctx, "is-active", "--quiet", unitName) == nil
	enabled := i.systemctl(ctx, "is-enabled", "--quiet", unitName) == nil
	if active && enabled && !changed {
		return "", nil
	}
	if !enabled {
		if err := i.systemctl(ctx, "enable", unitName); err != nil {
			return "", err
		}
	}
	if err := i.systemctl(ctx, "restart", unitName); err != nil { // what does not run is started
		return "", err
	}
	said := "started " + unitName + "; from now on it starts with " + i.of()
	if active {
		said = "started " + unitName + " again; what the stages serve went on meanwhile"
	}
	return said, i.ready(ctx)
}

func (i *installer) of() string {
	if i.unit.user {
		return "your session"
	}
	return "the machine"
}

func (i *installer) uninstall(ctx context.Context) (cli.Installed, error) {
	var said cli.Installed
	if err := i.booted(); err != nil {
		return said, err
	}
	before, text, err := i.before()
	if err != nil || text == "" {
		return said, err
	}
	if err := i.systemctl(ctx, "disable", "--now", unitName); err != nil {
		return said, err
	}
	if err := i.down(ctx, before.state); err != nil {
		return said, err
	}
	said.Done = append(said.Done, "ended the controller, the proxy and all instances")
	if err := os.Remove(i.at(i.file)); err != nil {
		return said, err
	}
	said.Done = append(said.Done, "removed "+i.file)
	if err := i.systemctl(ctx, "daemon-reload"); err != nil {
		return said, err
	}
	if before.digest != "" {
		done, note, err := i.removeBinary(before)
		if err != nil {
			return said, err
		}
		said.Done, said.Notes = append(said.Done, done...), append(said.Notes, note...)
	}
	said.Notes = append(said.Notes, "the data stays in "+before.state, "→ `rm -r "+before.state+"` removes it for good")
	return said, nil
}

// removeBinary removes what was copied, unless it has become something else since.
func (i *installer) removeBinary(u unit) (done, notes []string, err error) {
	there, err := digestOf(i.at(u.binary))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, nil
	case err != nil:
		return nil, nil, err
	case there != u.digest:
		return nil, []string{u.binary + " stays: it is not the program that was installed"}, nil
	}
	return []string{"removed " + u.binary}, nil, os.Remove(i.at(u.binary))
}

func digestOf(path string) (string, error) {
	program, err := os.ReadFile(path)
	return depot.DigestOf(program), err
}

// writeAside puts a file in place at one instant: a program that runs from there goes on with the old one.
func writeAside(path string, from io.Reader, mode os.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".lotse-install-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // nothing is left of it after the rename
	_, err = io.Copy(f, from)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// run runs a tool of the system; what it prints is the error.
func run(ctx context.Context, argv []string) error {
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w%s", strings.Join(argv, " "), err, onLines(said.String()))
	}
	return nil
}

func onLines(text string) string {
	if text = strings.TrimSpace(text); text == "" {
		return ""
	}
	return "\n  " + strings.ReplaceAll(text, "\n", "\n  ")
}

// answers waits until the controller does.
func answers(ctx context.Context, c *api.Client) error {
	for deadline := time.Now().Add(60 * time.Second); ; {
		_, err := c.Ping(ctx)
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the controller was started and does not answer: %w", err)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

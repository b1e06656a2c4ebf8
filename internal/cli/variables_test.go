package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// outlineForTests reads lotse.yaml as cmd/lotse does.
func outlineForTests(dir string) (Outline, error) {
	data, err := os.ReadFile(filepath.Join(dir, "lotse.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		return Outline{}, deploy.ErrNotFound
	}
	app, err := config.Read("lotse.yaml", data)
	o := Outline{App: app.Name}
	for _, s := range app.Stages {
		if o.Uses == nil {
			o.Uses = map[string]map[string][]string{}
		}
		o.Uses[s.Name], o.Overlap = app.Uses(s), s.Overlap
		o.Stages = append(o.Stages, s.Name)
		if s.Private {
			o.Private = append(o.Private, s.Name)
		}
		if s.Database.Own() {
			o.Owned = append(o.Owned, s.Name)
		}
		if home := s.Home(); home != (deploy.Home{}) {
			o.Homes = map[string]deploy.Home{s.Name: home}
		}
	}
	for _, s := range app.Pipeline {
		o.Public = append(o.Public, s.Public...)
	}
	return o, err
}

// whoForTests is nobody, where a transcript does not name somebody.
func whoForTests(string) deploy.Person { return deploy.Person{Name: os.Getenv("WHO")} }

// kept is a variable in a transcript's controller.
type kept struct {
	Name, Value, By string
	Kind            deploy.VariableKind
	Since           time.Time
	Version         int
}

// SetVariables notes what it was asked with the values, so that a transcript can see that they came as they were typed.
func (h *harbour) SetVariables(_ context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting, by deploy.Person) error {
	text := ""
	for _, one := range values {
		text += fmt.Sprintf(" %s=%q", one.Name, one.Value.Reveal())
	}
	return h.note("set", stage, kind, "by", by.Name+":"+text)
}

func (h *harbour) RemoveVariables(_ context.Context, stage deploy.StageRef, kind deploy.VariableKind, names []string, by deploy.Person) error {
	for _, name := range names {
		if !slices.ContainsFunc(h.Kept[stage.String()], func(k kept) bool { return k.Name == name && k.Kind == kind }) {
			return deploy.Hint(fmt.Errorf("%w: %s has no %s %s", deploy.ErrNotFound, stage, kind, name), "did you mean STRIPE_KEY?")
		}
	}
	return h.note("remove", stage, kind, "by", by.Name+":", strings.Join(names, " "))
}

func (h *harbour) ListVariables(_ context.Context, stage deploy.StageRef) (all []deploy.Variable, err error) {
	for _, k := range h.Kept[stage.String()] {
		all = append(all, deploy.Variable{Name: k.Name, Kind: k.Kind, Value: secret.New(k.Value), Since: k.Since, By: k.By, Version: k.Version})
	}
	return all, h.note("list", stage)
}

func (h *harbour) Password(_ context.Context, stage deploy.StageRef) (secret.Text, error) {
	return secret.New("aaaaa-bbbbb-ccccc-ddddd"), h.note("password", stage)
}

func (h *harbour) NewPassword(_ context.Context, stage deploy.StageRef, by deploy.Person) (secret.Text, error) {
	return secret.New("eeeee-fffff-ggggg-hhhhh"), h.note("new password", stage, "by", by.Name)
}

// Settle is for a stage whose secrets do not rest on the controller's machine.
func (h *harbour) Settle(_ context.Context, stage deploy.StageRef, home deploy.Home) error {
	return h.note("secrets of", stage, "rest in", home.Engine, home.Region, home.Account)
}

func (h *harbour) ChangeVariables(_ context.Context, stage deploy.StageRef, kind deploy.VariableKind, values []deploy.Setting, remove []string, by deploy.Person) error {
	text := ""
	for _, one := range values {
		text += fmt.Sprintf(" %s=%q", one.Name, one.Value.Reveal())
	}
	return h.note("change", stage, kind, "by", by.Name+":"+text, "without", strings.Join(remove, " "))
}

func (h *harbour) ReadVariables(_ context.Context, stage deploy.StageRef, kind deploy.VariableKind, names []string, by deploy.Person) (all []deploy.Setting, err error) {
	for _, k := range h.Kept[stage.String()] {
		if k.Kind == kind && (len(names) == 0 || slices.Contains(names, k.Name)) {
			all = append(all, deploy.Setting{Name: k.Name, Value: secret.New(k.Value)})
		}
	}
	if len(all) < len(names) {
		return nil, fmt.Errorf("%w: %s", deploy.ErrNotFound, names)
	}
	return all, h.note("read", stage, kind, "by", by.Name+":", strings.Join(names, " "))
}

func (h *harbour) CompareVariables(_ context.Context, stage deploy.StageRef, _ deploy.VariableKind, values []deploy.Setting) (all []deploy.VariableChange, err error) {
	for _, s := range values {
		change := deploy.VariableChange{Name: s.Name, Is: deploy.ChangeNew}
		for _, k := range h.Kept[stage.String()] {
			if k.Name == s.Name {
				change.Is = map[bool]string{true: deploy.ChangeSame, false: deploy.ChangeChanged}[k.Value == s.Value.Reveal()]
			}
		}
		all = append(all, change)
	}
	return all, h.note("compare", stage)
}

func (h *harbour) VariableVersions(_ context.Context, stage deploy.StageRef, name string) ([]deploy.VariableVersion, error) {
	return []deploy.VariableVersion{{Number: 3, Since: time.Now(), By: "p-anna", Now: true}, {Number: 2, By: "p-anna"}, {Number: 1, Gone: deploy.VersionRevoked}}, h.note("versions of", name, stage)
}

func (h *harbour) RevokeVersions(_ context.Context, stage deploy.StageRef, name string, versions []int, by deploy.Person) ([]int, error) {
	return append(versions, 1), h.note("revoke", stage, name, versions, "by", by.Name)
}

func (h *harbour) Recipients(context.Context) ([]deploy.Recipient, error) {
	return []deploy.Recipient{{Name: "this-machine", Key: "age1own", Own: true}, {Name: "anna", Key: "age1anna"}}, h.note("recipients")
}

func (h *harbour) AddRecipient(_ context.Context, name, key string, by deploy.Person) error {
	return h.note("add", name, key, "by", by.Name)
}

func (h *harbour) RemoveRecipient(_ context.Context, name string, by deploy.Person) error {
	return h.note("take", name, "away by", by.Name)
}

func (h *harbour) RotateKey(_ context.Context, by deploy.Person) error {
	return h.note("rotate key by", by.Name)
}

const hunter = "hunter2-correct-horse"

func setting(t *testing.T, what ...string) (*harbour, *terminal) {
	h, state, _ := inHarbour(t, `{}`)
	return h, inTerminal(t, state, []string{"WHO=Anna"}, append(what, "--app", "shop", "--stage", "dev")...)
}

// A prompt takes a secret for each name and shows none of them, nor does the list of processes; all are set at once.
func TestPromptForSecrets(t *testing.T) {
	h, p := setting(t, "secrets", "set", "STRIPE_KEY", "SLACK_WEBHOOK")
	p.until("STRIPE_KEY:")
	p.silent()
	p.types(hunter + "\r")
	p.until("SLACK_WEBHOOK:")
	p.silent()
	for _, file := range []string{"cmdline", "environ"} {
		if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, file)); err != nil || strings.Contains(string(text), "hunter") {
			t.Errorf("%s shows the secret, or %v", file, err)
		}
	}
	p.types("second ü secret\r")
	p.exits(0)
	p.until("shop/dev: SLACK_WEBHOOK is set (8 to 15 characters)")
	if want := "set shop/dev secret by Anna: STRIPE_KEY=\"" + hunter + "\" SLACK_WEBHOOK=\"second ü secret\""; !slices.Contains(h.askedFor(), want) {
		t.Errorf("it was asked %q", h.askedFor())
	}
	if raw := p.wrote(); strings.Contains(raw, "hunter") || strings.Contains(raw, "second") || !strings.Contains(raw, "STRIPE_KEY is set (16 to 31 characters)") {
		t.Errorf("%q", raw)
	}
	p.leftAsFound()
}

// silent waits until the terminal echoes nothing.
func (p *terminal) silent() {
	p.t.Helper()
	limit := time.Now().Add(30 * time.Second)
	for time.Now().Before(limit) {
		if mode, err := unix.IoctlGetTermios(int(p.line.Fd()), unix.TCGETS); err == nil && mode.Lflag&unix.ECHO == 0 {
			return
		}
	}
	p.t.Fatal("the terminal echoes")
}

// What goes wrong at the prompt sets nothing, and gives the terminal back as it was, with nothing in it that a shell would run.
func TestPromptGoesWrong(t *testing.T) {
	for name, c := range map[string]struct {
		typed string
		code  int
		says  string
	}{
		"Ctrl-C":        {"half\x03", 130, "lotse: interrupted"},
		"empty":         {"\r", 2, "the value of STRIPE_KEY is empty; nothing was set"},
		"several lines": {"-----BEGIN\rrm -rf hunter\r", 2, "several lines were given"},
		"a huge line":   {strings.Repeat("hunter2", 1000) + "\r", 2, "a terminal gives no line of more than"},
	} {
		h, p := setting(t, "secrets", "set", "STRIPE_KEY")
		p.until("STRIPE_KEY:")
		p.silent()
		p.types(c.typed)
		p.exits(c.code)
		p.until(c.says)
		p.leftAsFound()
		if waiting, err := unix.IoctlGetInt(int(p.line.Fd()), unix.TIOCINQ); err != nil || waiting > 0 {
			t.Errorf("%s: %d bytes wait for the shell, %v", name, waiting, err)
		}
		if strings.Contains(p.wrote(), "hunter") || strings.Contains(p.wrote(), "half") {
			t.Errorf("%s: %q", name, p.wrote())
		}
		if slices.ContainsFunc(h.askedFor(), func(s string) bool { return strings.HasPrefix(s, "set") }) {
			t.Errorf("%s: it was set: %q", name, h.askedFor())
		}
	}
}

// What is no secret is seen while it is typed.
func TestPromptForEnv(t *testing.T) {
	h, p := setting(t, "env", "set", "LOG")
	p.until("LOG:")
	p.types("debug level\r")
	p.exits(0)
	p.until("LOG: debug level")
	p.until("shop/dev: LOG is set")
	if want := `set shop/dev env by Anna: LOG="debug level"`; !slices.Contains(h.askedFor(), want) {
		t.Errorf("it was asked %q", h.askedFor())
	}
	p.leftAsFound()
	h, p = setting(t, "env", "set", "LOG")
	p.until("LOG:")
	p.types("\x04")
	p.exits(2)
	p.until("no value was given; nothing was set")
	if len(h.askedFor()) > 0 {
		t.Errorf("it was asked %q", h.askedFor())
	}
}

// On a terminal a value is shown to who says yes, or has said so before.
func TestGetOnATerminal(t *testing.T) {
	kept := `{"Kept": {"shop/dev": [{"Name": "STRIPE_KEY", "Kind": "secret", "Value": "hunter2"}]}}`
	for _, c := range []struct {
		typed  string
		flags  []string
		reveal bool
	}{{"\r", nil, false}, {"n\r", nil, false}, {"y\r", nil, true}, {"", []string{"--reveal"}, true}} {
		h, state, _ := inHarbour(t, kept)
		p := inTerminal(t, state, []string{"WHO=Anna"}, append([]string{"secrets", "get", "STRIPE_KEY", "--app", "shop", "--stage", "dev"}, c.flags...)...)
		if c.typed != "" {
			p.until("show STRIPE_KEY of shop/dev on this screen? [y/N]")
			p.types(c.typed)
		}
		p.exits(0)
		if c.reveal {
			p.until("hunter2")
		}
		if shown := strings.Contains(p.wrote(), "hunter"); shown != c.reveal || slices.Contains(h.askedFor(), "read shop/dev secret by Anna: STRIPE_KEY") != c.reveal {
			t.Errorf("%q %v: shown %v, asked %q", c.typed, c.flags, shown, h.askedFor())
		}
	}
}

// Bad input is told, and the person goes on with what was typed, or gives up; nothing is changed until it is good, and nothing is left.
func TestEditAgain(t *testing.T) {
	for _, again := range []bool{true, false} {
		private, err := os.MkdirTemp("/dev/shm", "edit-")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(private)
		script := filepath.Join(t.TempDir(), "edit")
		// The first time a line is wrong; the second time that line is still there, and is mended.
		text := "if grep -q '^no name' \"$1\"; then sed -i 's/^no name.*/B=second/' \"$1\"; else echo 'no name=hunter2' >> \"$1\"; fi\n"
		if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		h, state, _ := inHarbour(t, `{"Kept": {"shop/dev": [{"Name": "A", "Kind": "secret", "Value": "first"}]}}`)
		p := inTerminal(t, state, []string{"WHO=Anna", "EDITOR=sh " + script, "XDG_RUNTIME_DIR=" + private}, "secrets", "edit", "--app", "shop", "--stage", "dev")
		p.until("the file:4: a name has letters")
		p.until("edit it again? [y/N]")
		if again {
			p.types("y\r")
			p.exits(0)
			p.until("shop/dev: B is new")
		} else {
			p.types("n\r")
			p.exits(2)
		}
		if changed := slices.Contains(h.askedFor(), `change shop/dev secret by Anna: B="second" without`); changed != again {
			t.Errorf("again %v: %q", again, h.askedFor())
		}
		if left, err := os.ReadDir(private); err != nil || len(left) > 0 {
			t.Errorf("left: %v, %v", left, err)
		}
		if strings.Contains(p.wrote(), "hunter") {
			t.Errorf("%q", p.wrote())
		}
	}
}

func TestLengthClass(t *testing.T) {
	for n, want := range map[int]string{1: "under 8 characters", 7: "under 8 characters", 8: "8 to 15 characters", 15: "8 to 15 characters", 16: "16 to 31 characters", 100: "64 to 127 characters"} {
		if got := lengthClass(secret.New(strings.Repeat("ü", n))); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
}

package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

// longestLine is what a terminal gives of one line, in bytes; it drops the rest without a word (termios(3), canonical mode).
const longestLine = 4095

// value asks for the value of a variable: on a terminal with a prompt, which echoes nothing of a secret; else it is the whole standard
// input, minus the end of its last line.
func (v variables) value(ctx context.Context, name string) (deploy.Setting, error) {
	one := deploy.Setting{Name: name}
	var err error
	if f, ok := v.In.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		one.Value, err = v.typed(ctx, f, name)
	} else {
		one.Value, err = v.piped()
	}
	switch {
	case err != nil:
		return one, err
	case one.Value.Empty():
		hint := "give one; `lotse secrets rm " + name + "` takes the variable away"
		if v.kind == deploy.PlainVariable {
			hint = "write " + name + "= where it is to be empty"
		}
		return one, &failure{Code: "bad-input", Message: "the value of " + name + " is empty; nothing was set", Hint: hint}
	}
	return one, one.Problem()
}

func (v variables) piped() (secret.Text, error) {
	text, err := io.ReadAll(io.LimitReader(v.In, deploy.MaxVariable+3)) // more than that is refused by its length
	if err != nil {
		return secret.Text{}, fmt.Errorf("%w: the standard input: %w", deploy.ErrBadInput, err)
	}
	whole, ended := strings.CutSuffix(string(text), "\n")
	if ended {
		whole = strings.TrimSuffix(whole, "\r")
	}
	return secret.New(whole), nil
}

// typed asks on a terminal. A signal ends the waiting and gives the terminal back as it was; what reads then is ended with the
// command.
func (v variables) typed(ctx context.Context, f *os.File, name string) (secret.Text, error) {
	before, err := term.GetState(int(f.Fd()))
	if err != nil {
		return secret.Text{}, err
	}
	fmt.Fprintf(v.Err, "%s: ", name)
	type line struct {
		text string
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := readLine(f, v.kind)
		read <- line{text, err}
	}()
	select {
	case l := <-read:
		if v.kind == deploy.SecretVariable || l.err != nil {
			fmt.Fprintln(v.Err) // the one that was typed was not shown
		}
		return secret.New(l.text), v.lineProblem(f, name, l.text, l.err)
	case <-ctx.Done():
		fmt.Fprintln(v.Err)
		return secret.Text{}, errors.Join(ctx.Err(), term.Restore(int(f.Fd()), before))
	}
}

func readLine(f *os.File, kind deploy.VariableKind) (string, error) {
	if kind == deploy.SecretVariable {
		text, err := term.ReadPassword(int(f.Fd()))
		return string(text), err
	}
	text, err := bufio.NewReader(f).ReadString('\n')
	return strings.TrimRight(text, "\r\n"), err
}

// lineProblem looks at a line that came from a terminal. What comes behind it would be run by the shell, so it is thrown away.
func (v variables) lineProblem(f *os.File, name, text string, err error) error {
	hint := "give it as a file: `lotse " + v.family + " set " + name + " < FILE`"
	switch {
	case errors.Is(err, io.EOF): // Ctrl-D; term.ReadPassword takes no notice of it
		return &failure{Code: "bad-input", Message: "no value was given; nothing was set"}
	case err != nil:
		return err
	case len(text) >= longestLine:
		return &failure{Code: "bad-input", Message: "a terminal gives no line of more than 4094 bytes; nothing was set", Hint: hint}
	}
	if waiting, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCINQ); err == nil && waiting > 0 {
		return errors.Join(&failure{Code: "bad-input", Message: "several lines were given, and a prompt takes one; nothing was set", Hint: hint},
			unix.IoctlSetInt(int(f.Fd()), unix.TCFLSH, unix.TCIFLUSH))
	}
	return nil
}

// lengthClass says about how long a secret is: enough to see that the right thing was pasted, and nothing of it.
func lengthClass(v secret.Text) string {
	n := utf8.RuneCountInString(v.Reveal())
	if n < 8 {
		return "under 8 characters"
	}
	least := 1 << (bits.Len(uint(n)) - 1)
	return fmt.Sprintf("%d to %d characters", least, 2*least-1)
}

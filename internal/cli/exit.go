package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/lotse-eu/lotse/internal/api"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// The exit codes: what a script may decide by. docs/cli.md has the same table, and a test compares them.
const (
	exitOK           = 0   // done; also: nothing had to be changed
	exitMissed       = 1   // the rollout or its pipeline missed, or what was examined is not well
	exitUsage        = 2   // the command line or its input is not usable
	exitNoController = 3   // no controller answers
	exitBusy         = 4   // somebody else is changing the same thing
	exitNotFound     = 5   // there is no such rollout, release, stage or app
	exitDamaged      = 6   // kept bytes are not what they were
	exitInternal     = 70  // an error that Lotse did not expect; 70 is EX_SOFTWARE of sysexits.h
	exitInterrupted  = 130 // Ctrl-C: detached, the rollout goes on; 128 + SIGINT as shells have it
)

// exits gives each code of an error its exit code.
var exits = map[string]int{
	"aborted":      exitMissed,
	"bad-input":    exitUsage,
	"build":        exitMissed,
	"busy":         exitBusy,
	"cannot-start": exitMissed,
	"damaged":      exitDamaged,
	"fenced":       exitMissed,
	"gate":         exitMissed,
	"migration":    exitMissed,
	"missing":      exitMissed,
	"no-space":     exitMissed,
	"not-found":    exitNotFound,
	"refused":      exitMissed,
	"regression":   exitMissed,
	"unavailable":  exitNoController,
	"unhealthy":    exitMissed,
	"unknown":      exitNotFound,
	"unsupported":  exitUsage,

	codeDetached:    exitInterrupted,
	codeFindings:    exitMissed,
	codeInterrupted: exitInterrupted,
}

// Codes that only the command line has.
const (
	codeDetached    = "detached"
	codeFindings    = "findings"
	codeInterrupted = "interrupted"
)

// failure is an error of the command line itself, or one of a rollout.
type failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
	Rollout string `json:"rollout,omitempty"`
	Step    string `json:"step,omitempty"`

	exit int // 0: by Code
}

func (f *failure) Error() string { return f.Message }

// usage makes a failure of what cobra says about a command line.
func usage(err error, path string) error {
	message, meant, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n\nDid you mean this?\n")
	if meant != "" {
		message += ", did you mean " + strings.Join(strings.Fields(meant), " or ") + "?"
	}
	if strings.Contains(message, " arg(s)") { // cobra counts; a person wants to know what is missing
		message = path + " is given too few words, or too many"
	}
	return &failure{Code: "bad-input", Message: message, Hint: fmt.Sprintf("`%s --help` shows how it is used", path)}
}

// exitOf is the exit code of an error.
func exitOf(err error) int {
	if err == nil {
		return exitOK
	}
	if f, ok := errors.AsType[*failure](err); ok {
		if f.exit != 0 {
			return f.exit
		}
		return orInternal(exits[f.Code])
	}
	return orInternal(exits[api.Wire(err).Code])
}

func orInternal(exit int) int {
	if exit == 0 {
		return exitInternal
	}
	return exit
}

// withState makes a hint to start a controller one of the state folder that was given by flag.
func (s *session) withState(err error) error {
	const serve = "`lotse serve`"
	if s.state == "" {
		return err
	}
	given := "`lotse serve --state " + quoted(s.stateFolder()) + "`"
	if f, own := errors.AsType[*failure](err); own {
		f.Hint = strings.ReplaceAll(f.Hint, serve, given)
		return err
	}
	if hint := deploy.HintOf(err); strings.Contains(hint, serve) {
		return deploy.Hint(err, strings.ReplaceAll(hint, serve, given))
	}
	return err
}

// quoted is a word as a shell takes it.
func quoted(word string) string {
	if strings.ContainsFunc(word, func(r rune) bool {
		return !strings.ContainsRune("/._-+@:,=%", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}) {
		return "'" + strings.ReplaceAll(word, "'", `'\\''`) + "'"
	}
	return word
}

// report prints an error. Nothing else does.
func report(to io.Writer, err error, asJSON bool) {
	if asJSON {
		var twin any = api.Wire(err)
		if f, ok := errors.AsType[*failure](err); ok {
			twin = f
		}
		line, _ := json.Marshal(map[string]any{"error": twin}) // strings and valid raw JSON: always possible
		fmt.Fprintln(to, string(line))
		return
	}
	message, hint := err.Error(), deploy.HintOf(err)
	if f, own := errors.AsType[*failure](err); own {
		hint = f.Hint
	} else if len(api.Wire(err).Details) > 0 {
		message = "the configuration is not usable:\n" + message // each mistake begins with its place, as editors find it
	}
	first, rest := clauses(clean(message))
	fmt.Fprintln(to, "lotse: "+first)
	if rest != "" {
		fmt.Fprintln(to, rest)
	}
	if hint != "" {
		fmt.Fprintln(to, indented("  → ", clean(hint)))
	}
}

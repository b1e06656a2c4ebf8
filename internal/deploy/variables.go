package deploy

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/lotse-eu/lotse/internal/secret"
)

// Kinds of events about the variables of a stage. They name the variable and who changed it; nothing of its value.
const (
	KindVariableSet     = "variable.set"
	KindVariableRemoved = "variable.removed"
	KindVariableRead    = "variable.read"    // somebody was shown the value
	KindVariableRevoked = "variable.revoked" // versions of it can be had no more
	KindPasswordNew     = "password.new"     // of a private stage
)

// Kinds of events about who can open the sealed files. They have no app and no stage, and name no key.
const (
	KindRecipientAdded   = "recipient.added"
	KindRecipientRemoved = "recipient.removed"
	KindKeyRotated       = "key.rotated" // the one of the controller's machine
)

// VariableKind says whether a variable may be shown.
type VariableKind string

// The kinds of variables. A name has one of them on a stage.
const (
	PlainVariable  VariableKind = "env"    // listings show its value
	SecretVariable VariableKind = "secret" // nothing shows its value; only what runs on the stage is given it
)

// Known reports whether k is one of the kinds.
func (k VariableKind) Known() bool { return k == PlainVariable || k == SecretVariable }

// Variable is one variable of a stage that Lotse keeps, as listings show it.
type Variable struct {
	Name    string
	Kind    VariableKind
	Value   secret.Text // empty for a secret
	Since   time.Time   // when it was set last
	By      string      // opaque id of who set it
	Version int         // how often it was changed, as far as is known; 0: that is not known
}

// MaxVariable is what the value of a variable may have, in bytes. Certificates and keys have some thousand; Linux gives a program
// at most 128 KiB in one variable, with its name (execve(2), MAX_ARG_STRLEN).
const MaxVariable = 64 << 10

// Home is where the secrets of a stage rest. The zero Home is the controller's machine.
type Home struct {
	Engine  string `json:"engine,omitempty"` // "aws": Secrets Manager
	Region  string `json:"region,omitempty"`
	Account string `json:"account,omitempty"` // that the credentials must belong to; empty: whichever they are of
}

// Home is where the secrets of the stage rest: where its platform reads them itself.
func (s Stage) Home() Home {
	if s.Engine != "aws" {
		return Home{}
	}
	return Home{Engine: s.Engine, Region: s.AWS.Region, Account: s.AWS.Account}
}

// Problem says why the variable cannot be given to a program, as ErrBadInput with a hint; nil when it can. Nothing of the value is
// told, and of the name only what is a name: in the place of a name there may stand a secret.
func (s Setting) Problem() error {
	rest, hint := VariableProblem(s.Name)
	value := s.Value.Reveal()
	switch {
	case rest != "" && hint != "":
		return Hint(fmt.Errorf("%w: %s %s", ErrBadInput, s.Name, rest), hint)
	case rest != "":
		return Hint(fmt.Errorf("%w: a variable %s", ErrBadInput, rest), "for example STRIPE_KEY")
	case len(s.Name) > 200:
		return fmt.Errorf("%w: the name of a variable has at most 200 letters", ErrBadInput)
	case len(value) > MaxVariable:
		return Hint(fmt.Errorf("%w: the value of %s has more than %d bytes", ErrBadInput, s.Name, MaxVariable), "what is that large is a file; put it into a volume")
	case strings.Contains(value, "\x00") || !utf8.ValidString(value):
		return Hint(fmt.Errorf("%w: the value of %s must be text in UTF-8 without NUL", ErrBadInput, s.Name), "encode bytes, for example with base64")
	}
	return nil
}

// Problem says why there can be no such stage, as ErrBadInput; nil when there can. Names of apps and stages become names of files.
func (r StageRef) Problem() error {
	if !validLabel(r.App) || !validLabel(r.Stage) {
		return Hint(fmt.Errorf("%w: %q is not an app and a stage", ErrBadInput, r.String()), "both are small letters, digits and hyphens, as in lotse.yaml")
	}
	return nil
}

// ValueNames are the names of the variables of a stage, each with a digest of its value under a key that never leaves the machine: what
// has changed can be told, and nothing of any value.
type ValueNames map[string]string

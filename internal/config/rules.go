package config

import (
	"time"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v4"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// The rules of a stage: who has to say yes, and when nothing new comes.

// shorthand is a mapping that may be written as one word: the value of the field that short points to.
type shorthand interface{ short() scalar }

// approvalsCount is how long an approval counts where the file does not say: what was looked at yesterday is known today.
const approvalsCount = 24 * time.Hour

// consent is whose yes is wanted: a number of people, or a mapping.
type consent struct {
	People    people   `json:"people" jsonschema:"minimum=1,maximum=20" jsonschema_description:"How many people. Where nothing is said: 1."`
	By        list     `json:"by" jsonschema_description:"Names or mail addresses, as git knows people. Without it: anybody."`
	NotAuthor flag     `json:"not_author" jsonschema_description:"true: who wrote a commit that is new to the stage, or deployed it, does not count."`
	Within    duration `json:"within" jsonschema_description:"How long a yes counts. Where nothing is said: 24h for approvals, and without end for sign_off."`
}

func (c *consent) short() scalar { return &c.People }

// people is how many.
type people int

func (p *people) set(n *yaml.Node) (expected, hint string) {
	var c count
	if expected, hint = c.set(n); expected == "" && c < 1 {
		return "a whole number from 1 up", "leave it out where nobody is to be asked"
	}
	*p = people(c)
	return expected, hint
}

// JSONSchemaExtend says that a number will do.
func (consent) JSONSchemaExtend(s *jsonschema.Schema) {
	either(s, &jsonschema.Schema{Type: "integer", Minimum: "1", Maximum: "20"})
}

// either describes a mapping that may be one word instead.
func either(s, word *jsonschema.Schema) {
	whole := *s
	*s = jsonschema.Schema{OneOf: []*jsonschema.Schema{word, &whole}}
}

// wants fills in what a file has not said that asks for somebody.
func (c *consent) wants(within time.Duration) deploy.Consent {
	w := deploy.Consent{People: int(c.People), By: c.By.strings(), NotAuthor: bool(c.NotAuthor), Within: time.Duration(c.Within)}
	if w.People == 0 && (len(w.By) > 0 || w.NotAuthor || w.Within > 0) {
		w.People = 1
	}
	if w.People != 0 && w.Within == 0 {
		w.Within = within
	}
	return w
}

// freeze is "always", or a mapping.
type freeze struct {
	Always always `json:"always" jsonschema_description:"true: until it is taken out of the file."`
	From   moment `json:"from" jsonschema_description:"First day, or a day and a time, such as 2026-12-18 16:00 Europe/Berlin. Without it: at once."`
	To     moment `json:"to" jsonschema_description:"Last day, or a day and a time. Without it: without end."`
	Reason text   `json:"reason" jsonschema:"minLength=1" jsonschema_description:"Why; a refusal says it."`
}

func (f *freeze) short() scalar { return &f.Always }

// JSONSchemaExtend says that a word will do.
func (freeze) JSONSchemaExtend(s *jsonschema.Schema) {
	either(s, &jsonschema.Schema{Type: "string", Enum: []any{"always"}})
}

func (f *freeze) freeze() deploy.Freeze {
	return deploy.Freeze{Always: bool(f.Always), From: string(f.From), To: string(f.To), Reason: string(f.Reason)}
}

// always is the word, or true where it is a field.
type always bool

func (a *always) set(n *yaml.Node) (expected, hint string) {
	if *a = n.Value == "always" || n.Tag == "!!bool" && n.Value == "true"; !*a && !(n.Tag == "!!bool" && n.Value == "false") {
		return "always, or a mapping with from, to and reason", "for example { from: 2026-12-18, to: 2027-01-06, reason: Christmas }"
	}
	return "", ""
}

// JSONSchema says what always may be as a field.
func (always) JSONSchema() *jsonschema.Schema { return &jsonschema.Schema{Type: "boolean"} }

// flag is true or false.
type flag bool

func (f *flag) set(n *yaml.Node) (expected, hint string) {
	*f = n.Value == "true"
	if n.Tag != "!!bool" || !*f && n.Value != "false" {
		return "true or false", "without quotation marks"
	}
	return "", ""
}

// moment is a date, with or without a time and a zone. YAML has a kind of its own for some of them.
type moment string

func (m *moment) set(n *yaml.Node) (expected, hint string) {
	*m = moment(n.Value)
	if n.Tag != "!!str" && n.Tag != "!!timestamp" || n.Value == "" {
		return "a day", "for example 2026-12-18"
	}
	return "", ""
}

// JSONSchema says how a moment is written.
func (moment) JSONSchema() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "string", Pattern: `^[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9]{2}:[0-9]{2})?( [A-Za-z]+(/[A-Za-z_/+-]+)?)?$`, Examples: []any{"2026-12-18"}}
}

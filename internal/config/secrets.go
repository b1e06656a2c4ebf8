package config

import (
	"reflect"
	"time"

	"github.com/invopop/jsonschema"
)

// needed are the secrets that every stage must have.
type needed []neededSecret

// neededSecret is a name, or a mapping.
type neededSecret struct {
	Name    text     `json:"name" jsonschema:"required,minLength=1,example=SESSION_KEY" jsonschema_description:"Name of the secret."`
	Overlap duration `json:"overlap" jsonschema_description:"How long after a change instances get the value before as well, as NAME_PREVIOUS."`
}

func (s *neededSecret) short() scalar { return &s.Name }

func (n *needed) grow() any {
	*n = append(*n, neededSecret{})
	return &(*n)[len(*n)-1]
}

func (n needed) names() (all []string) {
	for _, s := range n {
		all = append(all, string(s.Name))
	}
	return all
}

// overlap is how long the values of those overlap that say so.
func (n needed) overlap() map[string]time.Duration {
	var all map[string]time.Duration
	for _, s := range n {
		if s.Overlap == 0 {
			continue
		}
		if all == nil {
			all = map[string]time.Duration{}
		}
		all[string(s.Name)] = time.Duration(s.Overlap)
	}
	return all
}

// JSONSchema says that each is a name or a mapping.
func (needed) JSONSchema() *jsonschema.Schema {
	name := &jsonschema.Schema{Type: "string", MinLength: new(uint64(1))}
	return &jsonschema.Schema{Type: "array", Items: &jsonschema.Schema{OneOf: []*jsonschema.Schema{name, schemaOf(reflect.TypeFor[neededSecret]())}}}
}

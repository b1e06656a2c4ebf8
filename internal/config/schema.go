package config

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/invopop/jsonschema"
)

// Schema returns a JSON Schema (2020-12) of lotse.yaml, for editors. It knows fields, types, defaults and simple patterns; what
// depends on several fields is left to Read, so a file that the schema takes may still have mistakes.
func Schema() []byte {
	s := schemaOf(reflect.TypeFor[document]())
	s.Version = jsonschema.Version
	s.Title = "lotse.yaml"
	s.Description = "How Lotse carries an app from a commit to production."
	s.PatternProperties = map[string]*jsonschema.Schema{"^x-": {Description: "Anything, for anchors: Lotse does not look at it."}}
	for _, d := range defaults() {
		if d.field != "services.*.path" { // depends on static
			fieldIn(s, d.field).Default = defaultAsJSON(fieldIn(s, d.field).Type, d.value)
		}
	}
	for _, kind := range []string{"static", "command"} {
		service := fieldIn(s, "services.*")
		service.OneOf = append(service.OneOf, &jsonschema.Schema{Required: []string{kind}})
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic(err) // a fault of the types above, which every test would meet
	}
	return append(text, '\n')
}

func defaultAsJSON(kind, value string) any {
	if kind == "integer" {
		return json.Number(value)
	}
	return value
}

// fieldIn finds the schema of a field. * stands for any name.
func fieldIn(s *jsonschema.Schema, field string) *jsonschema.Schema {
	for part := range strings.SplitSeq(field, ".") {
		if part == "*" {
			s = s.AdditionalProperties
			continue
		}
		s, _ = s.Properties.Get(part)
	}
	return s
}

func schemaOf(t reflect.Type) *jsonschema.Schema {
	r := jsonschema.Reflector{DoNotReference: true, Anonymous: true, RequiredFromJSONSchemaTags: true}
	s := r.ReflectFromType(t)
	s.Version = ""
	return s
}

// JSONSchema describes a mapping with names that the file chooses.
func (e entries[T]) JSONSchema() *jsonschema.Schema {
	s := &jsonschema.Schema{Type: "object", AdditionalProperties: schemaOf(reflect.TypeFor[T]())}
	switch any(e).(type) {
	case entries[value]:
		s.PropertyNames = &jsonschema.Schema{Pattern: "^[A-Za-z_][A-Za-z0-9_]*$"}
	default:
		s.PropertyNames = &jsonschema.Schema{Pattern: "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", MaxLength: new(uint64(63))}
	}
	if t := reflect.TypeFor[T](); t.Kind() == reflect.Struct && t.NumField() == 0 {
		s.AdditionalProperties = &jsonschema.Schema{OneOf: []*jsonschema.Schema{s.AdditionalProperties, {Type: "null"}}}
	}
	return s
}

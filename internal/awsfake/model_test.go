package awsfake

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// model is AWS's own description of a service, as botocore carries it.
type model struct {
	Metadata   map[string]any
	Operations map[string]struct {
		Input, Output *struct{ Shape, ResultWrapper string }
		Errors        []struct{ Shape string }
	}
	Shapes map[string]*shape
}

type shape struct {
	Type     string
	Required []string
	Members  map[string]struct{ Shape, LocationName string }
	Member   *struct{ Shape, LocationName string }
	Key      *struct{ Shape string }
	Value    *struct{ Shape string }
	Enum     []string
	Error    *struct {
		Code           string
		HTTPStatusCode int
	}
	Exception, Flattened bool
}

// OfficialFile finds one of botocore's data files; the test is NOT RUN where botocore is not installed.
func OfficialFile(t *testing.T, service, name string) []byte {
	t.Helper()
	out, err := exec.Command("python3", "-c", "import botocore, os; print(os.path.dirname(botocore.__file__))").Output()
	if err != nil {
		t.Skip("NOT RUN: botocore, which carries AWS's models, is not installed for python3")
	}
	found, _ := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "data", service, "*", name+"*"))
	if len(found) == 0 {
		t.Skipf("NOT RUN: this botocore has no %s of %s", name, service)
	}
	slices.Sort(found)
	file, err := os.Open(found[len(found)-1])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var r io.Reader = file
	if strings.HasSuffix(file.Name(), ".gz") {
		if r, err = gzip.NewReader(file); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func officialModel(t *testing.T, service string) model {
	var m model
	if err := json.Unmarshal(OfficialFile(t, service, "service-2.json"), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// modelled are the services whose operations are compared with the model: their name here and in botocore.
var modelled = map[string]string{
	"elasticbeanstalk": "elasticbeanstalk", "elasticloadbalancing": "elbv2", "cloudformation": "cloudformation", "sts": "sts",
	"ssm": "ssm", "secretsmanager": "secretsmanager", "logs": "logs", "servicequotas": "service-quotas", "monitoring": "cloudwatch",
}

// What an operation takes and gives is compared member for member with the official model, and so are what is required, the
// values of enums and how lists and maps are written. A member that the installed model is too old to know is told.
func TestShapesAreTheOfficialModels(t *testing.T) {
	w := &World{}
	for name, s := range w.allServices() {
		t.Run(name, func(t *testing.T) {
			m := officialModel(t, modelled[name])
			compared := 0
			for action, op := range s.ops {
				official, there := m.Operations[action]
				if !there {
					t.Errorf("%s is no operation of the model", action)
					continue
				}
				c := comparison{t: t, m: m, spell: s.spell, seen: map[string]bool{}}
				required := []string{}
				if official.Input != nil {
					c.compare(action+" input", official.Input.Shape, op.input)
					required = m.Shapes[official.Input.Shape].Required
				}
				if official.Output != nil {
					c.compare(action+" output", official.Output.Shape, op.output)
					if wrapper := official.Output.ResultWrapper; wrapper != "" && wrapper != action+"Result" {
						t.Errorf("%s: the answer is wrapped in %s", action, wrapper)
					}
				}
				if !sameNames(required, op.required) {
					t.Errorf("%s requires %v, the fake %v", action, required, op.required)
				}
				compared++
			}
			if s.namespace != "" && m.Metadata["xmlNamespace"] != nil && m.Metadata["xmlNamespace"] != s.namespace {
				t.Errorf("the XML namespace is %v, the fake has %s", m.Metadata["xmlNamespace"], s.namespace)
			}
			t.Logf("%s: %d of %d operations, each compared with the official model", name, compared, len(m.Operations))
		})
	}
}

func sameNames(a, b []string) bool {
	lower := func(names []string) []string {
		var all []string
		for _, name := range names {
			all = append(all, strings.ToLower(name))
		}
		slices.Sort(all)
		return all
	}
	return slices.Equal(lower(a), lower(b))
}

type comparison struct {
	t     *testing.T
	m     model
	spell naming
	seen  map[string]bool
}

// compare holds a Go type against a shape of the model, all the way down.
func (c comparison) compare(path, name string, goType reflect.Type) {
	for goType.Kind() == reflect.Pointer {
		goType = goType.Elem()
	}
	s := c.m.Shapes[name]
	if s == nil || c.seen[name+goType.String()] {
		return
	}
	c.seen[name+goType.String()] = true
	switch s.Type {
	case "structure":
		c.structure(path, s, goType)
	case "list":
		if goType.Kind() != reflect.Slice {
			c.t.Errorf("%s is a list, here %s", path, goType)
			return
		}
		if c.spell == nil && (s.Flattened || (s.Member.LocationName != "" && s.Member.LocationName != "member")) {
			c.t.Errorf("%s is a list whose elements are not written as member", path)
		}
		c.compare(path+"[]", s.Member.Shape, goType.Elem())
	case "map":
		if goType.Kind() != reflect.Map {
			c.t.Errorf("%s is a map, here %s", path, goType)
			return
		}
		c.compare(path+"{}", s.Value.Shape, goType.Elem())
	default:
		c.scalar(path, s, goType)
	}
}

func (c comparison) structure(path string, s *shape, goType reflect.Type) {
	if goType.Kind() != reflect.Struct {
		c.t.Errorf("%s is a structure, here %s", path, goType)
		return
	}
	fields := map[string]reflect.Type{}
	for f := range goType.Fields() {
		if f.IsExported() && f.Name != "ResultMetadata" {
			fields[c.wireName(goType.Name(), f.Name)] = f.Type
		}
	}
	for member, ref := range s.Members {
		wire := member
		if ref.LocationName != "" {
			wire = ref.LocationName
		}
		field, there := fields[wire]
		if !there {
			c.t.Errorf("%s has no member %s", path, wire)
			continue
		}
		delete(fields, wire)
		c.compare(path+"."+member, ref.Shape, field)
	}
	for left := range fields {
		c.t.Logf("%s.%s: the SDK is newer than the installed model here", path, left)
	}
}

func (c comparison) wireName(owner, field string) string {
	if c.spell == nil {
		return field
	}
	return c.spell(owner, field)
}

func (c comparison) scalar(path string, s *shape, goType reflect.Type) {
	kinds := map[string][]reflect.Kind{
		"string": {reflect.String}, "boolean": {reflect.Bool}, "integer": {reflect.Int32}, "long": {reflect.Int64},
		"float": {reflect.Float32, reflect.Float64}, "double": {reflect.Float64}, "timestamp": {reflect.Struct}, "blob": {reflect.Slice},
	}
	if !slices.Contains(kinds[s.Type], goType.Kind()) {
		c.t.Errorf("%s is a %s, here %s", path, s.Type, goType)
		return
	}
	method, hasValues := goType.MethodByName("Values")
	if len(s.Enum) == 0 || !hasValues {
		return
	}
	values := map[string]bool{}
	known := method.Func.Call([]reflect.Value{reflect.Zero(goType)})[0]
	for i := range known.Len() {
		values[known.Index(i).String()] = true
	}
	for _, wanted := range s.Enum {
		if !values[wanted] {
			c.t.Errorf("%s: the enum has %s, here %v", path, wanted, slices.Sorted(maps.Keys(values)))
		}
	}
}

// Every code with which Beanstalk's operations refuse is a shape of the model's errors, or one of the codes that all query
// services share.
func TestBeanstalkRefusesWithOfficialCodes(t *testing.T) {
	m := officialModel(t, "elasticbeanstalk")
	official := map[string]bool{}
	for name, s := range m.Shapes {
		if s.Exception || s.Error != nil {
			official[name] = true
			if s.Error != nil && s.Error.Code != "" {
				official[s.Error.Code] = true
			}
		}
	}
	for _, common := range []string{"InvalidParameterValue", "MissingParameter", "InvalidParameterCombination", "ValidationError", "ConfigurationValidationException", "MalformedQueryString"} {
		official[common] = true
	}
	for _, file := range []string{"beanstalk.go", "versions.go", "environment.go", "environments.go", "changes.go", "health.go", "options.go", "platforms.go", "tags.go", "templates.go"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(raw), `refuse("`)[1:] {
			code, _, _ := strings.Cut(part, `"`)
			if !official[code] && !official[strings.TrimSuffix(code, "Exception")] {
				t.Errorf("%s refuses with %s, which the model does not have", file, code)
			}
		}
	}
}

// BeanstalkActions are the operations that the fake has.
func BeanstalkActions() []string { return slices.Sorted(maps.Keys(beanstalkService().ops)) }

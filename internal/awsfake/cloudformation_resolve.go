package awsfake

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// scope is what the functions of a template are worked out with.
type scope struct {
	template   *template
	parameters map[string]string
	pseudo     map[string]string                                     // AWS::Region and its kind
	resource   func(id, attribute string) (value string, known bool) // attribute "" is Ref
}

// gone is what AWS::NoValue becomes; whoever holds it leaves it out.
type gone struct{}

func templateError(format string, args ...any) error {
	return refuse("ValidationError", "Template error: "+format, args...)
}

// resolve works functions out, down to strings, lists and maps.
func (s *scope) resolve(tree any) (any, error) {
	switch tree := tree.(type) {
	case []any:
		items := []any{}
		for _, item := range tree {
			value, err := s.resolve(item)
			if err != nil {
				return nil, err
			}
			if _, left := value.(gone); !left {
				items = append(items, value)
			}
		}
		return items, nil
	case map[string]any:
		if len(tree) == 1 {
			for name, argument := range tree {
				if name == "Ref" || strings.HasPrefix(name, "Fn::") {
					return s.call(name, argument)
				}
			}
		}
		found := map[string]any{}
		for key, item := range tree {
			value, err := s.resolve(item)
			if err != nil {
				return nil, err
			}
			if _, left := value.(gone); !left {
				found[key] = value
			}
		}
		return found, nil
	default:
		return tree, nil
	}
}

func (s *scope) call(name string, argument any) (any, error) {
	switch name {
	case "Ref":
		return s.ref(str(argument))
	case "Fn::If":
		return s.choose(list(argument))
	case "Fn::Sub":
		text, own := subOf(argument)
		return substitute(text, func(name string) (string, error) { return s.named(name, own) })
	case "Fn::FindInMap":
		return s.findInMap(argument)
	}
	value, err := s.resolve(argument)
	if err != nil {
		return nil, err
	}
	switch parts := list(value); {
	case name == "Fn::GetAtt":
		id, attribute := getAtt(value)
		return s.attribute(id, attribute)
	case name == "Fn::Join" && len(parts) == 2:
		return strings.Join(texts(list(parts[1])), str(parts[0])), nil
	case name == "Fn::Split" && len(parts) == 2:
		return anys(strings.Split(str(parts[1]), str(parts[0]))), nil
	case name == "Fn::Select" && len(parts) == 2:
		return pick(str(parts[0]), list(parts[1]))
	case name == "Fn::GetAZs":
		return anys([]string{s.pseudo["AWS::Region"] + "a", s.pseudo["AWS::Region"] + "b", s.pseudo["AWS::Region"] + "c"}), nil
	case name == "Fn::Base64":
		return base64.StdEncoding.EncodeToString([]byte(str(value))), nil
	case name == "Fn::ToJsonString":
		raw, err := json.Marshal(value)
		return string(raw), err
	default:
		return nil, templateError("the fake does not know %s with these arguments", name)
	}
}

func (s *scope) ref(name string) (any, error) {
	if name == "AWS::NoValue" {
		return gone{}, nil
	}
	if value, there := s.pseudo[name]; there {
		return value, nil
	}
	if p, there := s.template.parameters[name]; there {
		if strings.HasPrefix(p.kind, "List<") || p.kind == "CommaDelimitedList" {
			return anys(strings.Split(s.parameters[name], ",")), nil
		}
		return s.parameters[name], nil
	}
	return s.attribute(name, "")
}

// attribute is what a resource is called (attribute ""), or one of its attributes.
func (s *scope) attribute(id, attribute string) (any, error) {
	if value, known := s.resource(id, attribute); known {
		return value, nil
	}
	return nil, templateError("instance of Fn::GetAtt references undefined resource %s", id)
}

// named is a ${Name} or ${Name.Attribute} of Fn::Sub.
func (s *scope) named(name string, own map[string]any) (string, error) {
	var value any
	var err error
	if given, there := own[name]; there {
		value, err = s.resolve(given)
	} else if id, attribute, dotted := strings.Cut(name, "."); dotted {
		value, err = s.attribute(id, attribute)
	} else {
		value, err = s.ref(name)
	}
	return str(value), err
}

func (s *scope) choose(parts []any) (any, error) {
	if len(parts) != 3 {
		return nil, templateError("Fn::If requires three arguments")
	}
	yes, err := s.holds(str(parts[0]))
	if err != nil {
		return nil, err
	}
	if yes {
		return s.resolve(parts[1])
	}
	return s.resolve(parts[2])
}

// holds works a condition of the template out.
func (s *scope) holds(name string) (bool, error) {
	tree, there := s.template.conditions[name]
	if !there {
		return false, formatError("Unresolved dependencies [%s]. Cannot reference resources in the Conditions block of the template", name)
	}
	return s.judge(tree)
}

func (s *scope) judge(tree any) (bool, error) {
	for name, argument := range object(tree) {
		switch name {
		case "Condition":
			return s.holds(str(argument))
		case "Fn::Not":
			yes, err := s.judge(list(argument)[0])
			return !yes, err
		case "Fn::And", "Fn::Or":
			return s.judgeAll(list(argument), name == "Fn::And")
		case "Fn::Equals":
			parts, err := s.resolve(argument)
			return err == nil && len(list(parts)) == 2 && same(list(parts)[0], list(parts)[1]), err
		}
	}
	return false, templateError("the fake does not know this condition")
}

// judgeAll is and (all is true) or or.
func (s *scope) judgeAll(parts []any, all bool) (bool, error) {
	for _, part := range parts {
		if yes, err := s.judge(part); err != nil || yes != all {
			return yes, err
		}
	}
	return all, nil
}

func (s *scope) findInMap(argument any) (any, error) {
	at := any(s.template.mappings)
	for _, part := range list(argument) {
		key, err := s.resolve(part)
		if err != nil {
			return nil, err
		}
		next, there := object(at)[str(key)]
		if !there {
			return nil, templateError("Unable to get mapping for %s", str(key))
		}
		at = next
	}
	return at, nil
}

// there are the resources of the template whose condition holds, in its order.
func (s *scope) there() ([]string, error) {
	var ids []string
	for _, id := range s.template.order {
		if condition := s.template.resources[id].condition; condition != "" {
			yes, err := s.holds(condition)
			if err != nil {
				return nil, err
			}
			if !yes {
				continue
			}
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func pick(index string, items []any) (any, error) {
	i, err := strconv.Atoi(index)
	if err != nil || i < 0 || i >= len(items) {
		return nil, templateError("Fn::Select cannot select nonexistent value at index %s", index)
	}
	return items[i], nil
}

func texts(items []any) []string {
	all := make([]string, 0, len(items))
	for _, item := range items {
		all = append(all, str(item))
	}
	return all
}

func anys(items []string) []any {
	all := make([]any, 0, len(items))
	for _, item := range items {
		all = append(all, item)
	}
	return all
}

// same compares two trees whose functions are worked out.
func same(a, b any) bool {
	switch a := a.(type) {
	case []any:
		return slices.EqualFunc(a, asList(b), same) && isList(b)
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for key := range a {
			if other, there := b[key]; !there || !same(a[key], other) {
				return false
			}
		}
		return true
	default:
		_, isMap := b.(map[string]any)
		return !isMap && !isList(b) && str(a) == str(b)
	}
}

func isList(tree any) bool { _, ok := tree.([]any); return ok }

func asList(tree any) []any { items, _ := tree.([]any); return items }

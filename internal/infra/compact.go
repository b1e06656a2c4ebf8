package infra

import (
	"encoding/json"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// Compact is the same template as JSON without comments, for calls that take MaxTemplateBody bytes at most. It takes what Cloudformation
// wrote, also after a person has changed it; a mistake in it is deploy.ErrBadInput.
func Compact(template string) (string, error) {
	value, err := read(template)
	if err != nil {
		return "", err
	}
	return encode(value)
}

// read is a template as JSON has it.
func read(template string) (any, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(template), &doc); err != nil {
		return nil, fmt.Errorf("%w: the template is not YAML: %w", deploy.ErrBadInput, err)
	}
	if len(doc.Content) != 1 {
		return nil, fmt.Errorf("%w: the template is empty", deploy.ErrBadInput)
	}
	return plainOf(doc.Content[0])
}

func encode(value any) (string, error) {
	var out strings.Builder
	to := json.NewEncoder(&out)
	to.SetEscapeHTML(false)
	err := to.Encode(value)
	return strings.TrimSpace(out.String()), err
}

// plainOf makes of a node what JSON has for it. Short forms of intrinsic functions become their long ones.
func plainOf(n *yaml.Node) (any, error) {
	if function, ok := strings.CutPrefix(n.Tag, "!"); ok && !strings.HasPrefix(function, "!") {
		return intrinsic(function, n)
	}
	switch n.Kind {
	case yaml.MappingNode:
		all := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			name := n.Content[i].Value
			if _, twice := all[name]; twice {
				return nil, fmt.Errorf("%w: line %d: %s is there twice", deploy.ErrBadInput, n.Content[i].Line, name)
			}
			value, err := plainOf(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			all[name] = value
		}
		return all, nil
	case yaml.SequenceNode:
		all := []any{}
		for _, c := range n.Content {
			value, err := plainOf(c)
			if err != nil {
				return nil, err
			}
			all = append(all, value)
		}
		return all, nil
	case yaml.ScalarNode:
		var value any
		if err := n.Decode(&value); err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", deploy.ErrBadInput, n.Line, err)
		}
		return value, nil
	default:
		return nil, fmt.Errorf("%w: line %d: CloudFormation knows no aliases", deploy.ErrBadInput, n.Line)
	}
}

// intrinsic is a function of CloudFormation: !Ref and !Condition keep their names, the others begin with Fn::, and GetAtt has a list.
func intrinsic(function string, n *yaml.Node) (any, error) {
	bare := *n
	bare.Tag = ""
	if n.Kind == yaml.ScalarNode {
		bare.Tag, bare.Style = "!!str", yaml.DoubleQuotedStyle
	}
	value, err := plainOf(&bare)
	if err != nil {
		return nil, err
	}
	if text, ok := value.(string); ok && function == "GetAtt" {
		resource, attribute, _ := strings.Cut(text, ".")
		value = []string{resource, attribute}
	}
	if function != "Ref" && function != "Condition" {
		function = "Fn::" + function
	}
	return map[string]any{function: value}, nil
}

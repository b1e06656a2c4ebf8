package awsfake

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// template is a template of CloudFormation as the fake works with it: every scalar is a string, as CloudFormation takes 5432
// and "5432" for the same, and the short forms of YAML (!Ref) are the long ones.
type template struct {
	text       string
	parameters map[string]declaredParameter
	mappings   map[string]any
	conditions map[string]any
	resources  map[string]declared
	outputs    map[string]any
	order      []string // logical ids, what others need first
}

type declaredParameter struct {
	kind, fallback string
	optional       bool // it has a default
	hidden         bool // NoEcho
}

// declared is one resource as the template has it.
type declared struct {
	kind              string
	properties        map[string]any
	needs             []string // logical ids
	condition         string
	deletion, replace string // DeletionPolicy, UpdateReplacePolicy
}

const maxTemplateBody = 51200 // bytes, of a TemplateBody (CloudFormation, quotas)

func formatError(format string, args ...any) error {
	return refuse("ValidationError", "Template format error: "+format, args...)
}

// readTemplate reads JSON, which is YAML, or YAML.
func readTemplate(text string) (*template, error) {
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(text), &document); err != nil || len(document.Content) == 0 {
		return nil, formatError("YAML not well-formed.")
	}
	tree, err := treeOfNode(document.Content[0])
	if err != nil {
		return nil, err
	}
	root, ok := tree.(map[string]any)
	if !ok {
		return nil, formatError("unsupported structure.")
	}
	for key := range root {
		if !slices.Contains([]string{"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Mappings", "Conditions", "Resources", "Outputs", "Rules"}, key) {
			return nil, refuse("ValidationError", "Invalid template property or properties [%s]", key)
		}
	}
	t := &template{text: text, mappings: object(root["Mappings"]), conditions: object(root["Conditions"]), outputs: object(root["Outputs"])}
	t.readParameters(object(root["Parameters"]))
	if err := t.readResources(object(root["Resources"])); err != nil {
		return nil, err
	}
	return t, t.sort()
}

func (t *template) readParameters(from map[string]any) {
	t.parameters = map[string]declaredParameter{}
	for name, raw := range from {
		p := object(raw)
		fallback, optional := p["Default"]
		t.parameters[name] = declaredParameter{kind: str(p["Type"]), fallback: str(fallback), optional: optional, hidden: str(p["NoEcho"]) == "true"}
	}
}

func (t *template) readResources(from map[string]any) error {
	if len(from) == 0 {
		return formatError("At least one Resources member must be defined.")
	}
	t.resources = map[string]declared{}
	for id, raw := range from {
		r := object(raw)
		kind := str(r["Type"])
		if _, known := resourceKinds[kind]; !known {
			return formatError("Unrecognized resource types: [%s]", kind)
		}
		for key := range r {
			if !slices.Contains([]string{"Type", "Properties", "DependsOn", "Condition", "Metadata", "DeletionPolicy", "UpdateReplacePolicy", "CreationPolicy", "UpdatePolicy"}, key) {
				return refuse("ValidationError", "Invalid template resource property '%s'", key)
			}
		}
		d := declared{kind: kind, properties: object(r["Properties"]), condition: str(r["Condition"]), deletion: str(r["DeletionPolicy"]), replace: str(r["UpdateReplacePolicy"])}
		if d.properties == nil {
			d.properties = map[string]any{}
		}
		d.needs = needsOf(r["DependsOn"], d.properties)
		t.resources[id] = d
	}
	return nil
}

// needsOf are the names that a resource waits for: DependsOn, and what its properties refer to.
func needsOf(dependsOn any, properties map[string]any) []string {
	found := map[string]bool{}
	for _, name := range list(dependsOn) {
		found[str(name)] = true
	}
	references(properties, func(name, _ string) { found[name] = true })
	return slices.Sorted(maps.Keys(found))
}

// sort puts what is needed before what needs it, and refuses names that are not there, and circles.
func (t *template) sort() error {
	const busy, done = 1, 2
	state := map[string]int{}
	var visit func(id string) error
	visit = func(id string) error {
		switch state[id] {
		case done:
			return nil
		case busy:
			return refuse("ValidationError", "Circular dependency between resources: [%s]", id)
		}
		state[id] = busy
		for _, need := range t.resources[id].needs {
			if _, there := t.resources[need]; there {
				if err := visit(need); err != nil {
					return err
				}
			} else if _, there := t.parameters[need]; !there && !strings.HasPrefix(need, "AWS::") {
				return formatError("Unresolved resource dependencies [%s] in the Resources block of the template", need)
			}
		}
		state[id], t.order = done, append(t.order, id)
		return nil
	}
	for _, id := range slices.Sorted(maps.Keys(t.resources)) {
		if err := visit(id); err != nil {
			return err
		}
	}
	return nil
}

// references calls found with every name and attribute ("" for Ref) that a tree of the template refers to.
func references(tree any, found func(name, attribute string)) {
	switch tree := tree.(type) {
	case []any:
		for _, item := range tree {
			references(item, found)
		}
	case map[string]any:
		for key, value := range tree {
			switch key {
			case "Ref":
				found(str(value), "")
			case "Fn::GetAtt":
				found(getAtt(value))
			case "Fn::Sub":
				referencesOfSub(value, found)
			default:
				references(value, found)
			}
		}
	}
}

func referencesOfSub(value any, found func(name, attribute string)) {
	text, own := subOf(value)
	references(own, found)
	_, _ = substitute(text, func(name string) (string, error) {
		if _, given := own[name]; !given {
			name, attribute, _ := strings.Cut(name, ".")
			found(name, attribute)
		}
		return "", nil
	})
}

// subOf are the text of an Fn::Sub and the names that it brings itself.
func subOf(value any) (string, map[string]any) {
	if parts, ok := value.([]any); ok && len(parts) == 2 {
		return str(parts[0]), object(parts[1])
	}
	return str(value), nil
}

// substitute puts values in the place of ${Name}; ${!Name} is a literal ${Name}.
func substitute(text string, value func(name string) (string, error)) (string, error) {
	b := &strings.Builder{}
	for {
		before, rest, there := strings.Cut(text, "${")
		b.WriteString(before)
		if !there {
			return b.String(), nil
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", formatError("an Fn::Sub is not closed")
		}
		text = after
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			b.WriteString("${" + literal + "}")
			continue
		}
		v, err := value(strings.TrimSpace(name))
		if err != nil {
			return "", err
		}
		b.WriteString(v)
	}
}

func getAtt(value any) (name, attribute string) {
	parts := list(value)
	if len(parts) == 2 {
		return str(parts[0]), str(parts[1])
	}
	name, attribute, _ = strings.Cut(str(value), ".")
	return name, attribute
}

// treeOfNode makes maps, lists and strings of YAML. A key that stands twice is refused, as CloudFormation does.
func treeOfNode(n *yaml.Node) (any, error) {
	tree, err := plainTree(n)
	if err != nil {
		return nil, err
	}
	function, short := strings.CutPrefix(n.Tag, "!")
	if !short || strings.HasPrefix(function, "!") || function == "" {
		return tree, nil
	}
	if function == "GetAtt" {
		name, attribute := getAtt(tree)
		return map[string]any{"Fn::GetAtt": []any{name, attribute}}, nil
	}
	if function != "Ref" && function != "Condition" {
		function = "Fn::" + function
	}
	return map[string]any{function: tree}, nil
}

func plainTree(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.AliasNode:
		return treeOfNode(n.Alias)
	case yaml.SequenceNode:
		items := make([]any, 0, len(n.Content))
		for _, child := range n.Content {
			item, err := treeOfNode(child)
			if err != nil {
				return nil, err
			}
			items = append(items, item)
		}
		return items, nil
	case yaml.MappingNode:
		return mappingTree(n)
	default:
		return scalarTree(n), nil
	}
}

func mappingTree(n *yaml.Node) (any, error) {
	found := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i].Value
		if _, twice := found[key]; twice {
			return nil, formatError("duplicate key %s on line %d", key, n.Content[i].Line)
		}
		value, err := treeOfNode(n.Content[i+1])
		if err != nil {
			return nil, err
		}
		found[key] = value
	}
	return found, nil
}

func scalarTree(n *yaml.Node) any {
	if n.Tag == "!!bool" {
		yes, _ := strconv.ParseBool(strings.ToLower(n.Value))
		return strconv.FormatBool(yes)
	}
	return n.Value
}

func object(tree any) map[string]any {
	found, _ := tree.(map[string]any)
	return found
}

// list takes a single thing for a list of one, as DependsOn allows.
func list(tree any) []any {
	switch tree := tree.(type) {
	case nil:
		return nil
	case []any:
		return tree
	default:
		return []any{tree}
	}
}

func str(tree any) string {
	if tree == nil {
		return ""
	}
	if text, ok := tree.(string); ok {
		return text
	}
	return fmt.Sprint(tree)
}

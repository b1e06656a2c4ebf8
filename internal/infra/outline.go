package infra

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"go.yaml.in/yaml/v4"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// outline is what is asked of a template here: its resources, what holds data among them, and what becomes of that.
type outline map[string]outlined

type outlined struct {
	Kind            string
	Deletion        string // DeletionPolicy
	Replacement     string // UpdateReplacePolicy
	DeletionGuarded bool   // DeletionProtection
}

func outlineOf(template string) (outline, error) {
	var doc struct {
		Resources map[string]struct {
			DeletionPolicy      string               `yaml:"DeletionPolicy"`
			UpdateReplacePolicy string               `yaml:"UpdateReplacePolicy"`
			Kind                string               `yaml:"Type"`
			Properties          map[string]yaml.Node `yaml:"Properties"`
		} `yaml:"Resources"`
	}
	if err := yaml.Unmarshal([]byte(template), &doc); err != nil {
		return nil, fmt.Errorf("%w: the template is not YAML: %w", deploy.ErrBadInput, err)
	}
	o := outline{}
	for name, r := range doc.Resources {
		guard := r.Properties["DeletionProtection"]
		o[name] = outlined{Kind: r.Kind, Deletion: r.DeletionPolicy, Replacement: r.UpdateReplacePolicy, DeletionGuarded: guard.Value == "true"}
	}
	return o, nil
}

// holding are kinds of resource that hold data, and what is lost with them.
var holding = map[string]string{
	"AWS::RDS::DBInstance":        "the database",
	"AWS::RDS::DBCluster":         "the database",
	"AWS::S3::Bucket":             "the files in it",
	"AWS::EFS::FileSystem":        "the files in it",
	"AWS::DynamoDB::Table":        "the table",
	"AWS::SecretsManager::Secret": "the secret's value",
	"AWS::KMS::Key":               "whatever was encrypted with it",
	"AWS::Logs::LogGroup":         "the log",
	"AWS::Cognito::UserPool":      "the accounts in it",
}

// data are the names of what holds data, sorted.
func data(o outline) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if _, holds := holding[o[name].Kind]; holds {
			names = append(names, name)
		}
	}
	return names
}

// weakened are resources that hold data and that AWS would no longer keep, or keep a copy of, when they go. policies says which of the two
// policies it is.
func weakened(before, after outline) map[string]string {
	found := map[string]string{}
	for _, name := range data(before) {
		b, a := before[name], after[name]
		if a.Kind == "" {
			continue // it is removed, which is told as such
		}
		switch {
		case keeps(a.Deletion) < keeps(b.Deletion):
			found[name] = "DeletionPolicy " + b.Deletion + " is taken away"
		case keeps(a.Replacement) < keeps(b.Replacement):
			found[name] = "UpdateReplacePolicy " + b.Replacement + " is taken away"
		case b.DeletionGuarded && !a.DeletionGuarded:
			found[name] = "DeletionProtection is taken away"
		}
	}
	return found
}

// keeps orders policies by how much they keep.
func keeps(policy string) int {
	switch policy {
	case "Retain", "RetainExceptOnCreate":
		return 2
	case "Snapshot":
		return 1
	default:
		return 0
	}
}

// guard is the policy of a stack: nothing that holds data is replaced or deleted, but for what is named. All of it must be in the stack,
// or CloudFormation refuses the policy, which has at most 16,384 bytes (SetStackPolicy).
func guard(holds, named []string) string {
	var held []string
	for _, name := range holds {
		if !slices.Contains(named, name) {
			held = append(held, "LogicalResourceId/"+name)
		}
	}
	type statement struct {
		Effect    string
		Action    []string
		Principal string
		Resource  []string
	}
	statements := []statement{{"Allow", []string{"Update:*"}, "*", []string{"*"}}}
	if len(held) > 0 {
		statements = append(statements, statement{"Deny", []string{"Update:Replace", "Update:Delete"}, "*", held})
	}
	raw, _ := json.Marshal(map[string]any{"Statement": statements})
	return string(raw)
}

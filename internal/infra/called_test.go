package infra

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// granting are the actions by which IAM calls what the API calls otherwise (Service Authorization Reference, "Amazon S3").
var granting = map[string][]string{
	"s3:HeadObject": {"s3:GetObject"}, "s3:ListObjectsV2": {"s3:ListBucket"}, "s3:DeleteObjects": {"s3:DeleteObject"}, "s3:CopyObject": {"s3:GetObject", "s3:PutObject"},
}

// callsOf are the actions that a room's files ask AWS for, by the inputs of the SDK that they fill in, in the order of their names.
func callsOf(t *testing.T, room string) (actions []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", room, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	see := func(n ast.Node) bool {
		filled, is := n.(*ast.CompositeLit)
		if !is {
			return true
		}
		kind, is := filled.Type.(*ast.SelectorExpr)
		if !is {
			return true
		}
		if name, input := strings.CutSuffix(kind.Sel.Name, "Input"); input {
			action := kind.X.(*ast.Ident).Name + ":" + name
			if granted := granting[action]; granted != nil {
				actions = append(actions, granted...)
			} else {
				actions = append(actions, action)
			}
		}
		return true
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, see)
	}
	slices.Sort(actions)
	return slices.Compact(actions)
}

// allowedOn are the actions that a policy allows on a thing, or, where AWS knows no narrower word, on everything.
func allowedOn(policy []Statement, thing string) map[string]Statement {
	allowed := map[string]Statement{}
	for _, s := range policy {
		for _, a := range s.Actions {
			if !narrowable(a) || slices.ContainsFunc(s.Resources, func(r string) bool { return strings.Contains(r, thing) }) {
				allowed[a] = s
			}
		}
	}
	return allowed
}

// What the vault, the shared history and the sites in S3 call is allowed on what is theirs, and what is allowed for them alone is called.
func TestPolicyIsWhatOthersCall(t *testing.T) {
	for _, c := range []struct{ room, shape, thing, only string }{
		{"vault", "mixed", ":secret:lotse/whatsgonow/*", ForSecrets},
		{"vault", "static", ":secret:lotse/shop/*", ForSecrets},
		{"share", "mixed", "lotse-whatsgonow-releases-", ForHistory},
		{"share", "static", "lotse-shop-releases-", ForHistory},
		{"bucket", "static", "-site-", ""},
	} {
		policy, calls := Policy(shape(t, c.shape)), callsOf(t, c.room)
		if len(calls) < 3 {
			t.Errorf("%s calls %v, which cannot be all", c.room, calls)
		}
		allowed := allowedOn(policy, c.thing)
		for _, a := range calls {
			if _, is := allowed[a]; !is && !strings.HasPrefix(a, "cloudfront:") { // a distribution has no name of ours; its tag is asked for
				t.Errorf("%s calls %s, which no statement for %s allows on %s", c.room, a, c.shape, c.thing)
			}
		}
		for _, s := range policy {
			for _, a := range s.Actions {
				if c.only != "" && s.For == c.only && !slices.Contains(calls, a) {
					t.Errorf("%s is allowed for %s alone, which never calls it", a, c.room)
				}
			}
		}
	}
}

// The comparison sees a call that is not allowed, and an allowance that nobody uses.
func TestCallsAreSeen(t *testing.T) {
	calls := callsOf(t, "vault")
	for _, want := range []string{"secretsmanager:BatchGetSecretValue", "secretsmanager:ListSecrets", "secretsmanager:RestoreSecret", "sts:GetCallerIdentity"} {
		if !slices.Contains(calls, want) {
			t.Errorf("%s was not seen among %v", want, calls)
		}
	}
	policy := []Statement{{"Secrets", ForSecrets, []string{"secretsmanager:PutSecretValue"}, []string{secret("lotse/other/*")}, nil}}
	if _, is := allowedOn(policy, ":secret:lotse/whatsgonow/*")["secretsmanager:PutSecretValue"]; is {
		t.Error("what is allowed on another app's secrets counts for this one's")
	}
}

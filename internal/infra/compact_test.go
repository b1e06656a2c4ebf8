package infra

import (
	"errors"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// What is made first, when there is no bucket yet, goes into a call: the whole template, or the seed of one that is too long for it, as that
// of the example app is.
func TestFirstGoesIntoACall(t *testing.T) {
	for name := range shapes {
		files, err := Cloudformation(shape(t, name), Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := Compact(f.Content)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s %s: %d bytes, compact %d", name, f.Name, len(f.Content), len(text))
			if len(text) > len(f.Content) {
				t.Errorf("%s %s has %d bytes without comments, and %d with them", name, f.Name, len(text), len(f.Content))
			}
			if long := len(text) > MaxTemplateBody; long != (name == "mixed") || long && f.Name != "cloudformation.yaml" {
				t.Errorf("%s %s has %d bytes without comments", name, f.Name, len(text))
			}
			if f.Name != "cloudformation.yaml" {
				continue
			}
			seed, err := seedOf(f.Content)
			if err != nil || len(seed) > MaxTemplateBody/4 {
				t.Errorf("the seed of %s has %d bytes: %v", name, len(seed), err)
			}
		}
	}
}

func TestCompact(t *testing.T) {
	for template, want := range map[string]string{
		"A: !Ref B # a comment":           `{"A":{"Ref":"B"}}`,
		"A: !GetAtt B.C.D":                `{"A":{"Fn::GetAtt":["B","C.D"]}}`,
		`A: !Sub "${B}-1"`:                `{"A":{"Fn::Sub":"${B}-1"}}`,
		"A: !If [B, !Ref C, !Ref D]":      `{"A":{"Fn::If":["B",{"Ref":"C"},{"Ref":"D"}]}}`,
		`A: !Select [0, !GetAZs ""]`:      `{"A":{"Fn::Select":[0,{"Fn::GetAZs":""}]}}`,
		"A: [1, true, \"1\", 01:00, a<b]": `{"A":[1,true,"1","01:00","a<b"]}`,
		`V: "2012-10-17"`:                 `{"V":"2012-10-17"}`,
		"A: !Ref 12":                      `{"A":{"Ref":"12"}}`,
		"A: |\n  x\n  y\n":                `{"A":"x\ny\n"}`,
	} {
		if got, err := Compact(template); err != nil || got != want {
			t.Errorf("%s became %s (%v), want %s", template, got, err, want)
		}
	}
	for template, says := range map[string]string{
		"A: [":                 "not YAML",
		"":                     "empty",
		"A: &a 1\nB: *a":       "no aliases",
		"R:\n  A: 1\n  A: 2\n": "twice",
	} {
		if got, err := Compact(template); !errors.Is(err, deploy.ErrBadInput) || !strings.Contains(err.Error(), says) {
			t.Errorf("%q became %s (%v), want an error that says %q", template, got, err, says)
		}
	}
}

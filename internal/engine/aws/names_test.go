package aws

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

func named(app, stage string) *Engine {
	return &Engine{Config: Config{App: app, Stage: deploy.Stage{Name: stage}}}
}

// Every name is one that Elastic Beanstalk takes, and two of anything never share one.
func TestNames(t *testing.T) {
	long := strings.Repeat("x", 63)
	ids := []string{"a", "b", "20261123-101500-abcdef", strings.Repeat("r", 40)}
	seen := map[string]string{}
	shape := regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	for _, of := range [][2]string{{"shop", "dev"}, {"shop", "dev-x"}, {"shop-dev", "x"}, {"a", "b"}, {"whatsgonow-with-23-letter", "pre-prod"}, {long, long}, {long, long[:62] + "y"}} {
		e := named(of[0], of[1])
		for _, id := range ids {
			name, label := e.environmentName(id), e.versionLabel(id)
			if len(name) < 4 || len(name) > 40 || !shape.MatchString(name) {
				t.Errorf("%v: the environment's name %q", of, name)
			}
			if len(label) < 1 || len(label) > 100 {
				t.Errorf("%v: the label %q", of, label)
			}
			if who := of[0] + "/" + of[1] + "/" + id; seen[name] != "" {
				t.Errorf("%s and %s are both %s", who, seen[name], name)
			} else {
				seen[name] = who
			}
			if !e.mayBeOurs(name) {
				t.Errorf("%v does not know %s", of, name)
			}
		}
		if p := e.prefix(); len(p) > 63 || !shape.MatchString(p) {
			t.Errorf("%v: the prefix %q", of, p)
		}
		if !e.mayBeOurs(e.parkingName()) || len(e.parkingName()) > 40 {
			t.Errorf("%v: the parking name %q", of, e.parkingName())
		}
	}
	if named("shop", "dev").mayBeOurs(named("shop", "dev-x").environmentName("a")) {
		t.Error("an environment of dev-x may be one of dev")
	}
}

func TestCamel(t *testing.T) {
	for stage, want := range map[string]string{"dev": "Dev", "pre-prod": "PreProd", "a-1-b": "A1B"} {
		if got := camel(stage); got != want {
			t.Errorf("%s is %s, want %s", stage, got, want)
		}
	}
}

// What Elastic Beanstalk would refuse is refused before anything starts; a secret counts as its reference.
func TestVariablesThatFit(t *testing.T) {
	plain := func(name string, n int) deploy.Setting {
		return deploy.Setting{Name: name, Value: secret.New(strings.Repeat("v", n))}
	}
	for name, c := range map[string]struct {
		all   []deploy.Setting
		wants []string
	}{
		"exactly":      {[]deploy.Setting{plain("A", 2046), plain("B", 2046)}, nil},
		"one too many": {[]deploy.Setting{plain("SMALL", 1000), plain("LARGE", 3085)}, []string{"4097 bytes", "4096", "LARGE with 3091"}},
		"a large secret": {[]deploy.Setting{{Name: "KEY", Value: secret.New(strings.Repeat("v", 9000)),
			Reference: "arn:aws:secretsmanager:eu-central-1:123456789012:secret:lotse/shop/dev/KEY-abcdef"}}, nil},
		"a name with a space":    {[]deploy.Setting{plain("A B", 1)}, []string{"A B"}},
		"a name with a dot":      {[]deploy.Setting{plain("spring.profile", 1)}, nil},
		"a secret in small ones": {[]deploy.Setting{{Name: "key", Reference: "arn"}}, []string{"no secret", "key"}},
	} {
		err := fits(c.all)
		if (err == nil) != (c.wants == nil) || err != nil && !errors.Is(err, deploy.ErrBadInput) {
			t.Errorf("%s: %v", name, err)
		}
		for _, want := range c.wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: it does not say %q: %v", name, want, err)
			}
		}
		if err != nil && strings.Contains(err.Error(), "vvv") {
			t.Errorf("%s: a value is told", name)
		}
	}
}

func TestMachines(t *testing.T) {
	web, one := deploy.Service{Name: "web", Command: "./web", Path: "/", Instances: 2}, deploy.Service{Name: "mailer", Command: "./mailer", Instances: 1}
	site := deploy.Service{Name: "site", Static: "dist"}
	if n, err := machines([]deploy.Service{web, site}); n != 2 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	if _, err := machines([]deploy.Service{web, one}); !errors.Is(err, deploy.ErrUnsupported) || !strings.Contains(err.Error(), "mailer") {
		t.Errorf("different numbers: %v", err)
	}
	tag := serviceTag([]deploy.Service{web, site})
	back := labels{tagServices: tag}.services("n")
	if len(back) != 2 || back[0].Name != "web" || len(back[0].Instances) != 2 || len(back[1].Instances) != 0 {
		t.Errorf("%q is read as %+v", tag, back)
	}
	var many []deploy.Service
	for range 60 {
		many = append(many, one)
	}
	if n := len(serviceTag(many)); n > tagMost {
		t.Errorf("a tag with %d letters", n)
	}
}

func TestLanguage(t *testing.T) {
	for command, want := range map[string]string{"node server.js": "Node.js", "npm start": "Node.js", "next start": "Node.js", "./app": "Go", "nodemon x": "Go"} {
		if got := language([]deploy.Service{{Name: "a", Static: "x"}, {Name: "b", Command: command}}); got != want {
			t.Errorf("%s runs on %s, want %s", command, got, want)
		}
	}
	if !newer("Node.js 24 running on 64bit Amazon Linux 2023", "Node.js 8 running on 64bit Amazon Linux 2023") || newer("4.5.0", "4.5.1") || !newer("4.10.0", "4.9.9") {
		t.Error("versions are compared as text")
	}
}

package plane_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lotse-eu/lotse/internal/awsfake/plane"
)

func when(field string, values ...string) plane.Condition {
	return plane.Condition{Field: field, Values: values}
}

func TestRules(t *testing.T) {
	p := open(t, plane.Options{})
	l := balanced(t, p, plane.Fixed(404, "default"))
	reach := plane.Condition{Field: "http-header", Header: "Lotse-Reach", Values: []string{"token-*"}}
	err := l.SetRules([]plane.Rule{ // not in the order of their priority
		{Priority: 30, Conditions: []plane.Condition{when("host-header", "*.example.com")}, Action: plane.Fixed(200, "any host")},
		{Priority: 20, Conditions: []plane.Condition{when("host-header", "APP.example.com")}, Action: plane.Fixed(200, "the host")},
		{Priority: 10, Conditions: []plane.Condition{when("host-header", "app.example.com"), reach}, Action: plane.Fixed(200, "reach")},
		{Priority: 15, Conditions: []plane.Condition{when("path-pattern", "/a?c/*", "/x")}, Action: plane.Fixed(200, "path")},
		{Priority: 16, Conditions: []plane.Condition{when("http-request-method", "PATCH"), when("path-pattern", "/y")}, Action: plane.Fixed(200, "never")},
		{Priority: 5, Conditions: []plane.Condition{when("path-pattern", "/old")}, Action: plane.Action{Redirect: &plane.Redirect{Code: 302, Host: "new.#{host}", Path: "/new/#{path}", Port: "8443"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Names().Set(plane.Record{Name: "other.example.com", Type: "CNAME", Values: []string{host}}); err != nil {
		t.Fatal(err)
	}
	c := client(t, p)
	for _, test := range []struct {
		url, want string
		header    []string
	}{
		{url: "https://app.example.com/", want: "the host"},
		{url: "https://APP.EXAMPLE.COM/", want: "the host"},
		{url: "https://other.example.com/", want: "any host"},
		{url: "https://app.example.com/", header: []string{"lotse-reach", "token-1"}, want: "reach"},
		{url: "https://app.example.com/", header: []string{"Lotse-Reach", "other"}, want: "the host"},
		{url: "https://other.example.com/", header: []string{"Lotse-Reach", "token-1"}, want: "any host"},
		{url: "https://app.example.com/abc/d/e", want: "path"},
		{url: "https://app.example.com/ABC/d", want: "the host"},
		{url: "https://app.example.com/abbc/d", want: "the host"},
		{url: "https://app.example.com/x/", want: "the host"},
		{url: "https://app.example.com/y", want: "the host"},
	} {
		if _, body, _ := get(t, c, test.url, test.header...); body != test.want {
			t.Errorf("%s %v: %q, want %q", test.url, test.header, body, test.want)
		}
	}
	code, _, answer := get(t, c, "https://app.example.com/old?q=1")
	if where := answer.Header.Get("Location"); code != 302 || where != "https://new.app.example.com:8443/new/old?q=1" {
		t.Errorf("%d to %s", code, where)
	}
	if err := l.SetRules(nil); err != nil {
		t.Fatal(err)
	}
	if code, body, answer := get(t, c, "https://app.example.com/"); code != 404 || body != "default" || answer.Header.Get("Server") != "awselb/2.0" {
		t.Errorf("%d %q", code, body)
	}
	if err := l.SetDefault(plane.Fixed(503, "away")); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := get(t, c, "https://app.example.com/"); code != 503 {
		t.Errorf("%d", code)
	}
}

func TestRulesThatAreRefused(t *testing.T) {
	p := open(t, plane.Options{})
	l := balanced(t, p, plane.Fixed(404, ""))
	g, elsewhere := group(t, p, "g"), group(t, p, "elsewhere")
	other, err := p.NewBalancer(plane.BalancerOptions{Name: "other.elb.amazonaws.com"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Listen(plane.ListenerOptions{Port: 80, Default: plane.Forward(plane.Weighted{Group: elsewhere, Weight: 1})}); err != nil {
		t.Fatal(err)
	}
	many := slices.Repeat([]plane.Weighted{{Group: g, Weight: 1}}, 6)
	for name, rules := range map[string][]plane.Rule{
		"two of one priority":  {{Priority: 1, Action: plane.Fixed(200, "")}, {Priority: 1, Action: plane.Fixed(200, "")}},
		"no action":            {{Priority: 1}},
		"two actions":          {{Priority: 1, Action: plane.Action{Fixed: &plane.FixedResponse{}, Redirect: &plane.Redirect{}}}},
		"unknown condition":    {{Priority: 1, Conditions: []plane.Condition{when("weather", "x")}, Action: plane.Fixed(200, "")}},
		"condition of nothing": {{Priority: 1, Conditions: []plane.Condition{when("host-header")}, Action: plane.Fixed(200, "")}},
		"weight":               {{Priority: 1, Action: plane.Forward(plane.Weighted{Group: g, Weight: 1000})}},
		"no group":             {{Priority: 1, Action: plane.Forward(plane.Weighted{Weight: 1})}},
		"six groups":           {{Priority: 1, Action: plane.Forward(many...)}},
		"group of another":     {{Priority: 1, Action: plane.Forward(plane.Weighted{Group: g, Weight: 1}, plane.Weighted{Group: elsewhere, Weight: 1})}},
	} {
		err := l.SetRules(rules)
		if err == nil || name == "group of another" && !errors.Is(err, plane.ErrInUse) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := g.Register(serve(t, "s", says("s"))); err != nil {
		t.Fatal(err)
	}
	if h := g.Health()[0]; h.State != "unused" || h.Reason != "Target.NotInUse" {
		t.Errorf("a refused table left the group in use: %+v", h)
	}
}

// New rules hold after the propagation time and not before.
func TestPropagation(t *testing.T) {
	p := open(t, plane.Options{Propagation: 400 * time.Millisecond})
	l := balanced(t, p, plane.Fixed(404, "before"))
	c := client(t, p)
	set := time.Now()
	if err := l.SetDefault(plane.Fixed(200, "after")); err != nil {
		t.Fatal(err)
	}
	if _, body, _ := get(t, c, "https://"+host); body != "before" {
		t.Errorf("at once it is %q", body)
	}
	eventually(t, "the new rules", func() bool { _, body, _ := get(t, c, "https://"+host); return body == "after" })
	if took := time.Since(set); took < 400*time.Millisecond {
		t.Errorf("they held after %v", took)
	}
}

// Weights share the requests.
func TestWeights(t *testing.T) {
	p := open(t, plane.Options{})
	old, fresh := group(t, p, "old", serve(t, "o", says("old"))), group(t, p, "new", serve(t, "n", says("new")))
	l := balanced(t, p, plane.Forward(plane.Weighted{Group: old, Weight: 80}, plane.Weighted{Group: fresh, Weight: 20}))
	healthy(t, old)
	healthy(t, fresh)
	c, count := client(t, p), map[string]int{}
	for range 1000 {
		_, body, _ := get(t, c, "https://"+host)
		count[body]++
	}
	if count["new"] < 130 || count["new"] > 270 || count["old"]+count["new"] != 1000 { // 200 ± 5 standard deviations
		t.Errorf("answers %v, want about 800 and 200", count)
	}
	if err := l.SetDefault(plane.Forward(plane.Weighted{Group: old, Weight: 0}, plane.Weighted{Group: fresh, Weight: 1})); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, body, _ := get(t, c, "https://"+host); body != "new" {
			t.Fatalf("weight 0 answered %q", body)
		}
	}
	if err := l.SetDefault(plane.Forward(plane.Weighted{Group: old, Weight: 0})); err != nil {
		t.Fatal(err)
	}
	if code, _, _ := get(t, c, "https://"+host); code != 503 {
		t.Errorf("no weight at all answers %d", code)
	}
}

// A client stays with its target group until the duration is over or the group leaves the rule, whatever the weights.
func TestStickiness(t *testing.T) {
	now := time.Now()
	p := open(t, plane.Options{Clock: func() time.Time { return now }})
	old, fresh := group(t, p, "old", serve(t, "o", says("old"))), group(t, p, "new", serve(t, "n", says("new")))
	shares := func(o, n int) plane.Action {
		return plane.Action{Sticky: time.Hour, Forward: []plane.Weighted{{Group: old, Weight: o}, {Group: fresh, Weight: n}}}
	}
	l := balanced(t, p, shares(1, 0))
	healthy(t, old)
	healthy(t, fresh)
	c := client(t, p)
	_, body, answer := get(t, c, "https://"+host)
	cookie := answer.Cookies()[0]
	if body != "old" || cookie.Name != "AWSALBTG" || !cookie.Expires.Equal(now.Add(time.Hour).UTC().Truncate(time.Second)) {
		t.Fatalf("%q with cookie %v", body, cookie)
	}
	if strings.Contains(cookie.Value, "old") {
		t.Error("the cookie names the group in the clear")
	}
	stay := []string{"Cookie", "AWSALBTG=" + cookie.Value}
	if err := l.SetDefault(shares(0, 1)); err != nil {
		t.Fatal(err)
	}
	if _, body, _ := get(t, c, "https://"+host, stay...); body != "old" {
		t.Errorf("the client was moved to %q", body)
	}
	if _, body, _ := get(t, c, "https://"+host); body != "new" {
		t.Errorf("another client is at %q", body)
	}
	if _, body, _ := get(t, c, "https://"+host, "Cookie", "AWSALBTG=nonsense"); body != "new" {
		t.Errorf("nonsense leads to %q", body)
	}
	now = now.Add(time.Hour + time.Second)
	if _, body, _ := get(t, c, "https://"+host, stay...); body != "new" {
		t.Errorf("after the duration the client is at %q", body)
	}
	now = now.Add(-2 * time.Minute)
	if err := l.SetDefault(plane.Action{Sticky: time.Hour, Forward: []plane.Weighted{{Group: fresh, Weight: 1}}}); err != nil {
		t.Fatal(err)
	}
	if _, body, _ := get(t, c, "https://"+host, stay...); body != "new" {
		t.Errorf("a group that left the rule answers %q", body)
	}
}

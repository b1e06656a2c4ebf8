package config_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/lotse-eu/lotse/internal/config"
	"github.com/lotse-eu/lotse/internal/deploy"
)

// ruled is the smallest file with rules at its stages.
func ruled(dev, staging, prod string) []byte {
	stage := func(name, rules string) string {
		text := "  " + name + ":\n    url: https://" + name + ".shop.localhost\n"
		for line := range strings.Lines(rules) {
			text += "    " + line
		}
		return strings.TrimSuffix(text, "\n") + "\n"
	}
	return []byte("app: shop\nservices: { web: { command: bin/web, path: / } }\nstages:\n" + stage("dev", dev) + stage("staging", staging) + stage("prod", prod))
}

func TestRules(t *testing.T) {
	const day = 24 * time.Hour
	schema, _ := compiled(t)
	for _, c := range []struct {
		rules string
		want  deploy.Stage
	}{
		{"approvals: 2", deploy.Stage{Approvals: deploy.Consent{People: 2, Within: day}}},
		{"approvals: { by: [Ada, bo@example.org], not_author: true, within: 2h }", deploy.Stage{Approvals: deploy.Consent{People: 1, By: []string{"Ada", "bo@example.org"}, NotAuthor: true, Within: 2 * time.Hour}}},
		{"approvals: { people: 2, within: 48h }", deploy.Stage{Approvals: deploy.Consent{People: 2, Within: 2 * day}}},
		{"sign_off: { by: [Cleo] }", deploy.Stage{SignOff: deploy.Consent{People: 1, By: []string{"Cleo"}}}},
		{"sign_off: 1", deploy.Stage{SignOff: deploy.Consent{People: 1}}},
		{"freeze: always", deploy.Stage{Freeze: deploy.Freeze{Always: true}}},
		{"freeze: { always: true, reason: no features here }", deploy.Stage{Freeze: deploy.Freeze{Always: true, Reason: "no features here"}}},
		{"freeze: { from: \"2026-12-18\", to: \"2027-01-06 12:00 Europe/Berlin\", reason: Christmas }\nhotfix: \"Hotfix: yes\"",
			deploy.Stage{Freeze: deploy.Freeze{From: "2026-12-18", To: "2027-01-06 12:00 Europe/Berlin", Reason: "Christmas"}, Hotfix: "Hotfix: yes"}},
		{"closed: [Fri 16:00 - Mon 07:00 Europe/Berlin, 2026-12-24 - 2026-12-26]", deploy.Stage{Closed: []string{"Fri 16:00 - Mon 07:00 Europe/Berlin", "2026-12-24 - 2026-12-26"}}},
		{"", deploy.Stage{}},
	} {
		app, err := config.Read("lotse.yaml", ruled("", c.rules, ""))
		if err != nil {
			t.Errorf("%s: %v", c.rules, err)
			continue
		}
		if err := schema.Validate(asEditorsSeeIt(t, ruled("", c.rules, ""))); err != nil {
			t.Errorf("%s: the schema: %v", c.rules, err)
		}
		s := app.Stages[1]
		got := deploy.Stage{Approvals: s.Approvals, SignOff: s.SignOff, Freeze: s.Freeze, Hotfix: s.Hotfix, Closed: s.Closed}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.rules, diff)
		}
	}
}

// A date without quotes is a kind of its own in YAML, and means the same.
func TestRulesWithBareDates(t *testing.T) {
	app, err := config.Read("lotse.yaml", ruled("", "freeze: { from: 2026-12-18, to: 2027-01-06 }", ""))
	if err != nil || app.Stages[1].Freeze != (deploy.Freeze{From: "2026-12-18", To: "2027-01-06"}) {
		t.Errorf("it is %+v, %v", app.Stages, err)
	}
}

func TestStarts(t *testing.T) {
	for on, want := range map[string]deploy.Push{
		"push main":                                    {Branch: "main"},
		"push main at 0 6 * * 1-5":                     {Branch: "main", Schedule: "0 6 * * 1-5"},
		"push release/1 at @daily":                     {Branch: "release/1", Schedule: "@daily"},
		"push main at CRON_TZ=Europe/Berlin 0 6 * * *": {Branch: "main", Schedule: "CRON_TZ=Europe/Berlin 0 6 * * *"},
		"tag v*":          {Tag: "v*"},
		"tag release/*.*": {Tag: "release/*.*"},
	} {
		app, err := config.Read("lotse.yaml", ruled("on: "+on, "on: schedule 0 7 * * *", ""))
		if err != nil || app.Stages[0].On != want || app.Stages[1].On != (deploy.Push{Schedule: "0 7 * * *"}) {
			t.Errorf("%s: %+v, %v", on, app.Stages, err)
		}
	}
}

// Each mistake is told at its place, with what to write instead.
func TestRulesThatAreNone(t *testing.T) {
	for _, c := range []struct{ dev, staging, prod, says string }{
		{"on: schedule 0 6 * * *", "", "", "lotse.yaml:6:9: stages.dev.on must say at the first stage which branch is meant"},
		{"on: push main at dawn", "", "", "lotse.yaml:6:9: stages.dev.on must be a schedule as cron has it"},
		{"on: push main at", "", "", "lotse.yaml:6:9: stages.dev.on must be push and the name of a branch, tag and a pattern of tags, or schedule and its times"},
		{"on: tag", "", "", "lotse.yaml:6:9: stages.dev.on must be push and the name of a branch, tag and a pattern of tags, or schedule"},
		{"on: 'tag '", "", "", "lotse.yaml:6:9: stages.dev.on must be push and the name of a branch, tag and a pattern of tags, or schedule"},
		{"", "", "on: tag v[0-9]*", "lotse.yaml:10:9: stages.prod.on must be tag and a pattern of tags"},
		{"", "", "on: tag v?", "lotse.yaml:10:9: stages.prod.on must be tag and a pattern of tags"},
		{"", "", "on: tag v1 at 0 6 * * *", "lotse.yaml:10:9: stages.prod.on must be tag and a pattern of tags"},
		{"", "", "on: tag release/**", "lotse.yaml:10:9: stages.prod.on must be tag and a pattern of tags"},
		{"", "", "on: tag -v*", "lotse.yaml:10:9: stages.prod.on must be tag and a pattern of tags"},
		{"", "on: schedule 0 6 31 2 *", "", "lotse.yaml:8:9: stages.staging.on never comes"},
		{"", "on: push main at 0 6 * * *", "", "lotse.yaml:8:9: stages.staging.on must stand at the first stage alone"},
		{"approvals: 1", "", "", "lotse.yaml:6:16: stages.dev.approvals must not stand at the first stage"},
		{"", "", "sign_off: 1", "lotse.yaml:10:15: stages.prod.sign_off must not stand at the last stage"},
		{"", "approvals: 0", "", "lotse.yaml:8:16: stages.staging.approvals must be a whole number from 1 up"},
		{"", "approvals: many", "", "lotse.yaml:8:16: stages.staging.approvals must be a whole number"},
		{"", "approvals: 21", "", "stages.staging.approvals.people must be between 1 and 20"},
		{"", "approvals: { people: 2, by: [Ada] }", "", "stages.staging.approvals.by names 1 people, and 2 are wanted"},
		{"", "approvals: { by: [Ada, ada] }", "", "lotse.yaml:8:28: stages.staging.approvals.by[1] is there twice"},
		{"", "approvals: { by: ['', Bo] }", "", "stages.staging.approvals.by[0] must name somebody"},
		{"", "approvals: { within: 1s }", "", "stages.staging.approvals.within must be between 1m and 2160h"},
		{"", "approvals: { not_author: perhaps }", "", "stages.staging.approvals.not_author must be true or false"},
		{"", "freeze: never", "", "lotse.yaml:8:13: stages.staging.freeze must be always, or a mapping with from, to and reason"},
		{"", "freeze: { from: 2026-12-32 }", "", `lotse.yaml:8:21: stages.staging.freeze.from must be a day: "2026-12-32" is no date of the calendar`},
		{"", "freeze: { from: soon }", "", `stages.staging.freeze.from must be a day: "soon" is no day`},
		{"", "freeze: { from: 2027-01-06, to: 2026-12-18 }", "", "lotse.yaml:8:37: stages.staging.freeze.to must be after from"},
		{"", "freeze: { always: true, to: 2026-12-18 }", "", "stages.staging.freeze must be always, or have from and to, not both"},
		{"", "freeze: { reason: why }", "", "stages.staging.freeze has a reason and no time"},
		{"", "freeze: { from: 2026-12-18, reason: ask x@example.org }", "", "stages.staging.freeze.reason must be one line, without addresses"},
		{"", "hotfix: x", "", "lotse.yaml:8:13: stages.staging.hotfix must be a text of at least 3 letters"},
		{"", "closed: [2026-12-24 - 2026-12-26, Friday - Monday]", "", `lotse.yaml:8:39: stages.staging.closed[1] must be a window of time: "Friday" is no day; days are Mon,`},
		{"", "closed: [Fri 16:00 - Mon 07:00 Europe/Berlyn]", "", `stages.staging.closed[0] must be a window of time: "Europe/Berlyn" is no time zone`},
		{"", "closed: [00:00 - 12:00, 12:00 - 24:00]", "", "lotse.yaml:8:5: stages.staging.closed never opens"},
	} {
		_, err := config.Read("lotse.yaml", ruled(c.dev, c.staging, c.prod))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s%s%s is told as\n%v\nwant %s", c.dev, c.staging, c.prod, err, c.says)
		}
	}
}

package deploy

import (
	"strings"
	"time"
)

// rules checks who is asked at a stage, and when nothing comes there. i is its place in the order of promotion.
func (c *checker) rules(at []string, s Stage, i int) {
	if i == 0 && s.Approvals.asks() {
		c.report(field(at, "approvals"), "approvals are of releases, and which one a commit becomes is not known yet; put it at "+c.stageAfter(i),
			"must not stand at the first stage")
	}
	if i == len(c.app.Stages)-1 && s.SignOff.asks() {
		c.report(field(at, "sign_off"), "nothing leaves it; approvals ask before a release comes", "must not stand at the last stage")
	}
	c.consent(field(at, "approvals"), s.Approvals)
	c.consent(field(at, "sign_off"), s.SignOff)
	c.frozen(field(at, "freeze"), s.Freeze)
	if s.Hotfix != "" && (len(strings.TrimSpace(s.Hotfix)) < 3 || hasControl(s.Hotfix)) {
		c.report(field(at, "hotfix"), `for example "[hotfix]" or "Hotfix: yes"`, "must be a text of at least 3 letters, on one line")
	}
	for i, text := range s.Closed {
		if _, err := ParseWindow(text); err != nil {
			c.report(item(at, "closed", i), HintOf(err), "must be a window of time: %s", because(err))
		}
	}
	if len(s.Closed) > 0 {
		c.opens(field(at, "closed"), s.Closed)
	}
}

func (c *checker) stageAfter(i int) string {
	if i+1 < len(c.app.Stages) {
		return "stages." + c.app.Stages[i+1].Name
	}
	return "a stage after it"
}

// asks reports whether anything was said of it.
func (c Consent) asks() bool { return c.People != 0 || len(c.By) > 0 || c.NotAuthor || c.Within != 0 }

func (c *checker) consent(at []string, want Consent) {
	if !want.asks() {
		return
	}
	if want.People < 1 || want.People > 20 {
		c.report(field(at, "people"), "", "must be between 1 and 20")
	}
	if len(want.By) > 0 && len(want.By) < want.People {
		c.report(field(at, "by"), "name more people, or want fewer", "names %d people, and %d are wanted", len(want.By), want.People)
	}
	for i, who := range want.By {
		switch {
		case strings.TrimSpace(who) == "" || hasControl(who):
			c.report(item(at, "by", i), "a name or a mail address, as `git config user.name` and user.email have it", "must name somebody")
		case twice(want.By, i):
			c.report(item(at, "by", i), "", "is there twice")
		}
	}
	if want.Within != 0 {
		c.between(field(at, "within"), want.Within, time.Minute, 90*24*time.Hour)
	}
}

func twice(all []string, i int) bool {
	for _, other := range all[:i] {
		if strings.EqualFold(other, all[i]) {
			return true
		}
	}
	return false
}

func (c *checker) frozen(at []string, f Freeze) {
	if f.Always && (f.From != "" || f.To != "") {
		c.report(at, "take always away, or from and to", "must be always, or have from and to, not both")
	}
	if f.Reason != "" && !f.Always && f.From == "" && f.To == "" {
		c.report(at, "for example from: 2026-12-18", "has a reason and no time")
	}
	if f.Reason != said(f.Reason) {
		c.report(field(at, "reason"), "it is kept for ever", "must be one line, without addresses of people and machines")
	}
	from, first := ParseMoment(f.From, time.UTC, false)
	to, last := ParseMoment(f.To, time.UTC, true)
	if f.From != "" && first != nil {
		c.report(field(at, "from"), HintOf(first), "must be a day: %s", because(first))
	}
	if f.To != "" && last != nil {
		c.report(field(at, "to"), HintOf(last), "must be a day: %s", because(last))
	}
	if first == nil && last == nil && !from.Before(to) {
		c.report(field(at, "to"), "", "must be after from")
	}
}

// because is an error without the sentinel that it begins with.
func because(err error) string {
	return strings.TrimPrefix(err.Error(), ErrBadInput.Error()+": ")
}

// opens finds windows that leave no time: where they still hold when closedUntil has given up, they follow each other for ever.
func (c *checker) opens(at []string, windows []string) {
	until, _, err := closedUntil(windows, time.Now())
	if err != nil || until.IsZero() {
		return
	}
	if _, which, _ := closedUntil(windows, until); which != "" {
		c.report(at, "leave a time in which a release may come", "never opens")
	}
}

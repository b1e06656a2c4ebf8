package notify

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/slack-go/slack"

	"github.com/lotse-eu/lotse/internal/deploy"
	"github.com/lotse-eu/lotse/internal/secret"
)

const planted = `s3cr3t "value"/with+signs=`

// failing is a rollout whose pipeline failed with all that must not leave the house in its output.
func failing() story {
	inner, _ := json.Marshal(planted)
	tail := []string{"  plain " + planted, "  base64 " + base64.StdEncoding.EncodeToString([]byte("user:"+planted)), "  url " + url.QueryEscape(planted),
		"  json " + string(inner), "  colour s3cr3t \x1b[31m\"value\"/with+signs=", "  hidden s3cr3t \"va\u200blue\"/with+signs=",
		"  by Ada Lovelace <ada@example.org>", "  Error: connect ECONNREFUSED 192.0.2.7:5432 and 2001:db8::7", "  at /home/somebody/shop/web/a.ts:1:2",
		"  ``` <@everyone> <!channel> &lt; <https://evil.example|here> @everyone", "  FAIL src/app.test.ts > adds"}
	began := time.Date(2026, 11, 5, 12, 0, 0, 0, time.UTC)
	r := deploy.Rollout{ID: "k3v7q2xa", Stage: deploy.StageRef{App: "shop", Stage: "dev"}, Verb: deploy.Deployed, Commit: "1a2b3c4d5e6f7081", Actor: "p-ada",
		URL: "https://dev.shop.localhost:8443", Began: began, Ended: began.Add(72 * time.Second), Outcome: deploy.Reverted,
		Pipeline: []deploy.StepEvidence{{Name: "install", State: deploy.StepDone}, {Name: "test", State: deploy.StepFailed, Exit: 1, Tail: tail}},
		Turned:   &deploy.Turned{Step: "build", Code: "build", Why: "the pipeline failed: step test: no", Hint: "run `npm test` & ask ada@example.org"}}
	return story{rollout: r, notice: deploy.Notice{Name: "team"}, settings: deploy.Settings{Password: secret.New("pass-of-the-stage"),
		Values: []deploy.Setting{{Name: "KEY", Value: secret.New(planted)}}}}
}

// What was planted is in nothing that is sent, whatever form it had in the output; what is left still says why.
func TestNothingPersonalAndNoSecret(t *testing.T) {
	s := failing()
	s.rollout.Pipeline[1].Tail = append(s.rollout.Pipeline[1].Tail, "opens with pass-of-the-stage")
	m := newMessage(s, []string{"Ada Lovelace"})
	for name, form := range map[string]any{"slack": slackForm(m), "discord": discordForm(m), "webhook": m} {
		var sent bytes.Buffer
		encoder := json.NewEncoder(&sent)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(form); err != nil {
			t.Fatal(err)
		}
		for _, no := range []string{"s3cr3t", "czNjcjN0", "M2NyM3", "MzY3Iz", "value", "signs", "Ada", "ovelace", "ada@", "example.org", "192.0.2.7", "2001:db8", "/home/ada", "p-ada", "pass-of", "\x1b", "\\u001b"} {
			if strings.Contains(sent.String(), no) {
				t.Errorf("%s is sent %q:\n%s", name, no, sent.String())
			}
		}
		for _, yes := range []string{"app.test.ts", "adds", "1a2b3c4d", "k3v7q2xa", "build/test", "exit code 1", "dev.shop.localhost:8443"} {
			if !strings.Contains(strings.ReplaceAll(sent.String(), `\\`, ""), yes) {
				t.Errorf("%s is not sent %q:\n%s", name, yes, sent.String())
			}
		}
	}
}

// In Slack nothing but the stage's URL is in angle brackets, and every block of code ends where it should.
func TestSlackForm(t *testing.T) {
	form := slackForm(newMessage(failing(), nil))
	raw, err := json.Marshal(form)
	if err != nil {
		t.Fatal(err)
	}
	var sent struct {
		Text   string
		Parse  string
		Blocks []struct {
			Type string
			Text struct {
				Type, Text string
				Verbatim   bool
			}
		}
	}
	if err := json.Unmarshal(raw, &sent); err != nil {
		t.Fatal(err)
	}
	links := 0
	for _, b := range sent.Blocks {
		if b.Type != "section" || len(b.Text.Text) > 3000 || b.Text.Type == "mrkdwn" && !b.Text.Verbatim {
			t.Errorf("a block is %+v", b)
		}
		found := regexp.MustCompile(`<[^>]*>`).FindAllString(b.Text.Text, -1)
		for _, f := range found {
			if links++; f != "<https://dev.shop.localhost:8443>" {
				t.Errorf("Slack would read %s", f)
			}
		}
		if n := strings.Count(b.Text.Text, "```"); n != 0 && n != 2 {
			t.Errorf("there are %d fences in %q", n, b.Text.Text)
		}
	}
	if links != 1 || len(sent.Blocks) != 3 || sent.Parse != "none" || sent.Text != "shop/dev: the deploy went back at build/test" {
		t.Errorf("it is %s", raw)
	}
	if !strings.Contains(sent.Blocks[2].Text.Text, "&lt;@everyone&gt; &lt;!channel&gt; &amp;lt;") {
		t.Errorf("the tail is %q", sent.Blocks[2].Text.Text)
	}
}

// In Discord nothing mentions anybody, and what looks like markdown is shown as it is.
func TestDiscordForm(t *testing.T) {
	s := failing()
	s.rollout.Pipeline[1].Cause = "**bold** [click](https://evil.example) <@1234> @everyone `x`"
	raw, err := json.Marshal(discordForm(newMessage(s, nil)))
	if err != nil {
		t.Fatal(err)
	}
	var sent struct {
		Content  string
		Embeds   []struct{ Description string }
		Mentions map[string][]string `json:"allowed_mentions"`
	}
	if err := json.Unmarshal(raw, &sent); err != nil {
		t.Fatal(err)
	}
	if parse, there := sent.Mentions["parse"]; !there || parse == nil || len(parse) != 0 || len(sent.Mentions) != 1 {
		t.Errorf("mentions are %v", sent.Mentions)
	}
	text := sent.Embeds[0].Description
	if strings.Count(text, "```") != 2 || !strings.HasSuffix(text, "\n```") {
		t.Errorf("the block of code does not end where it should: %q", text)
	}
	if !strings.Contains(text, `\*\*bold\*\* \[click\]\(https\://evil.example\) \<\@1234\> \@everyone \`+"`x") {
		t.Errorf("the cause is %q", text)
	}
}

// Limits hold for the longest that can be said, in letters of several bytes, and the end of the tail is what stays.
func TestLimits(t *testing.T) {
	s := failing()
	line := strings.Repeat("<ü&*", 200)
	s.rollout.Pipeline[1].Tail = nil
	for range 40 {
		s.rollout.Pipeline[1].Tail = append(s.rollout.Pipeline[1].Tail, line)
	}
	s.rollout.Pipeline[1].Tail = append(s.rollout.Pipeline[1].Tail, "the end")
	s.rollout.Pipeline[1].Cause, s.rollout.Turned.Hint = line+line, line+line
	m := newMessage(s, nil)
	if len(m.Failure.Tail) != 15 || utf8.RuneCountInString(m.Failure.Tail[0]) != 300 || !strings.HasSuffix(m.Failure.Tail[0], "…") {
		t.Errorf("the tail has %d lines", len(m.Failure.Tail))
	}
	for i, b := range slackForm(m).Blocks.BlockSet {
		if text := b.(*slack.SectionBlock).Text.Text; !utf8.ValidString(text) || len(text) > 3000 {
			t.Errorf("block %d has %d bytes", i, len(text))
		}
	}
	discord, blocks := discordForm(m), slackForm(m).Blocks.BlockSet
	if tail := blocks[2].(*slack.SectionBlock).Text.Text; !strings.HasSuffix(tail, "the end\n```") {
		t.Errorf("Slack's tail ends %q", tail[len(tail)-20:])
	}
	if d := discord.Embeds[0].Description; utf8.RuneCountInString(d) > 4096 || !strings.HasSuffix(d, "the end\n```") || utf8.RuneCountInString(discord.Content) > 2000 {
		t.Errorf("Discord's description has %d characters and ends %q", utf8.RuneCountInString(d), d[len(d)-20:])
	}
	if got := fit(strings.Repeat("ü", 100), 50, strings.ToUpper); len(got) > 50 || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
		t.Errorf("fit gave %q", got)
	}
}

func TestTitles(t *testing.T) {
	s := failing()
	for want, change := range map[string]func(*deploy.Rollout){
		"shop/dev: the deploy went back at build/test": func(*deploy.Rollout) {},
		"shop/dev: the promotion was aborted at watch and went back": func(r *deploy.Rollout) {
			r.Verb, r.Turned = deploy.Promoted, &deploy.Turned{Step: "watch", Aborted: true}
		},
		"shop/dev: the redeploy went back at build/test": func(r *deploy.Rollout) { r.Verb = deploy.Redeployed },
		"shop/dev serves release 3f2a9c1b77de": func(r *deploy.Rollout) {
			r.Outcome, r.Turned, r.Release = deploy.Settled, nil, "sha256:3f2a9c1b77de0123456789abcdef0123456789abcdef0123456789abcdef0123"
		},
	} {
		one := s
		change(&one.rollout)
		if got := newMessage(one, nil).title(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	s.rollout.Trigger = deploy.ByPush
	if got := strings.Join(newMessage(s, nil).facts(), " · "); got != "deploy by push · commit 1a2b3c4d · 72.0 s · rollout k3v7q2xa" {
		t.Errorf("the facts are %q", got)
	}
}

// The cause and the tail of an instance that did not start come out of the error's text.
func TestFailureOfAnInstance(t *testing.T) {
	s := failing()
	err := &deploy.StartError{Service: "api", Instance: 1, Cause: "ended with exit code 2 after 0.3 s", Tail: []string{"panic: no", "  at main"}}
	s.rollout.Pipeline, s.rollout.Turned = nil, &deploy.Turned{Step: "start", Why: err.Error(), Code: "cannot-start"}
	f := newMessage(s, nil).Failure
	if f.Cause != "api[1] ended with exit code 2 after 0.3 s" || strings.Join(f.Tail, "|") != "panic: no|  at main" || f.Step != "start" {
		t.Errorf("the failure is %+v", f)
	}
}

package notify

import (
	"strings"

	"github.com/slack-go/slack"
	"github.com/slack-go/slack/slackutilsx"
)

// Slack: 3,000 characters a section, 50 blocks (https://docs.slack.dev/reference/block-kit/blocks/section-block). Limits count bytes here,
// of which there are never fewer.
const slackSection = 3000

// slackForm writes a message for an incoming webhook. Everything is escaped and verbatim, so that nothing in it links, mentions or
// notifies anybody; only the stage's URL is a link.
func slackForm(m message) *slack.WebhookMessage {
	escape := slackutilsx.EscapeMessage
	head := []string{"*" + escape(m.title()) + "*"}
	if facts := m.facts(); len(facts) > 0 {
		head = append(head, escape(strings.Join(facts, " · ")))
	}
	if m.URL != "" {
		head = append(head, "<"+escape(strings.ReplaceAll(m.URL, "|", "%7C"))+">")
	}
	blocks := []slack.Block{slackText(slack.MarkdownType, strings.Join(head, "\n"))}
	if f := m.Failure; f != nil {
		blocks = append(blocks, slackText(slack.PlainTextType, fit(said(f), slackSection, escape)))
		if len(f.Tail) > 0 {
			tail := fitTail(f.Tail, slackSection-16, func(s string) string { return escape(unfenced(s)) })
			blocks = append(blocks, slackText(slack.MarkdownType, "```\n"+tail+"\n```"))
		}
	}
	quiet := false
	return &slack.WebhookMessage{Text: escape(m.title()), Parse: "none", Blocks: &slack.Blocks{BlockSet: blocks}, UnfurlLinks: &quiet, UnfurlMedia: &quiet}
}

func slackText(kind, text string) *slack.SectionBlock {
	return slack.NewSectionBlock(slack.NewTextBlockObject(kind, text, false, kind == slack.MarkdownType), nil, nil)
}

// said is the cause, and what to do.
func said(f *failure) string {
	if f.Hint == "" {
		return f.Cause
	}
	return f.Cause + "\n→ " + strings.ReplaceAll(f.Hint, "\n", "\n→ ")
}

// Discord: 2,000 characters of content, 4,096 of an embed's description, 6,000 of all embeds
// (https://docs.discord.com/developers/resources/message#embed-object-embed-limits).
const (
	discordContent = 2000
	discordText    = 1500
	discordTail    = 2000
)

type discordMessage struct {
	Username string         `json:"username"`
	Content  string         `json:"content"`
	Embeds   []discordEmbed `json:"embeds"`
	Mentions struct {
		Parse []string `json:"parse"` // empty, not missing: nothing in the message mentions anybody
	} `json:"allowed_mentions"`
}

type discordEmbed struct {
	Description string `json:"description"`
	Color       int    `json:"color"` // 0xRRGGBB; what it says stands in the title, too
}

// discordForm writes a message for a webhook of Discord.
func discordForm(m message) *discordMessage {
	text := discordEscape(strings.Join(m.facts(), " · "))
	if m.URL != "" {
		text += "\n<" + m.URL + ">"
	}
	color := 0x2da44e
	if f := m.Failure; f != nil {
		color = 0xcf222e
		text += "\n" + fit(said(f), discordText, discordEscape)
		if len(f.Tail) > 0 {
			text += "\n```\n" + fitTail(f.Tail, discordTail, unfenced) + "\n```"
		}
	}
	d := &discordMessage{Username: "Lotse", Content: fit(m.title(), discordContent, discordEscape), Embeds: []discordEmbed{{strings.TrimSpace(text), color}}}
	d.Mentions.Parse = []string{}
	return d
}

// discordEscape makes signs of markdown signs.
func discordEscape(s string) string {
	var b strings.Builder
	for _, r := range s {
		if strings.ContainsRune("\\*_~`|>#[]()<:@-", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

package infra

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template"
)

//go:embed templates
var templates embed.FS

// templatesOf are the sections of a template of CloudFormation.
func templatesOf(file string) []string {
	switch file {
	case "cloudformation-edge.yaml":
		return []string{"edge.yaml"}
	case "cloudformation-edge-logs.yaml":
		return []string{"edge-logs.yaml"}
	}
	var sections []string
	found, _ := fs.Glob(templates, "templates/cloudformation/*.yaml")
	for _, f := range found {
		sections = append(sections, strings.TrimPrefix(f, "templates/"))
	}
	slices.Sort(sections)
	return sections
}

// sections that not every app has.
func (p plan) has(section string) bool {
	switch path.Base(section) {
	case "30-network.yaml", "60-application.yaml", "61-balancer.yaml":
		return !p.Static
	case "62-cloudfront.yaml":
		return p.Static
	case "70-database.yaml":
		return p.Databases
	case "71-volumes.yaml":
		return p.Volumes
	case "90-watch.yaml":
		return p.Told
	case "80-names.yaml":
		return p.AWS.Zone != ""
	}
	return true
}

// write fills the sections that this app has, one empty line between them.
func (p plan) write(sections ...string) (string, error) {
	var parts []string
	for _, s := range sections {
		if !p.has(s) {
			continue
		}
		text, err := p.fill(s)
		if err != nil {
			return "", err
		}
		parts = append(parts, tidy(text))
	}
	return strings.Join(parts, "\n"), nil
}

func (p plan) fill(name string) (string, error) {
	var stages, databases, outputs []string
	for _, s := range p.Stages {
		stages = append(stages, fmt.Sprintf("%q", s.Name))
		if s.Postgres > 0 {
			databases = append(databases, fmt.Sprintf("%q", s.Name))
		}
	}
	for _, o := range p.Outputs {
		outputs = append(outputs, o.Name)
	}
	return fillWith(name, p, template.FuncMap{
		"tags":          func(stage ...string) string { return flowTags(p.App, "", stage...) },
		"named":         func(name string, stage ...string) string { return flowTags(p.App, name, stage...) },
		"statements":    p.yamlStatements,
		"documents":     hclStatements,
		"quoted":        quotedList,
		"redirects":     func(s stage) string { return quotedList(s.Hosts[1:]) },
		"certificate":   func() string { return certificate(p) },
		"firstRedirect": func() int { return firstRedirect },
		"stageKey":      func(name string) string { return padded(fmt.Sprintf("%q", name), stages) },
		"databaseKey":   func(name string) string { return padded(fmt.Sprintf("%q", name), databases) },
		"outputKey":     func(name string) string { return padded(name, outputs) },
		"lower":         strings.ToLower,
		"indent":        indent,
	})
}

// padded is as wide as the widest of all: terraform fmt puts the signs of a list of attributes below each other.
func padded(name string, all []string) string {
	width := 0
	for _, a := range all {
		width = max(width, len(a))
	}
	return fmt.Sprintf("%-*s", width, name)
}

func fill(name string, data any) (string, error) { return fillWith(name, data, nil) }

func fillWith(name string, data any, funcs template.FuncMap) (string, error) {
	source, err := templates.ReadFile("templates/" + name)
	if err != nil {
		return "", err
	}
	t, err := template.New(name).Delims("[[", "]]").Funcs(funcs).Option("missingkey=error").Parse(string(source))
	if err == nil && strings.HasPrefix(name, "terraform/") {
		t, err = t.ParseFS(templates, "templates/validation.tf")
	}
	if err != nil {
		return "", fmt.Errorf("the template %s: %w", name, err)
	}
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", fmt.Errorf("the template %s: %w", name, err)
	}
	return b.String(), nil
}

// tidy leaves one empty line where parts that are not there left several, none at the ends, and no space at the end of a line.
func tidy(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRight(line, " ")
		if line == "" && (len(lines) == 0 || lines[len(lines)-1] == "") {
			continue
		}
		lines = append(lines, line)
	}
	return strings.TrimRight(strings.Join(lines, "\n"), "\n") + "\n"
}

// flowTags is a list of tags on one line.
func flowTags(app, name string, stage ...string) string {
	tags := []string{flowTag("lotse:app", app)}
	if len(stage) > 0 && stage[0] != "" {
		tags = append(tags, flowTag("lotse:stage", stage[0]))
	}
	if name != "" {
		tags = append(tags, flowTag("Name", name))
	}
	return "[" + strings.Join(tags, ", ") + "]"
}

func flowTag(key, value string) string { return fmt.Sprintf("{ Key: %q, Value: %q }", key, value) }

func quotedList(values []string) string {
	var quoted []string
	for _, v := range values {
		quoted = append(quoted, fmt.Sprintf("%q", v))
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// indent moves all lines to the right.
func indent(by int, text string) string {
	var lines []string
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		lines = append(lines, strings.Repeat(" ", by)+line)
	}
	return strings.TrimRight(strings.Join(lines, ""), "\n")
}

// wrapped is a list between brackets whose lines are not longer than about 140.
func wrapped(at int, values []string) string {
	var b strings.Builder
	column := at
	for i, v := range values {
		if i > 0 {
			b.WriteString(",")
			column++
			if column+len(v) > 140 {
				b.WriteString("\n" + strings.Repeat(" ", at))
				column = at
			} else {
				b.WriteString(" ")
				column++
			}
		}
		b.WriteString(v)
		column += len(v)
	}
	return "[" + b.String() + "]"
}

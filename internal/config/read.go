// Package config is the grammar of lotse.yaml: what may stand in the file (grammar.go), what is filled in (defaults.go), how it is
// described for editors (schema.go) and how mistakes are told (errors.go). Nothing else in Lotse sees the file.
//
// What a single field may be is decided here; whether the fields fit together is decided by deploy.App.Problems, whose paths
// become lines and columns here. A file has either no mistakes or all of them are told at once.
package config

import (
	"errors"
	"io"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/lotse-eu/lotse/internal/deploy"
)

// maxBytes is more than any file that a person writes.
const maxBytes = 256 << 10

// Read makes an app of the file's bytes, with every default filled in. name is how errors call the file. The error is *Errors,
// which is deploy.ErrBadInput, and holds every mistake. Read asks nobody else and is safe for concurrent use.
func Read(name string, data []byte) (deploy.App, error) {
	src, mistake := newSource(name, data)
	if mistake != nil {
		return deploy.App{}, &Errors{Mistakes: []Mistake{*mistake}}
	}
	root, mistake := src.parse()
	if mistake != nil {
		return deploy.App{}, &Errors{Mistakes: []Mistake{*mistake}}
	}
	var doc document
	d := newDecoder(src, root)
	d.into(&doc, root, nil)
	app := doc.app()
	if !d.exhausted {
		d.judge(app.Problems())
	}
	if len(d.mistakes) > 0 {
		return deploy.App{}, d.errors()
	}
	return app, nil
}

// parse makes nodes of the text, which is one document.
func (s *source) parse() (*yaml.Node, *Mistake) {
	loader, err := yaml.NewLoader(strings.NewReader(s.text))
	if err != nil {
		return nil, s.syntax(err)
	}
	var document, more yaml.Node
	switch err := loader.Load(&document); {
	case errors.Is(err, io.EOF) || err == nil && len(document.Content) == 0:
		return nil, s.empty()
	case err != nil:
		return nil, s.syntax(err)
	}
	switch err := loader.Load(&more); {
	case err == nil:
		return nil, s.mistake(position{more.Line, more.Column}, nil, "the file must be one document", `take away the line "---" and what follows, or make another file of it`)
	case !errors.Is(err, io.EOF):
		return nil, s.syntax(err)
	}
	root := document.Content[0]
	if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
		return nil, s.empty()
	}
	return root, nil
}

func (s *source) empty() *Mistake {
	return s.mistake(position{1, 1}, nil, "the file is empty",
		"the least is: app: shop, services: { web: { command: bin/web, path: / } }, stages: { dev: { url: https://dev.shop.localhost } }")
}

// syntax tells an error of the YAML library. Where the text ends too early, the place where the open part began says more.
func (s *source) syntax(err error) *Mistake {
	var load *yaml.LoadError
	if !errors.As(err, &load) {
		return s.mistake(position{1, 1}, nil, "the file is not YAML", "")
	}
	at := position{load.Mark.Line, load.Mark.Column}
	if s.atEnd(at) && load.ContextMark.Line > 0 {
		at = position{load.ContextMark.Line, load.ContextMark.Column}
	}
	message, hint := "the file is not YAML: "+load.Message, ""
	if line := s.line(at.line); strings.Contains(leading(line), "\t") {
		message, hint = "the file is not YAML: a tab in the indentation", "indent with spaces"
	}
	m := s.mistake(at, nil, message, hint)
	m.Source = withoutValue(m.Source)
	return m
}

func leading(line string) string { return line[:len(line)-len(strings.TrimLeft(line, " \t"))] }

// withoutValue cuts a line after its first key: where the text cannot be read, nobody knows whether the rest is a value that
// nobody should see.
func withoutValue(line string) string {
	if key, value, ok := strings.Cut(line, ": "); ok && value != "" {
		return key + ": …"
	}
	return line
}

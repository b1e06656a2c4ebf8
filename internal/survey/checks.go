package survey

import (
	"fmt"
	"regexp"
	"strings"
)

// checks writes the steps that say no: lint, types, tests. They wait for the installation alone, so that they run beside the build.
func (s *survey) checks(p *part, g manager, install string) {
	add := func(name, run, why string) {
		st := step{name: p.prefix + name, run: run, in: p.dir, needs: []string{install}}
		if why != "" {
			st.off, st.notes = true, []string{"Left out: " + why + "."}
			s.decide(name, "is left out: %s", why)
		}
		s.steps = append(s.steps, st)
	}
	m := p.pkg
	if name, _ := m.script("lint", "eslint"); name != "" {
		run, why := s.lint(m, g, name)
		add("lint", run, why)
	}
	if run := s.types(p, g); run != "" {
		add("types", run, "")
	}
	if name, runs := m.script("test:unit", "test", "test:ci"); name != "" && !strings.Contains(runs, "no test specified") {
		run, why := s.test(p, g, name, runs)
		add("test", run, why)
	}
}

var fixes = regexp.MustCompile(` --(fix|write|cache)\b`)

// lint does not change what is built beside it.
func (s *survey) lint(m *manifest, g manager, name string) (run, why string) {
	runs := m.whole(name)
	switch simple := strings.TrimSpace(m.Scripts[name]); {
	case strings.Contains(runs, "next lint") && (m.major("next") >= 16 || s.tree.first(m.dir, ".eslintrc.json", ".eslintrc.js", ".eslintrc.cjs", "eslint.config.mjs", "eslint.config.js") == ""):
		return g.run(m, name), "next lint asks for a configuration or is gone; npx @next/codemod next-lint-to-eslint-cli makes one"
	case strings.Contains(runs, "eslint") && m.uses("eslint") && m.major("eslint") >= 9 && s.noLintConfig(m):
		return g.run(m, name), "there is no configuration of ESLint"
	case !fixes.MatchString(runs):
		return g.run(m, name), ""
	case regexp.MustCompile(`^eslint( [\w./*,{}'"=-]+)*$`).MatchString(simple):
		return "npx " + fixes.ReplaceAllString(simple, ""), ""
	}
	return g.run(m, name), "the script changes files, and other steps read them at the same time; write a script that only looks"
}

func (s *survey) noLintConfig(m *manifest) bool {
	return s.tree.first(m.dir, "eslint.config.js", "eslint.config.mjs", "eslint.config.cjs", "eslint.config.ts", "eslint.config.mts") == "" &&
		s.tree.first(".", "eslint.config.js", "eslint.config.mjs", "eslint.config.cjs", "eslint.config.ts", "eslint.config.mts") == ""
}

// types checks types where the build does not.
func (s *survey) types(p *part, g manager) string {
	m := p.pkg
	if name, _ := m.script("typecheck", "type-check", "check-types", "types:check", "check:types", "tsc"); name != "" {
		if says(m.whole(name), `--watch\b|tsc -w\b`) {
			return ""
		}
		if !strings.Contains(m.whole("build"), "tsc") || !strings.Contains(m.Scripts["build"], name) {
			return g.run(m, name)
		}
		return ""
	}
	if name, runs := m.script("check"); name != "" && says(runs, `svelte-check|astro check|\btsc\b`) && !says(runs, `--watch\b`) {
		return g.run(m, name)
	}
	config := s.tree.text(under(p.dir, "tsconfig.json"))
	if config == "" || p.fit.typed || !m.uses("typescript") {
		return ""
	}
	if strings.Contains(config, `"references"`) {
		return "npx tsc -b"
	}
	return "npx tsc --noEmit"
}

var watches = regexp.MustCompile(`--watch(All)?\b|\bvitest (watch|dev)\b`)

// test runs tests once.
func (s *survey) test(p *part, g manager, name, runs string) (run, why string) {
	m := p.pkg
	all := m.whole(name)
	run = g.run(m, name)
	runner := regexp.MustCompile(`\b(vitest|jest|react-scripts test)\b`).FindString(all)
	switch {
	case says(all, `\b(playwright|cypress|puppeteer|wdio|ng test|ng e2e|karma)\b`):
		return run, "it needs a browser, which the pipeline may not have"
	case runner != "" && !s.tree.tests(p.dir) && !strings.Contains(all, "passWithNoTests"):
		return run, fmt.Sprintf("there is no test yet, and %s ends with an error then", strings.Fields(runner)[0])
	case watches.MatchString(runs) && runner == "vitest":
		return "npx vitest run", ""
	case watches.MatchString(runs) && runner == "jest":
		return "npx jest", ""
	case watches.MatchString(all):
		return run, "it watches files and never ends; write a script that runs the tests once"
	}
	return run, ""
}

package pipeline

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lotse-eu/lotse/internal/depot"
	"github.com/lotse-eu/lotse/internal/process"
)

// known are tools that decide what a step makes, with what they are asked for their version. Of any other program that a
// command names, file, size and time of change stand for the version: nothing is started that might do something.
var known = map[string][]string{
	"node": {"--version"}, "npm": {"--version"}, "pnpm": {"--version"}, "yarn": {"--version"}, "bun": {"--version"},
	"deno": {"--version"}, "go": {"version"}, "python": {"--version"}, "python3": {"--version"}, "pip": {"--version"},
	"ruby": {"--version"}, "bundle": {"--version"}, "php": {"--version"}, "composer": {"--version"}, "java": {"-version"},
	"javac": {"-version"}, "mvn": {"--version"}, "gradle": {"--version"}, "cargo": {"--version"}, "rustc": {"--version"},
	"gcc": {"--version"}, "cc": {"--version"}, "make": {"--version"}, "hugo": {"version"},
}

// brings are tools that a command uses without naming them.
var brings = map[string][]string{
	"npm": {"node"}, "npx": {"node", "npm"}, "pnpm": {"node"}, "yarn": {"node"}, "corepack": {"node"}, "pip": {"python3"},
	"cargo": {"rustc"}, "mvn": {"java"}, "gradle": {"java"}, "bundle": {"ruby"}, "composer": {"php"},
}

// toolFiles choose versions of tools, so that they are inputs of every step at or below them.
var toolFiles = map[string]bool{
	".nvmrc": true, ".node-version": true, ".tool-versions": true, ".python-version": true, ".go-version": true, "mise.toml": true,
	"rust-toolchain.toml": true, ".npmrc": true, ".yarnrc.yml": true,
}

// builtins are words that the shell answers itself, though files of the name exist.
var builtins = map[string]bool{
	"cd": true, "echo": true, "test": true, "true": true, "false": true, "printf": true, "pwd": true, "kill": true, "[": true, "set": true,
	"export": true, "exec": true, "exit": true, "if": true, "then": true, "else": true, "fi": true, "for": true, "do": true, "done": true,
}

// toolbox finds out which tools a step uses and which versions they are. It is safe for concurrent use.
type toolbox struct {
	depot *depot.Depot
	user  *process.User
	home  string

	mu       sync.Mutex
	versions map[string]string // by file, size and time of change
}

// of returns the identity of every tool that a step is known to use, sorted.
func (b *toolbox) of(ctx context.Context, s *step, all []source, env environment) ([]string, error) {
	names := map[string]bool{"sh": true}
	add := func(tool string) {
		names[tool] = true
		for _, other := range brings[tool] {
			names[other] = true
		}
	}
	words, script := commandWords(s.Run)
	managed := false // a package manager runs scripts of the packages that it finds
	for _, w := range words {
		managed = managed || brings[w] != nil
		if !builtins[w] {
			add(w)
		}
	}
	for _, f := range all { // what a script will call is told by the files around it
		dir := path.Dir(f.path)
		if !script && !managed || !below(dir, s.in) && !(script && below(s.in, dir)) {
			continue
		}
		switch path.Base(f.path) {
		case "package.json":
			add("npm")
		case "go.mod":
			add("go")
		case "pyproject.toml", "requirements.txt":
			add("python3")
		}
	}
	var found []string
	for name := range names {
		file := env.find(name, b.user)
		if file == "" {
			if known[name] != nil {
				found = append(found, name+" missing")
			}
			continue
		}
		id, err := b.identity(ctx, name, file, env)
		if err != nil {
			return nil, err
		}
		found = append(found, id)
	}
	slices.Sort(found)
	return found, nil
}

// commandWords returns what may be names of programs in a shell command, and whether it calls a script or the like, whose
// content may call anything. It does not understand the shell: a word too many costs a look at a file, no more.
func commandWords(run string) (words []string, script bool) {
	for command := range strings.FieldsFuncSeq(run, func(r rune) bool { return strings.ContainsRune("\n;|&()`", r) }) {
		first := true
		for w := range strings.FieldsFuncSeq(command, func(r rune) bool { return strings.ContainsRune(" \t<>\"'${}", r) }) {
			switch {
			case strings.Contains(w, "="), strings.HasPrefix(w, "-"), len(w) >= 64:
				continue
			case strings.Contains(w, "/"):
				script = script || first
			default:
				script = script || w == "sh" || w == "bash" || w == "make"
				words = append(words, w)
			}
			first = first && (builtins[w] || w == "env" || w == "time")
		}
	}
	return words, script
}

func (b *toolbox) identity(ctx context.Context, name, file string, env environment) (string, error) {
	target, err := filepath.EvalSymlinks(file)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(target)
	if err != nil {
		return "", err
	}
	state := fmt.Sprintf("%s %s %d %d", name, target, info.Size(), info.ModTime().UnixNano())
	if known[name] == nil {
		return state, nil
	}
	// A shim is the same file whatever version it chooses today.
	if strings.Contains(file, "/shims/") || strings.Contains(target, "volta") || strings.Contains(target, "mise") {
		version, err := b.ask(ctx, name, file, env)
		return name + " " + version, err
	}
	b.mu.Lock()
	version, ok := b.versions[state]
	b.mu.Unlock()
	if ok {
		return name + " " + version, nil
	}
	if data, err := b.depot.Note("tool", state); err == nil {
		version = string(data)
	} else if version, err = b.ask(ctx, name, file, env); err != nil {
		return "", err
	} else if err := b.depot.SetNote("tool", state, []byte(version), depot.Keeps{}); err != nil {
		return "", err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.versions[state] = version
	return name + " " + version, nil
}

// ask runs a tool for its version, as the user of the steps.
func (b *toolbox) ask(ctx context.Context, name, file string, env environment) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var said bytes.Buffer
	_, err := process.Run(ctx, process.Spec{
		Name: "version-of-" + name, Command: append([]string{file}, known[name]...), Dir: b.home, Env: env.vars, User: b.user, Grace: time.Second,
	}, func(line string) { said.WriteString(bounded(line) + "\n") })
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", name, err)
	}
	return strings.TrimSpace(said.String()), nil
}

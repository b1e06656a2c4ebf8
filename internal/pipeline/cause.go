package pipeline

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/lotse-eu/lotse/internal/process"
)

// likely is one rule: output that matches has probably this cause. $1 in say is the rule's first group.
type likely struct {
	match *regexp.Regexp
	say   string
}

// causes are asked in this order, each over all of the output that is kept: what makes everything after it fail comes
// first, general words come last. Lines are seen without colours.
var causes = []likely{
	// The disk and the memory of this machine.
	{regexp.MustCompile(`(?i)\bENOSPC\b|no space left on device|disk quota exceeded`), "the disk is full"},
	{regexp.MustCompile(`JavaScript heap out of memory|Cannot allocate memory|\bENOMEM\b|fatal error: (?:runtime: )?out of memory`), "it ran out of memory"},
	// Lock files, in the words of npm, pnpm and yarn 1 and 2+.
	{regexp.MustCompile("`npm ci` can only install packages when your package.json and package-lock.json"), "package-lock.json is out of step with package.json: run `npm install` and commit package-lock.json"},
	{regexp.MustCompile("The `npm ci` command can only install with an existing package-lock.json"), "there is no package-lock.json, which `npm ci` needs: run `npm install` and commit it"},
	{regexp.MustCompile(`ERR_PNPM_OUTDATED_LOCKFILE`), "pnpm-lock.yaml is out of step with package.json: run `pnpm install` and commit pnpm-lock.yaml"},
	{regexp.MustCompile(`ERR_PNPM_NO_LOCKFILE`), "there is no pnpm-lock.yaml: run `pnpm install` and commit it"},
	{regexp.MustCompile(`YN0028|The lockfile would have been (?:modified|created) by this install|Your lockfile needs to be updated`), "yarn.lock is out of step with package.json: run `yarn install` and commit yarn.lock"},
	{regexp.MustCompile(`missing go\.sum entry|updates to go\.mod needed|go: inconsistent vendoring`), "go.mod and go.sum are out of step with the code: run `go mod tidy` and commit both"},
	{regexp.MustCompile(`(?m)no required module provides package (\S+?)[;:]`), "go.mod does not have the package $1: run `go mod tidy` and commit it"},
	// Registries.
	{regexp.MustCompile(`(?i)npm (?:ERR!|error) code (?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT)|ERR_PNPM_META_FETCH_FAIL|dial tcp: lookup \S+|getaddrinfo (?:ENOTFOUND|EAI_AGAIN)`), "a package registry could not be reached"},
	{regexp.MustCompile(`(?i)npm (?:ERR!|error) code (?:E401|E403|ENEEDAUTH)`), "the package registry refused access"},
	{regexp.MustCompile(`(?i)npm (?:ERR!|error) (?:code E404|404 )`), "a package does not exist in the registry"},
	{regexp.MustCompile(`(?i)npm (?:ERR!|error) notarget No matching version found for (\S+?)\.?(?:\n|$)`), "the registry has no version $1"},
	{regexp.MustCompile(`(?i)npm (?:ERR!|error) code EBADENGINE`), "a package wants another version of node"},
	// What is called is not there.
	{regexp.MustCompile(`(?i)Missing script:? "?([\w:.-]+)"?|ERR_PNPM_NO_SCRIPT\S*\s+Missing script: ([\w:.-]+)|error Command "([\w:.-]+)" not found|Couldn't find a script named "([\w:.-]+)"`), "package.json has no script $1"},
	{regexp.MustCompile(`(?m)^(?:sh|/bin/sh|bash|dash): (?:line )?\d+: ([^\s:]+): (?:command )?not found$`), "the program $1 is not installed, or not in PATH"},
	{regexp.MustCompile(`(?m)^(?:sh|/bin/sh|bash|dash): (?:line )?\d+: ([^\s:]+): Permission denied$`), "$1 may not be run: it is not executable, or its folder may not be entered"},
	{regexp.MustCompile(`env: ['‘]?([\w.-]+)['’]?: No such file or directory`), "the program $1 is not installed, or not in PATH"},
	{regexp.MustCompile(`exec: "([^"]+)": executable file not found`), "the program $1 is not installed, or not in PATH"},
	{regexp.MustCompile(`Cannot find (?:module|package) '([^']+)'(?: imported from|\n(?:.*\n)?Require stack)`), "the module $1 is not installed: is it in package.json, and does the step need the one that installs?"},
	// What the tools find in the code.
	{regexp.MustCompile(`(?m)\berror TS\d+:`), "type errors (TypeScript)"},
	{regexp.MustCompile(`(?m)^✖ \d+ problems? \(([1-9]\d*) errors?|✖ ([1-9]\d*) problems?`), "lint errors"},
	{regexp.MustCompile(`(?m)^--- FAIL: (\S+)`), "the Go test $1 failed"},
	{regexp.MustCompile(`(?m)^panic: test timed out`), "a Go test timed out"},
	{regexp.MustCompile(`(?m)^WARNING: DATA RACE`), "Go's race detector found a data race"},
	{regexp.MustCompile(`(?m)^\s*FAIL\s+(\S+\.(?:test|spec)\.[cm]?[jt]sx?)`), "tests failed in $1"},
	{regexp.MustCompile(`(?m)^Tests:\s+\d+ failed|^\s*Tests\s+\d+ failed|^# fail [1-9]|^ℹ fail [1-9]`), "tests failed"},
	{regexp.MustCompile(`(?m)^=+ .*\b\d+ failed\b.* =+$`), "tests failed"},
	{regexp.MustCompile(`(?m)^FAIL\s+\S+ \[build failed\]|^(?:\./|\.\./|\w)[^\s:]*\.go:\d+:\d+: |^vet: `), "it does not compile (Go)"},
	{regexp.MustCompile(`(?i)Could not resolve ["']([^"']+)["']|Roll(?:up|down) failed to resolve import "([^"]+)"|Can't resolve '([^']+)'`), "the bundler finds no $1"},
	{regexp.MustCompile(`(?m)^npm error Lifecycle script .(\S+). failed`), "the script $1 failed"},
	{regexp.MustCompile(`(?m)^SyntaxError: (.+)$`), "a syntax error: $1"},
	{regexp.MustCompile(`(?i)\bEADDRINUSE\b|address already in use`), "a port that it wants is taken"},
	{regexp.MustCompile(`\bEACCES\b|(?m)[Pp]ermission denied$`), "it may not read or write something: steps run as a user of their own"},
}

// What a terminal would show in colour (ECMA-48 CSI sequences).
var colours = regexp.MustCompile("\x1b\\[[0-9;:?]*[ -/]*[@-~]")

// dash looks through PATH and ends with the error of the last folder that it may not enter, but with the code of "not found".
var hidden = regexp.MustCompile(`(?m)^(?:sh|/bin/sh|dash): (?:line )?\d+: ([^\s:/]+): Permission denied$`)

// likelyCause says in a sentence why a command probably failed. It never claims to know: how it ended is part of it.
func likelyCause(exit process.Exit, lines []string) string {
	text := colours.ReplaceAllString(strings.Join(lines, "\n"), "")
	if at := hidden.FindStringSubmatch(text); at != nil && exit.Code == 127 {
		return fmt.Sprintf("the program %s is not installed, or only in a folder of PATH that the user of steps may not enter (%v)", at[1], exit)
	}
	for _, c := range causes {
		at := c.match.FindStringSubmatch(text)
		if at == nil {
			continue
		}
		name := ""
		for _, group := range at[1:] {
			if group != "" {
				name = group
				break
			}
		}
		return fmt.Sprintf("%s (%v)", strings.ReplaceAll(c.say, "$1", name), exit)
	}
	switch {
	case exit.Signal == "SIGKILL" || exit.Code == 137:
		return "it was killed, most likely because the machine or its limit ran out of memory (" + exit.String() + ")"
	case exit.Code == 127:
		return "a program that it calls is not installed, or not in PATH (exit code 127)"
	case exit.Code == 126:
		return "something that it calls cannot be executed (exit code 126)"
	}
	return "it ended with " + exit.String()
}

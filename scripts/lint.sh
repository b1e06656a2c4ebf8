#!/usr/bin/env bash
# Checks what a reader should not have to say, and ends with 1 when something is wrong. Every check is run and named; what cannot be
# run here is NOT RUN, with the reason. Tools are built into .cache/bin at the versions pinned here: the product's go.mod
# does not know them.
# shellcheck disable=SC2317 # functions are called by their name, through check
set -uo pipefail
cd "$(dirname "$0")/.." || exit

golangci_lint=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0

cache=$PWD/.cache
failed=0
report=$(mktemp)
trap 'rm -f "$report"' EXIT

# check NAME COMMAND…: quiet when it is good
check() {
	local name=$1 began=$SECONDS
	shift
	if "$@" >"$report" 2>&1; then
		printf 'ok       %-15s %3d s\n' "$name" $((SECONDS - began))
	else
		printf 'FAILED   %-15s %3d s\n' "$name" $((SECONDS - began))
		sed 's/^/    /' "$report"
		failed=1
	fi
}

not_run() { printf 'NOT RUN  %-15s %s\n' "$1" "$2"; }

# tool PACKAGE@VERSION: prints the path of the program, built when this version is not there for this version of Go. A tool
# that was built by another version of Go may not understand the code.
tool() {
	local name path
	name=$(basename "${1%@*}")
	path=$cache/bin/$name-${1##*@}-$(go env GOVERSION)
	if [ ! -x "$path" ]; then
		rm -f "$cache/bin/$name-"*
		mkdir -p "$cache/bin" "$cache/build"
		echo "building $name ${1##*@}, once" >&2
		# A build cache of its own, thrown away: it would only make the one of the product larger.
		GOBIN=$cache/build GOFLAGS='' GOCACHE=$cache/build/cache CGO_ENABLED=0 \
			go install -trimpath -ldflags '-s -w' "$1" >&2 || return
		mv "$cache/build/$name" "$path" && rm -rf "$cache/build"
	fi
	echo "$path"
}

# files PATTERN…: what is in the repository, or would be with the next commit
files() { git ls-files --cached --others --exclude-standard -- "$@" | while read -r f; do [ -f "$f" ] && echo "$f"; done; }

go_format() {
	local unformatted
	unformatted=$(files '*.go' | xargs -r gofmt -l) && [ -z "$unformatted" ] && return
	echo "not as gofmt writes it:"
	echo "$unformatted"
	return 1
}

go_lint() {
	local lint
	lint=$(tool "$golangci_lint") || { echo "golangci-lint could not be built" && return 1; }
	GOLANGCI_LINT_CACHE=$cache/golangci-lint "$lint" run --allow-parallel-runners ./...
}

scripts() { files scripts .ci | xargs -r grep -lE '^#!.*\b(ba)?sh\b' | xargs -r shellcheck --severity=style; }

# A path of one machine or the host of a registry in a file works on no other machine. The words are cut in two, so that this
# file does not find itself. /home/somebody is nobody's: the one for tests.
foreign_paths() {
	local paths='(^|[^A-Za-z0-9_.~-])/(wo''rk|ro''ot)/|/home/[a-z][a-z0-9_-]*/' hosts
	hosts='proxy\.gol''ang\.org|sum\.gol''ang\.org|registry\.np''mjs\.org|registry\.ya''rnpkg\.com|deb\.deb''ian\.org'
	! files | xargs -r -d '\n' grep -nIE "$paths|$hosts" | grep -vE '/home/(linuxbrew|somebody)/'
}

# Tidy without touching: go.mod and go.sum say what the code imports.
go_modules() { go mod verify && go mod tidy -diff; }

check gofmt go_format
check "go vet" go vet ./...
check golangci-lint go_lint
check "go.mod" go_modules
check "foreign paths" foreign_paths
if command -v shellcheck >/dev/null; then
	check shellcheck scripts
else
	not_run shellcheck "it is not installed: apt-get install -y shellcheck"
fi

# The database of known vulnerabilities is asked over the network; without it there is nothing to compare with.
if checker=$(tool "$govulncheck") && "$checker" -scan module >"$report" 2>&1; then
	check govulncheck "$checker" ./...
elif grep -qE 'fetching vulnerabilities|no such host|dial tcp' "$report"; then
	not_run govulncheck "the database of vulnerabilities cannot be reached"
else
	check govulncheck "$checker" ./...
fi

exit $failed

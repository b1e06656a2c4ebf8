# Everything that a person runs. `make` alone says what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
export CGO_ENABLED ?= 1 # the race detector needs it; the product itself is built without

BIN := bin/lotse
DEMO ?= .demo

.PHONY: help build demo demo-down test lint bench prove aws-smoke needs clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

build: $(BIN) ## the one binary

.PHONY: $(BIN)
$(BIN):
	CGO_ENABLED=0 go build -ldflags '-s -w' -o $(BIN) ./cmd/lotse

demo: build ## an app from a commit to an HTTPS address on this machine, and a second commit under load
	@scripts/needs demo
	@$(BIN) demo

demo-down: build ## take away all that `make demo` made
	@$(BIN) demo down

test: ## all tests, with what they need installed
	@scripts/needs test
	go test -race -p 3 -timeout 25m ./... # three at once on two cores: many tests wait for processes
	cd examples/whatsgonow && go test -race ./...
	cd examples/whatsgonow/web && npm ci --no-audit --no-fund && npm run lint && npx tsc --noEmit && npm test

lint: ## what a reader should not have to say
	@scripts/lint.sh

bench: build ## measure beside the peers: a table, and the same in bench/results.json
	@scripts/needs bench
	go run ./bench

prove: ## everything that takes longer: all crash points, long fuzzing, soak
	@scripts/needs test
	LOTSE_PROVE=1 go test -race -timeout 120m -count=1 ./...
	scripts/fuzz

aws-smoke: build ## try a real AWS account: asks before it spends, and takes away what it made
	@scripts/aws-smoke

clean: ## what was built, not what the demo made
	rm -rf bin .cache bench/results.json

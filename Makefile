# `make` alone lists what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

BIN     := bin/tenant-ops
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
LDFLAGS := -X github.com/freehold-db/freehold/cli.version=$(VERSION)
CPUS    := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
# Packages tested side by side: each may run several Postgres servers.
P       := $(shell echo $$(( $(CPUS) > 4 ? 4 : $(CPUS) )))
# Packages whose tests run a whole fleet: each has the machine to itself.
FLEET   := /cli/demo$$|/test/(e2e|wire|chaos|clients)$$
LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# An older Go fetches the version that go.mod asks for (Debian's doesn't unless told).
GOTOOLCHAIN ?= auto
export GOTOOLCHAIN
# A program with the race detector sleeps for a second when it ends, for races
# of its last moment; the tests run hundreds of programs.
GORACE ?= atexit_sleep_ms=10
export GORACE

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

.PHONY: build
build: ## build bin/tenant-ops
	@deploy/install/deps.sh run
	go build -buildvcs=false -trimpath -ldflags '$(LDFLAGS)' -o $(BIN) ./cli/tenant-ops

.PHONY: demo
demo: build ## watch tenants move between servers under traffic (3 minutes, ends by itself)
	@$(BIN) demo

.PHONY: dev
dev: build ## start a fleet in ./.dev if none runs, and show it working
	@deploy/dev/tour.sh $(BIN)

.PHONY: test
test: ## run every test with the race detector, on real servers (11 minutes on 2 cores)
	@deploy/install/deps.sh test
	@[ -x '$(VAULT)' ] || echo '=== SKIPPED: the tests on a real Vault; make test-vault builds one (7 minutes) and runs them'
	@go build -race ./... # not while servers are being tested
	go test -race -timeout 15m -p $(P) $$(go list ./... | grep -vE '$(FLEET)')
	go test -race -timeout 15m -p 1 $$(go list ./... | grep -E '$(FLEET)')

# The file's name tells versions of its source apart, as vaulttest.Binary does.
VAULT = $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/freehold/vault-$(shell cat test/vault/main.go test/vault/go.mod | sha256sum | cut -c1-12)
.PHONY: vault
vault: ## build the Vault server that tests run on, unless it is in the cache (7 minutes on 2 cores)
	@deploy/install/deps.sh run
	@if [ -x '$(VAULT)' ]; then echo 'Vault for tests: $(VAULT)'; else \
	  mkdir -p '$(dir $(VAULT))' && cd test/vault && time go build -buildvcs=false -trimpath -o '$(VAULT).new' . && mv '$(VAULT).new' '$(VAULT)'; fi

.PHONY: test-vault
test-vault: vault ## run the tests on a real Vault, a minute of it sealed under traffic included
	FREEHOLD_VAULT=required go test -race -count=1 -timeout 15m ./internal/vault/...
	FREEHOLD_VAULT=required FREEHOLD_SOAK=1 go test -race -count=1 -timeout 15m -p 1 -run Vault ./dataplane ./controlplane
	FREEHOLD_VAULT=required go test -run '^$$' -bench Vault ./internal/vault

.PHONY: test-tls
test-tls: ## run the tests of fleets and of shards with all links by TLS (20 minutes; make test has test/wire and a few moves of them)
	@deploy/install/deps.sh test
	FREEHOLD_TEST_TLS=1 go test -race -timeout 15m -p 1 ./test/e2e ./test/wire
	FREEHOLD_TEST_TLS=1 go test -race -timeout 20m -p $(P) ./internal/pgtest ./router ./dataplane/... ./controlplane/...

.PHONY: vuln
vuln: ## look for known vulnerabilities in what is called; says so where the database can't be reached
	@deploy/install/vuln.sh

.PHONY: lint
lint: ## vet and lint
	@deploy/install/deps.sh run
	go run $(LINT) run ./...

.PHONY: bench
bench: build ## measure on real servers, and print the targets beside the results (12 minutes; BENCH=-only=pause for a part)
	@go run -buildvcs=false ./test/bench -binary $(BIN) $(BENCH)

FAULTS ?= 600
SEED ?= 0
.PHONY: chaos
chaos: ## break every part under traffic and moves, and judge what clients were told (half an hour; FAULTS=600, SEED= to repeat)
	@deploy/install/deps.sh test
	@rm -rf dist/chaos
	go test -race -count=1 -timeout 6h -v -run '^TestChaos$$' ./test/chaos -args -faults=$(FAULTS) -seed=$(SEED) -out=$(CURDIR)/dist/chaos

SOAK ?= 10
.PHONY: soak
soak: ## kill every part under traffic, again and again (SOAK=10 minutes)
	@deploy/install/deps.sh test
	@end=$$((SECONDS + 60 * $(SOAK))); round=0; \
	while [ $$SECONDS -lt $$end ]; do \
	  round=$$((round + 1)); echo "--- round $$round"; \
	  FREEHOLD_SOAK=1 go test -race -count=1 -timeout 30m -p 1 ./test/chaos/... ./controlplane/operation/... ./controlplane/move/protocol/...; \
	done; echo "$$round rounds, none failed"

FUZZ ?= 20s
.PHONY: fuzz
fuzz: ## fuzz every parser for a while each (FUZZ=20s)
	@deploy/install/deps.sh run
	@grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
	  grep -oE '^func Fuzz[A-Za-z0-9_]*' "$$file" | while read -r _ name; do \
	    echo "--- $$(dirname "$$file") $$name"; \
	    go test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ) -fuzzminimizetime 1s "$$(dirname "$$file")"; \
	  done; \
	done

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist

# make alone prints the targets.
GO ?= go
export CGO_ENABLED ?= 0
BUILD = $(GO) build -trimpath -buildvcs=auto -ldflags "-s -w"
# Packages whose tests need cgo for the race detector.
RACE = CGO_ENABLED=1 $(GO) test -race -shuffle=on

.PHONY: help
help: ## print the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

.PHONY: build
build: ## build both programs into bin/
	@mkdir -p bin
	$(BUILD) -o bin/worktally-agent ./cmd/agent
	$(BUILD) -o bin/worktally ./cmd/worktally

.PHONY: demo
demo: build ## show everything on loopback until Ctrl-C; ONCE=1 compares and exits
	$(GO) run ./e2e/demo $(if $(ONCE),-once)

.PHONY: deps
deps: ## install what the tests run against (root), or say what is missing
	@./scripts/deps.sh

.PHONY: test
test: deps lint ## all tests, with the race detector, the demo last
	$(RACE) -timeout 12m ./...
	$(MAKE) demo ONCE=1

.PHONY: check
check: lint ## vet, format and the tests, for daily work
	$(GO) test -timeout 5m ./...

.PHONY: race
race: ## the tests with the race detector
	$(RACE) -timeout 12m ./...

.PHONY: lint
lint: ## vet for every platform, formatting, module files
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	GOOS=darwin GOARCH=arm64 $(GO) build ./cmd/... ./agent/... ./server/...
	GOOS=windows $(GO) build ./cmd/... ./agent/... ./server/...
	GOARCH=arm64 $(GO) build ./cmd/...
	$(GO) mod tidy -diff

.PHONY: gen
gen: ## regenerate what is generated (needs protoc)
	./scripts/gen.sh

.PHONY: golden
golden: ## rewrite golden files; read the diff
	$(GO) test ./exposition ./server ./cmd/agent ./cmd/worktally -run "Golden|Docs|Readme" -update

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (5s)
	./scripts/fuzz.sh $(or $(FUZZTIME),5s)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin .demo bench/out

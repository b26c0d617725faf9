# make alone prints the targets.
GO ?= go
export CGO_ENABLED ?= 0
# Parts of the tailnet library that nothing here uses: leaving them out makes the
# programs smaller and changes nothing else.
empty :=
TAGS = $(subst $(empty) $(empty),,ts_omit_ace,ts_omit_acme,ts_omit_appconnectors,ts_omit_aws,ts_omit_advertiseexitnode,ts_omit_advertiseroutes, \
	ts_omit_bakedroots,ts_omit_bird,ts_omit_c2n,ts_omit_cachenetmap,ts_omit_captiveportal,ts_omit_capture, \
	ts_omit_cli,ts_omit_colorable,ts_omit_cliconndiag,ts_omit_clientmetrics,ts_omit_clientupdate, \
	ts_omit_completion,ts_omit_conn25,ts_omit_completion_scripts,ts_omit_cloud,ts_omit_dbus,ts_omit_debug, \
	ts_omit_debugeventbus,ts_omit_debugportmapper,ts_omit_desktop_sessions,ts_omit_doctor,ts_omit_drive, \
	ts_omit_flashappliance,ts_omit_hujsonconf,ts_omit_identityfederation,ts_omit_ipnbus,ts_omit_iptables, \
	ts_omit_kube,ts_omit_linuxdnsfight,ts_omit_linkspeed,ts_omit_listenrawdisco,ts_omit_logtail,ts_omit_oauthkey, \
	ts_omit_outboundproxy,ts_omit_osrouter,ts_omit_peerapiserver,ts_omit_portlist,ts_omit_portmapper, \
	ts_omit_posture,ts_omit_dns,ts_omit_networkmanager,ts_omit_serviceclientprefs,ts_omit_qrcodes, \
	ts_omit_relayserver,ts_omit_remoteconfig,ts_omit_resolved,ts_omit_routecheck,ts_omit_runtimemetrics, \
	ts_omit_sdnotify,ts_omit_serve,ts_omit_ssh,ts_omit_synology,ts_omit_syslog,ts_omit_syspolicy,ts_omit_systray, \
	ts_omit_taildrop,ts_omit_tailnetlock,ts_omit_tap,ts_omit_tpm,ts_omit_tundevstats,ts_omit_unixsocketidentity, \
	ts_omit_useroutes,ts_omit_useexitnode,ts_omit_useproxy,ts_omit_usermetrics,ts_omit_wakeonlan, \
	ts_omit_webbrowser,ts_omit_webclient)
BUILD = $(GO) build -tags '$(TAGS)$(MORE_TAGS)' -trimpath -buildvcs=auto -ldflags "-s -w"
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

.PHONY: build-faults
build-faults: MORE_TAGS = ,faultclock
build-faults: ## build both programs with clocks that a test can change into bin/faultclock/
	@mkdir -p bin/faultclock
	$(BUILD) -o bin/faultclock/worktally-agent ./cmd/agent
	$(BUILD) -o bin/faultclock/worktally ./cmd/worktally

.PHONY: demo
demo: build ## show everything on loopback until Ctrl-C; ONCE=1 compares and exits
	$(GO) run ./e2e/demo $(if $(ONCE),-once)

.PHONY: deps
deps: ## install what the tests run against (root), or say what is missing
	@./scripts/deps.sh

.PHONY: test
test: deps lint ## all tests, with the race detector, then the demo, the faults and 5 s of every fuzz target
	$(RACE) -timeout 20m ./...
	cd deploy/verify && $(GO) test ./...
	$(MAKE) demo ONCE=1
	$(MAKE) faults
	$(MAKE) fuzz

.PHONY: faults
faults: build build-faults ## faults of the disk in fake time, then real programs, nothing lost or doubled (3 minutes); SEED=n ONLY=name repeats one
	$(if $(ONLY),,$(GO) test -count=1 -run '^Test(Slots|Log|Crash|Outbox|Model)' ./internal/durable ./agent/reportclient)
	$(GO) run ./e2e/faults $(if $(SEED),-seed $(SEED)) $(if $(ONLY),-set long -only '$(ONLY)')

.PHONY: faults-long
faults-long: build build-faults ## the same with FAULT_SEEDS (1000) of each kill, crowds, and what takes minutes (2 hours)
	$(GO) run ./e2e/faults -set long -seeds $(or $(FAULT_SEEDS),1000) -kills 1 -parallel 8 $(if $(SEED),-seed $(SEED))

.PHONY: check
check: lint ## vet, format and the tests, for daily work
	$(GO) test -timeout 5m ./...

.PHONY: race
race: ## the tests with the race detector
	$(RACE) -timeout 20m ./...

.PHONY: lint
lint: ## vet for every platform, formatting, module files
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	GOOS=darwin GOARCH=arm64 $(GO) build ./cmd/... ./agent/... ./server/...
	GOOS=windows $(GO) build ./cmd/... ./agent/... ./server/...
	GOARCH=arm64 $(GO) build ./cmd/...
	$(GO) mod tidy -diff
	cd bench && $(GO) vet ./... && $(GO) mod tidy -diff
	cd deploy/verify && $(GO) vet ./... && $(GO) mod tidy -diff

.PHONY: gen
gen: ## regenerate what is generated (needs protoc)
	./scripts/gen.sh

.PHONY: golden
golden: ## rewrite golden files; read the diff
	$(GO) test ./exposition ./server ./server/controlapi ./server/gitauth ./cmd/agent ./cmd/worktally -run "Golden|Docs|Readme" -update

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (5s)
	./scripts/fuzz.sh $(or $(FUZZTIME),5s)

.PHONY: mutants
mutants: ## take every mechanism of docs/guarantees.md out once; its test must fail (5 minutes)
	$(GO) run ./e2e/mutants

.PHONY: bench-agent
bench-agent: build ## measure the agent on this machine against its limits (4 minutes)
	cd bench && $(GO) run ./agent

.PHONY: bench-server
bench-server: build ## measure the server against its limits and others (10 minutes); FULL=1 adds a real Prometheus
	cd bench && $(GO) run ./server $(if $(FULL),-full)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin .demo bench/out

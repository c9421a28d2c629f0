# `make help` lists the targets. Every target installs what it needs: Go tools from the pinned
# modules in hack/tools, Debian packages through hack/setup.sh.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The name of a release. A checkout that git refuses to read builds as well.
VERSION ?= $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo devel)
COMMIT ?= $(shell git -c safe.directory='*' rev-parse HEAD 2>/dev/null)
BIN ?= $(CURDIR)/bin
TOOLS_BIN ?= $(BIN)/tools
HELM ?= $(TOOLS_BIN)/helm

# Tests, linters, tools and images compile in the same way, so that each package is compiled once for
# all of them. That halves a build with cold caches. (The race detector needs cgo and compiles
# everything a second time.)
export CGO_ENABLED ?= 0
export GOFLAGS ?= -trimpath

GO ?= go
# The compiler with less garbage collection: a fifth less time. Tests do not run with it.
COMPILE := GOGC=400 $(GO)
GOLANGCI_LINT ?= $(GO) tool -modfile=hack/tools/golangci/go.mod golangci-lint
GOVULNCHECK ?= $(GO) tool -modfile=hack/tools/go.mod govulncheck
BENCHSTAT ?= $(GO) tool -modfile=hack/tools/go.mod benchstat

# Packages tested in one process. Tests with real processes are a phase of their own.
UNIT_PKGS = $$($(GO) list ./... | grep -v -e '/test/' -e '/node/simulation$$') ./test/house ./test/prose
SIMULATION_PKGS ?= ./node/simulation ./test/sim ./test/nodes
# Seeds for each promise in make sim.
SIM_SEEDS ?= 2000
# Seeds for each test of whole nodes that draws faults, in make sim.
NODE_SEEDS ?= 40
# Our own programs in a cluster of hack/kind. To vet hyperkube and coredns is to vet Kubernetes.
KIND_PKGS = ./follow ./mkimg ./pause ./podnet ./probe ./volumes
PROCESS_PKGS ?= ./test/processes/... ./test/powercut/... ./test/system/...
INTEGRATION_PKGS ?= ./test/integration/...
TESTFLAGS ?=

# The time for each fuzz target: in `make fuzz`, and in the test suite.
FUZZTIME ?= 60s
FUZZTIME_SHORT ?= 3s
# Only the fuzz targets whose package and name contain this.
FUZZ ?=

VALIDATORS ?= 4
THRESHOLD ?= 3
HTTP ?= 127.0.0.1:18080
DEVNET_DIR ?= $(CURDIR)/.devnet
RELEASE_DIR ?= $(BIN)/release

# For go test, such as -run TestImageUpdates; -run NONE -bench . -benchtime 1x is the operator's
# footprint.
E2E_ARGS ?=

# How long the attacks of make hostile last.
HOSTILE_TIME ?= 10m

# How much longer than in the test suite the recordings of make powercut are.
POWERCUT_ROUNDS ?= 5

BENCH ?= .
BENCH_COUNT ?= 1
BENCH_OUT ?= $(BIN)/bench.txt

PHASE := hack/phase.sh

# The quick phases come first, so that most mistakes show within minutes.
TEST_PHASES := check-format check-modules vet lint verify-generated unit race simulation fuzz-short chart monitoring typescript integration processes compose-test e2e

##@ Use

.PHONY: help
help: ## Show this list.
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: build
build: ## Build bin/diseq and the plugin of kubectl, bin/kubectl-diseq.
	@mkdir -p $(BIN)
	CGO_ENABLED=0 $(COMPILE) build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION) -X main.commit=$(COMMIT)' \
		-o $(BIN)/ ./cmd/diseq ./cmd/kubectl-diseq
	@ln -sf kubectl-diseq $(BIN)/kubectl_complete-diseq

.PHONY: images
images: ## Make the container images diseq:dev and diseq-operator:dev as archives in bin/images, without an engine. TAG, VERSION.
	@VERSION='$(VERSION)' COMMIT='$(COMMIT)' hack/image/build.sh --out $(BIN)/images

.PHONY: sbom
sbom: ## Bills of materials (SPDX, CycloneDX) of the binaries in the images, beside them: bin/images/linux-*. Fails on a module that is not in go.sum.
	@VERSION='$(VERSION)' COMMIT='$(COMMIT)' hack/image/build.sh --out $(BIN)/images
	@$(GO) -C hack/release run ./sbom --version '$(VERSION)' --sums $(CURDIR)/go.sum $(BIN)/images/linux-*/diseq $(BIN)/images/linux-*/diseq-operator

.PHONY: release
release: ## All files of a release of the last commit, with SHA256SUMS, into RELEASE_DIR: archives, images, chart, npm package, bills of materials.
	@hack/release.sh --out $(RELEASE_DIR)

.PHONY: release-check
release-check: ## Make the release twice, in two folders, and compare every byte; vet for arm64 and run there (qemu). Takes long.
	@hack/release-check.sh

.PHONY: devnet
devnet: build ## Run a local network until Ctrl-C. The next run in DEVNET_DIR continues its chain. VALIDATORS, THRESHOLD, HTTP.
	$(BIN)/diseq devnet --validators $(VALIDATORS) --threshold $(THRESHOLD) --dir $(DEVNET_DIR) --http $(HTTP)

.PHONY: demo
demo: ## Four validators as processes, then the operator and a network on a cluster, which stays. USE_CONTEXT=1: kubectl's cluster.
	@VERSION='$(VERSION)' COMMIT='$(COMMIT)' hack/demo.sh up

.PHONY: demo-down
demo-down: ## Remove what make demo made, the cluster included.
	@hack/demo.sh down

.PHONY: kind-up
kind-up: ## A kind cluster of four nodes. Makes an engine and a node image if there are none. See hack/kind/README.md.
	@hack/kind/kind.sh up

.PHONY: kind-down
kind-down: ## Remove that cluster, and the engine if kind-up started it.
	@hack/kind/kind.sh down

.PHONY: devnet-demo
devnet-demo: build ## Part one of make demo alone: start a network, submit, verify a receipt, refuse a forged one, follow, stop.
	@DISEQ=$(BIN)/diseq hack/devnet-demo.sh

##@ Test

.PHONY: quick
quick: ## Format, vet, unit tests of the packages that changed since main and of their importers, transcripts: a minute. BASE, TESTFLAGS.
	@$(PHASE) quick env BASE='$(BASE)' KIND_PKGS='$(KIND_PKGS)' TESTFLAGS='$(TESTFLAGS)' hack/quick.sh

.PHONY: test
test: ## Everything that CI runs, with a table of times. Each phase below also runs alone.
	@export PHASE_TIMES=$$(mktemp); trap 'rm -f "$$PHASE_TIMES"' EXIT; start=$$(date +%s); \
	for phase in $(TEST_PHASES); do $(MAKE) $$phase; done; \
	$(PHASE) --table "$$PHASE_TIMES"; \
	printf '\nall phases passed in %ds\n' $$(($$(date +%s) - start))

.PHONY: check-format
check-format: ## Fail on a Go file that gofmt would change.
	@$(PHASE) format hack/check-format.sh

.PHONY: check-modules
check-modules: ## Fail on a module that differs from go.sum, from what its sources need, or in the versions that modules share.
	@$(PHASE) modules hack/check-modules.sh

.PHONY: vet
vet: ## go vet, on the tools as well.
	@$(PHASE) vet bash -euc '$(COMPILE) vet ./...; $(COMPILE) -C hack/tools vet ./...; $(COMPILE) -C hack/image vet ./...; \
		$(COMPILE) -C hack/release vet ./...; $(COMPILE) -C test/bench/peers vet ./...; \
		$(COMPILE) -C hack/kind/go vet $(KIND_PKGS)'

.PHONY: lint
lint: ## golangci-lint, shellcheck; tests and links that documents name.
	@$(PHASE) lint env GOLANGCI_LINT="$(GOLANGCI_LINT)" hack/lint.sh
	@$(PHASE) documents hack/check-docs.sh

.PHONY: verify-generated
verify-generated: tools ## Fail if generating again would change a generated file. Works on a copy.
	@$(PHASE) 'generated files' env TOOLS_BIN=$(TOOLS_BIN) hack/verify-generated.sh

.PHONY: unit
unit: ## Unit tests.
	@$(PHASE) 'unit tests' $(GO) test -timeout 45m $(TESTFLAGS) $(UNIT_PKGS)
	@$(PHASE) 'images without an engine' $(GO) -C hack/image test $(TESTFLAGS) ./...
	@$(PHASE) 'load on other systems' $(GO) -C test/bench/peers test $(TESTFLAGS) ./...
	@$(PHASE) 'files of a release' $(GO) -C hack/release test $(TESTFLAGS) ./...
	@hack/setup.sh --optional nft=nftables || echo 'nft cannot be installed: it does not check the rules of the network of hack/kind'
	@$(PHASE) 'network and volumes of hack/kind' $(GO) -C hack/kind/go test $(TESTFLAGS) ./podnet ./volumes

.PHONY: race
race: ## Unit tests under the race detector.
	@hack/setup.sh gcc=gcc
	@$(PHASE) 'race detector' env CGO_ENABLED=1 $(GO) test -race -short -timeout 60m $(TESTFLAGS) $(UNIT_PKGS) $(SIMULATION_PKGS)

.PHONY: simulation
simulation: ## Consensus and whole nodes against an adversary in virtual time: a few hundred seeds for each promise, every control.
	@$(PHASE) 'simulation' $(GO) test -timeout 45m $(TESTFLAGS) $(SIMULATION_PKGS)

.PHONY: sim
sim: ## A long simulation: SIM_SEEDS seeds for each promise, NODE_SEEDS for whole nodes, tables at the end.
	@$(PHASE) 'simulation, $(SIM_SEEDS) seeds each' $(GO) run ./test/sim -seeds $(SIM_SEEDS)
	@$(PHASE) 'small model, long searches' env DISEQ_LONG_MODEL=1 $(GO) test -count=1 -v -timeout 0 -run SmallModel ./node/consensus
	@$(PHASE) 'whole nodes, $(NODE_SEEDS) seeds each' $(GO) test -count=1 -v -timeout 0 ./test/nodes -seeds $(NODE_SEEDS)

.PHONY: fuzz-short
fuzz-short: ## Every fuzz target for FUZZTIME_SHORT.
	@$(PHASE) 'fuzz targets, $(FUZZTIME_SHORT) each' $(GO) run ./hack/fuzz -fresh -time $(FUZZTIME_SHORT)

.PHONY: integration
integration: ## The operator and its API against a real API server, which hack/kind builds.
	@$(PHASE) 'real API server' bash -euc 'KUBEBUILDER_ASSETS=$$(hack/kind/kind.sh assets); export KUBEBUILDER_ASSETS; \
		exec $(GO) test -count=1 -timeout 60m $(TESTFLAGS) $(INTEGRATION_PKGS)'

.PHONY: processes
processes: ## Hard failures with real processes: killed, frozen, cut off, without power.
	@$(PHASE) 'real processes' $(GO) test -count=1 -timeout 60m $(TESTFLAGS) $(PROCESS_PKGS)

.PHONY: compose-test
compose-test: ## compose.yaml on the Docker engine that answers, or on one of our own (hack/kind).
	@hack/image/build.sh --out $(BIN)/images node
	@$(COMPILE) -C hack/tools/compose build -trimpath -o $(TOOLS_BIN)/docker-compose github.com/docker/compose/v5/cmd
	@hack/kind/kind.sh engine up
	@$(PHASE) 'docker compose' hack/kind/kind.sh run -- env DOCKER_COMPOSE=$(TOOLS_BIN)/docker-compose \
		$(GO) test -count=1 -v -timeout 45m $(TESTFLAGS) ./test/compose/...

.PHONY: e2e
e2e: tools-helm ## The operator on a kind cluster, made for the test and removed. E2E_KEEP=1 keeps it. E2E_ARGS go to go test.
	@$(PHASE) 'a real cluster' hack/e2e.sh $(E2E_ARGS)

.PHONY: dockerfile-test
dockerfile-test: ## Build the Dockerfile on such an engine and compare with hack/image. Compiles everything again: takes minutes.
	@hack/kind/kind.sh engine up
	@$(PHASE) 'docker build' hack/kind/kind.sh run -- $(GO) test -count=1 -v -timeout 40m $(TESTFLAGS) ./test/images/...

.PHONY: chart
chart: tools-helm ## Lint and render the Helm chart, and compare it with config/. HELM names another Helm.
	@$(PHASE) 'Helm chart' env HELM=$(HELM) $(GO) test -count=1 -timeout 45m $(TESTFLAGS) ./test/chart

.PHONY: monitoring
monitoring: ## Alerts and dashboards: promtool, and a Prometheus beside a network with faults. Fetches Debian's package into bin/tools.
	@$(PHASE) 'alerts and dashboards' env TOOLS_BIN=$(TOOLS_BIN) hack/monitoring.sh $(TESTFLAGS)

.PHONY: typescript
typescript: build ## Check, build and test the TypeScript client and the explorer, against networks of processes and in a browser.
	@$(PHASE) 'TypeScript client' env DISEQ=$(BIN)/diseq hack/typescript.sh
	@$(PHASE) 'explorer' env DISEQ=$(BIN)/diseq hack/explorer.sh

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME, one for each core, with a table at the end. FUZZ selects by a part of the name.
	@$(PHASE) 'fuzz targets, $(FUZZTIME) each' $(GO) run ./hack/fuzz -time $(FUZZTIME) -only '$(FUZZ)'

.PHONY: fuzz-corpus
fuzz-corpus: ## Reduce the inputs found so far to the fewest that reach the same code, and write them to testdata/fuzz. FUZZ as above.
	@$(PHASE) 'fuzz corpora' $(GO) run ./hack/fuzz -corpus -only '$(FUZZ)'

.PHONY: kind-smoke
kind-smoke: ## A cluster of hack/kind gives a workload all that it relies on, and its removal leaves nothing.
	@$(PHASE) 'kind cluster' hack/kind/smoke.sh

.PHONY: vuln
vuln: ## Look for known vulnerabilities in the functions that the code calls. Needs vuln.go.dev.
	@$(PHASE) vulnerabilities env GOVULNCHECK="$(GOVULNCHECK)" hack/vuln.sh

.PHONY: hostile
hostile: build ## All attacks at once on a network of processes, honest clients beside them, for HOSTILE_TIME.
	@$(PHASE) 'hostile soak' env DISEQ=$(BIN)/diseq HOSTILE_TIME=$(HOSTILE_TIME) \
		$(GO) test -count=1 -v -timeout 0 ./test/hostile

.PHONY: powercut
powercut: build ## Power cuts in every fsync of long recordings, which are POWERCUT_ROUNDS times those of the test suite.
	@$(PHASE) 'power cuts' env DISEQ=$(BIN)/diseq POWERCUT_ROUNDS=$(POWERCUT_ROUNDS) \
		$(GO) test -count=1 -v -timeout 0 ./test/powercut

.PHONY: bench
bench: build ## Go benchmarks (to BENCH_OUT), reconciles of the operator, the whole system. BENCH, BENCH_COUNT.
	@$(PHASE) 'Go benchmarks' env BENCH='$(BENCH)' BENCH_COUNT=$(BENCH_COUNT) BENCH_OUT=$(BENCH_OUT) hack/bench.sh go
	@$(PHASE) 'operator benchmark' bash -euc 'KUBEBUILDER_ASSETS=$$(hack/kind/kind.sh assets); export KUBEBUILDER_ASSETS; exec hack/bench.sh operator'
	@$(PHASE) 'system benchmark' env DISEQ=$(BIN)/diseq hack/bench.sh system

.PHONY: bench-history
bench-history: build ## Speed with HISTORY_MESSAGES (ten million) of history. The network stays in HISTORY_DIR (.history): 10 to 40 GB.
	@$(PHASE) 'history benchmark' env DISEQ=$(BIN)/diseq hack/bench.sh history

.PHONY: bench-peers
bench-peers: build ## CometBFT and a JetStream that syncs always beside DISEQ: the same load in turns, and ratios.
	@$(PHASE) 'other systems' env DISEQ=$(BIN)/diseq TOOLS_BIN=$(TOOLS_BIN) hack/bench.sh peers

.PHONY: bench-against
bench-against: build ## DISEQ beside the program of the commit BASE, in turns, for a change that is to make it faster. BENCH_ARGS.
	@$(PHASE) 'in turns' env DISEQ=$(BIN)/diseq hack/bench.sh against $(or $(BASE),main) $(BENCH_ARGS)

.PHONY: bench-tables
bench-tables: ## Write what was measured last into docs/performance.md.
	@$(GO) run ./hack/bench -from $(BIN)/bench -document docs/performance.md

.PHONY: bench-compare
bench-compare: ## Compare two results of `make bench`, and list what became worse: make bench-compare OLD=a.txt NEW=b.txt
	$(BENCHSTAT) $(OLD) $(NEW)
	@$(GO) run -C hack/tools ./regressions $(abspath $(OLD)) $(abspath $(NEW))

##@ Develop

.PHONY: fmt
fmt: ## Format the Go code and sort its imports.
	$(GOLANGCI_LINT) fmt

.PHONY: tools
tools: # The code generators. go build does nothing if they are up to date.
	@mkdir -p $(TOOLS_BIN)
	@$(COMPILE) -C hack/tools build -o $(TOOLS_BIN)/ ./protogen \
		google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc \
		sigs.k8s.io/controller-tools/cmd/controller-gen

.PHONY: tools-helm
tools-helm: ## Build the pinned Helm, for the chart and its tests: bin/tools/helm.
	@mkdir -p $(TOOLS_BIN)
	@$(COMPILE) -C hack/tools/helm build -o $(TOOLS_BIN)/ helm.sh/helm/v4/cmd/helm

.PHONY: generate
generate: generate-proto generate-api generate-chart ## Regenerate every generated file.
	$(GO) generate ./...

.PHONY: explorer
explorer: ## Build the page that nodes serve: node/server/explorer/page, from client/explorer.
	@hack/explorer.sh build

.PHONY: explorer-pictures
explorer-pictures: build ## Take the pictures of docs/explorer.md: a network of processes, a browser.
	@DISEQ=$(BIN)/diseq hack/explorer.sh pictures

.PHONY: generate-proto
generate-proto: tools ## Regenerate the Go code of node/**/*.proto.
	@TOOLS_BIN=$(TOOLS_BIN) hack/generate-proto.sh

.PHONY: generate-api
generate-api: tools ## Regenerate Go code, CRD and role from api/ and from the RBAC markers of controllers/.
	@TOOLS_BIN=$(TOOLS_BIN) hack/generate-api.sh

.PHONY: generate-dashboards
generate-dashboards: ## Write Grafana's dashboards, config/grafana, from hack/dashboards.
	@$(GO) run ./hack/dashboards config/grafana

.PHONY: generate-chart
generate-chart: generate-api generate-dashboards ## Copy the CRD, the roles' rules, alerts and dashboards from config/ into the chart.
	@hack/generate-chart.sh

.PHONY: clean
clean: ## Remove what these targets made.
	rm -rf $(BIN) $(DEVNET_DIR)

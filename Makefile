# meshctl: everything a developer or CI runs. Nothing here needs root.
GO      ?= go
BIN     := bin/meshctl
TESTSUM := gotest.tools/gotestsum@v1.13.0
LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
# The race detector needs a C compiler; without one the tests still run.
RACE    := $(shell command -v $${CC:-cc} >/dev/null 2>&1 && echo -race)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X main.version=$(VERSION)
PREFIX  ?= /usr/local

.PHONY: all build test check lint gen bench cases soak crash fuzz cross install clean

all: build test check

build:
	$(GO) build -o $(BIN) ./cmd/meshctl

# One package at a time: most run whole meshes, which starve each other. A
# test that fails is run again, alone, up to twice: that tells a machine that
# was too busy for a mesh in real time from a fault. Such tests are listed at
# the end; more than ten failures are not run again.
test: bin/gotestsum
	bin/gotestsum --format pkgname-and-test-fails --rerun-fails=2 --rerun-fails-max-failures=10 --rerun-fails-report=bin/reruns.txt \
	  --packages ./... -- $(RACE) -p 1 -timeout 20m; code=$$?; cat bin/reruns.txt 2>/dev/null; exit $$code

bin/gotestsum:
	GOBIN=$(CURDIR)/bin $(GO) install $(TESTSUM)

# check changes nothing that is committed: a difference fails it.
check: gen
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -d $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) mod tidy -diff
	$(GO) mod verify
	git diff --exit-code -- completions docs
	@test -z "$$(git status --porcelain -- completions docs)" || { git status --short -- completions docs; exit 1; }
	$(MAKE) lint

lint:
	$(GO) run $(LINT) run ./...

# gen writes what is generated and committed.
gen:
	$(GO) run ./cmd/meshctl completion bash > completions/meshctl.bash
	$(GO) run ./cmd/meshctl completion zsh > completions/_meshctl
	$(GO) run ./cmd/meshctl completion fish > completions/meshctl.fish
	$(GO) run ./cmd/meshctl completion powershell > completions/meshctl.ps1
	$(GO) run ./cmd/meshctl manual docs/man
	$(GO) run ./cmd/meshctl explain --markdown > docs/codes.md

# bench prints one JSON line per figure: what, bar, actual, ok.
bench:
	@{ $(GO) test -run '^$$' -bench 'FailoverOutage|RelayEcho|Start|TabBash|Status' -benchtime 20x ./mesh ./probes ./cmd/meshctl && \
	  $(GO) test -run '^$$' -bench 'StandbyOutage|PlannedMove|SignalingFailover' -benchtime 5x ./mesh && \
	  $(GO) test -run '^$$' -bench 'Partition|OneWayLoss' -benchtime 3x ./mesh/lab && \
	  $(GO) test -run '^$$' -bench FullMesh -benchtime 1x ./mesh && \
	  $(GO) test -run '^$$' -bench Throughput -benchtime 3x ./mesh && \
	  $(GO) test -run '^$$' -bench 'Append$$' -benchtime 500x ./witnessclient && \
	  $(GO) test -run '^$$' -bench 'RoundTrips|HundredEchoes|ManyServers|SilentServer' -benchtime 3x ./probes && \
	  $(GO) test -run '^$$' -bench 'Uclient' -benchtime 1x ./probes && \
	  $(GO) test -run '^$$' -bench 'ScanStats' -benchtime 5x ./mesh/control; } | awk -f .ci/bench.awk

# cases breaks a mesh in the ways of docs/agent.md, "Known faults", and prints
# when each was found and recovered from.
cases:
	$(GO) test -count 1 -p 1 -v -run '^TestCase' ./mesh ./mesh/lab ./mesh/sentinel ./runbooks | \
	  awk '/: case |^(---|FAIL|ok)/ { print } /^FAIL/ { failed = 1 } END { exit failed }'

# soak looks for what only time shows: no path that is slow, jittery and lossy
# may be taken for a dead one. SOAK is how long.
soak:
	SOAK=$${SOAK:-10m} $(GO) test -count 1 -timeout 0 -v -run NoFalseFailovers ./mesh/lab

# crash kills the program wherever something could be lost, and goes on.
crash:
	MESHCTL_CRASH=1 $(GO) test -count=1 -v -timeout 60m -run '^TestCrash' ./runbooks

# Without a bound, making inputs smaller takes all the time there is.
fuzz:
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $${FUZZTIME:-60s} -fuzzminimizetime 10x $$pkg || exit 1; \
	  done; \
	done

cross:
	@for os in linux darwin; do for arch in amd64 arm64; do \
	  echo "dist/meshctl-$$os-$$arch"; \
	  CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o dist/meshctl-$$os-$$arch ./cmd/meshctl || exit 1; \
	done; done

install: build
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/bin/meshctl
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 0644 docs/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1

clean:
	rm -rf bin dist

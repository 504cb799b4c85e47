# Two commands matter: `make demo` and `make test`.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

ONEBYTE := .build/release/onebyte
CONFIG  := examples/movie-reviews.toml
# Further flags for the demo's cluster, such as FLAGS='--seed 2 --rounds 100'.
FLAGS   :=

.PHONY: help
help: ## What there is to make
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/' | expand -t 20

.PHONY: build
build: ## Build the release binary (installs the libraries that are missing)
	@scripts/install-needs
	swift build -c release --product onebyte

.PHONY: portable
portable: ## .build/portable/release/onebyte, which needs no Swift on the hosts that it is copied to
	@scripts/install-needs portable
	swift build -c release --product onebyte --static-swift-stdlib -Xlinker --strip-all --scratch-path .build/portable

.PHONY: package
package: portable ## A release in .build/package: archive, Debian package, installer and their SHA-256 (deploy/package)
	@$(MAKE) -s install ONEBYTE=.build/portable/release/onebyte DESTDIR=.build/package-tree PREFIX=
	@ONEBYTE_SHARE=.build/package-tree/share deploy/package/make-package

PREFIX := /usr/local
SHARE  := $(DESTDIR)$(PREFIX)/share

.PHONY: install
install: ## Install the release binary, completions for bash, zsh and fish, and man pages below PREFIX=/usr/local
	@test -x $(ONEBYTE) || $(MAKE) build
	install -D -m 755 $(ONEBYTE) $(DESTDIR)$(PREFIX)/bin/onebyte
	@mkdir -p $(SHARE)/bash-completion/completions $(SHARE)/zsh/site-functions $(SHARE)/fish/vendor_completions.d $(SHARE)/man/man1
	$(ONEBYTE) --generate-completion-script bash > $(SHARE)/bash-completion/completions/onebyte
	$(ONEBYTE) --generate-completion-script zsh > $(SHARE)/zsh/site-functions/_onebyte
	$(ONEBYTE) --generate-completion-script fish > $(SHARE)/fish/vendor_completions.d/onebyte.fish
	swift package generate-manual --multi-page > /dev/null
	install -m 644 .build/plugins/GenerateManual/outputs/OneByte/*.1 $(SHARE)/man/man1

.PHONY: demo
demo: ## Fine-tune a real language model on this machine: one coordinator, three workers, one byte a sample
	@scripts/install-needs demo
	@swift build -c release --product onebyte
	@scripts/demo-data
	@$(ONEBYTE) cluster --config $(CONFIG) $(FLAGS)

.PHONY: demo-seeds
demo-seeds: ## The demo with three seeds, and the mean with its interval
	@scripts/install-needs demo
	@swift build -c release --product onebyte
	@scripts/demo-data
	@scripts/demo-seeds -- $(FLAGS)

.PHONY: friendlier
friendlier: ## Train for the score of a program without a gradient: friendlier texts; before and after on 400 prompts
	@scripts/install-needs demo
	@swift build -c release --product onebyte
	@scripts/demo-data
	@examples/friendliness.py --prepare
	@scripts/friendlier $(ONEBYTE) $(FLAGS)

# What pip may not install for the whole system goes beside the other downloads.
PYTHON_HERE := PYTHONPATH="$(CURDIR)/.cache/python$${PYTHONPATH:+:$$PYTHONPATH}"

# A plain build leaves the benchmarks out (Package.swift).
BUILD_BENCHMARKS := for product in KernelBenchmark EstimatorBenchmark ClusterBenchmark; do ONEBYTE_WITH=benchmarks swift build -c release --product $$product; done

.PHONY: bench
bench: ## How fast everything is, beside PyTorch in the same run: a table and bench.json (a quarter of an hour; FLAGS='--only kernels --turns 1' for a part)
	@scripts/install-needs demo
	@swift build -c release --product onebyte
	@$(BUILD_BENCHMARKS)
	@scripts/demo-data
	@$(PYTHON_HERE) python3 -c 'import torch, transformers' 2> /dev/null || python3 -m pip install -q --target .cache/python torch transformers
	@$(PYTHON_HERE) Benchmarks/bench.py $(FLAGS)

.PHONY: bench-check
bench-check: ## Whether ratios that do not depend on the machine are within Benchmarks/thresholds.json (five minutes)
	@scripts/install-needs demo
	@swift build -c release --product onebyte
	@$(BUILD_BENCHMARKS)
	@scripts/demo-data
	@Benchmarks/bench.py --only kernels,step,sharing,wire --turns 1 --check --output .build/bench-check.json

.PHONY: docs
docs: ## The reference of Core's public API, for a browser: .build/docs/Core.doccarchive
	@scripts/install-needs
	@swift build --target Core --scratch-path .build/symbol-graphs -Xswiftc -emit-symbol-graph -Xswiftc -emit-symbol-graph-dir -Xswiftc .build/symbol-graphs/graphs
	@mkdir -p .build/docs
	@docc convert Sources/Core/Core.docc --additional-symbol-graph-dir .build/symbol-graphs/graphs --fallback-display-name Core \
		--fallback-bundle-identifier org.onebyte.Core --transform-for-static-hosting --warnings-as-errors --output-dir .build/docs/Core.doccarchive
	@echo "look at it with: python3 -m http.server --directory .build/docs/Core.doccarchive 8080    (http://localhost:8080/documentation/core)"

.PHONY: test
test: ## All tests, in release (installs the libraries that are missing)
	@scripts/install-needs
	@mkdir -p .build
# A build waits for one module after another, so a core is free for the format and the other processor's kernels.
	@{ $(MAKE) -s check-format && scripts/test-neon; } > .build/beside.log 2>&1 & beside=$$!; \
		status=0; swift test $(TEST_FLAGS) --skip ClusterTests || status=$$?; \
		wait $$beside || status=$$?; cat .build/beside.log; exit $$status
# Processes that are killed and stopped in the midst of runs have the machine to themselves: who reads what they say must keep up.
	swift test $(TEST_FLAGS) --filter ClusterTests

TEST_FLAGS := -c release --explicit-target-dependency-import-check error

.PHONY: fast
fast: ## The tests that start no processes: arithmetic, ledger, protocol, simulator, models, tokenizers
	@scripts/install-needs
	swift test -c release --explicit-target-dependency-import-check error --filter 'CoreTests|LanguageModelTests'

# What the Swift files look like is .swift-format's business.
SWIFT_FILES := Sources Tests Benchmarks Package.swift

.PHONY: check-format
check-format: ## Whether all Swift files are formatted
	@swift format lint --strict --recursive $(SWIFT_FILES)

.PHONY: format
format: ## Format all Swift files
	@swift format format --in-place --recursive $(SWIFT_FILES)

# Further seeds of the chaos test.
CHAOS_SEEDS := 10

# The fuzzed parsers, and the seconds for each.
FUZZ := $(notdir $(wildcard Tests/Fuzz/corpus/*))
FUZZ_SECONDS := 300

.PHONY: fuzz
fuzz: ## Every parser under libFuzzer for FUZZ_SECONDS=300 (an hour in all; FUZZ='ledger gguf' selects some); failing inputs are in .build/fuzz/found
	@scripts/install-needs
	ONEBYTE_WITH=fuzz swift build -c release --scratch-path .build/fuzz --product Fuzz -Xswiftc -sanitize=fuzzer -Xcc -fsanitize=fuzzer-no-link
	@mkdir -p .build/fuzz/found
	@for parser in $(FUZZ); do echo "== $$parser"; mkdir -p .build/fuzz/corpus/$$parser; \
		ONEBYTE_FUZZ=$$parser .build/fuzz/release/Fuzz -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
			-verbosity=0 -artifact_prefix=.build/fuzz/found/$$parser- .build/fuzz/corpus/$$parser Tests/Fuzz/corpus/$$parser; done

.PHONY: sanitise
sanitise: ## Every variant of the integer kernels that this processor has, under the sanitisers for addresses and undefined behaviour
	@mkdir -p .build/sanitise
	clang -O1 -g -ffp-contract=off -std=gnu17 -fuse-ld=lld -fsanitize=address,undefined -fno-sanitize-recover=all -ISources/Kernels/include \
		-ISources/Kernels Tests/KernelVectors/kernel_vectors.c Sources/Kernels/*.c -lm -o .build/sanitise/kernels
	.build/sanitise/kernels > .build/sanitise/kernels.txt

.PHONY: chaos
chaos: ## Real processes under CHAOS_SEEDS=10 seeds of SIGKILL, SIGSTOP, cut links and newcomers; and a coordinator killed 50 times
	@scripts/install-needs
	ONEBYTE_CHAOS_SEEDS=$(CHAOS_SEEDS) swift test -c release --filter ChaosTests
	ONEBYTE_KILLS=50 swift test -c release --filter CrashTests/coordinatorKilled

.PHONY: deploy-test
deploy-test: ## The ways to deploy, each with what this machine has: sshd, Slurm's daemons, kubectl, systemd-analyze (as root)
	@scripts/install-needs
	ONEBYTE_DEPLOY_TESTS=1 swift test -c release --filter DeployTests

SEEDS := 10000

.PHONY: soak
soak: ## The protocol's simulator with SEEDS=10000 seeds of faults; a failing seed is printed, and ONEBYTE_SEED replays it
	@scripts/install-needs
	ONEBYTE_SIM_SEEDS=$(SEEDS) swift test -c release --filter SimulatorTests

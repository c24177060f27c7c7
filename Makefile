# Event Stream. `make` alone lists what there is.

# Tests and functions share one build: sam builds for the host's triple by name, so everything else does too.
export CARGO_BUILD_TARGET ?= $(shell rustc -vV | sed -n 's/^host: //p')

PYTHON ?= python3
LOCAL := .venv/emulator/bin/python -B local/stack.py
TOOLS := .venv/tools/bin
CONSOLE := .venv/receivers/bin/python -B local/console.py

.DEFAULT_GOAL := help
.PHONY: help up down demo kill simulate bench bench-compare bench-growth bench-file bench-latency bench-flow test check unit house docs lint-template lint-openapi deny attack fuzz build-cloud receivers realtime tenant dev cost openapi monitoring fmt token watch logs console console-files stories screenshots fresh clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

up:  ## start the local stack, or bring it up to date (PORT=4566)
	@$(PYTHON) -B local/prepare.py
	@$(LOCAL) up

down:  ## stop the local stack; what is in it is gone
	@if [ -x .venv/emulator/bin/python ]; then $(LOCAL) down; else echo "down: nothing was running"; fi

demo: up  ## watch events leave as webhooks and as S3 files
	@. target/local/env && target/$(CARGO_BUILD_TARGET)/debug/demo

kill: up  ## the demo's load while function processes are killed at random moments (some minutes)
	@.venv/emulator/bin/python -B local/kill.py

simulate:  ## 100,000 random histories of streams and of exports, and every bug that has to be found (HISTORIES=100000, some minutes)
	@cargo build -q --bin simulate
	@target/$(CARGO_BUILD_TARGET)/debug/simulate --histories $${HISTORIES:-100000}
	@target/$(CARGO_BUILD_TARGET)/debug/simulate --mutants
	@target/$(CARGO_BUILD_TARGET)/debug/simulate --exports --histories $${HISTORIES:-100000}
	@target/$(CARGO_BUILD_TARGET)/debug/simulate --exports --mutants

bench: console-files venv-emulator  ## what each function costs beside its floor: CPU for 1,000 events, memory, cold start (6 minutes, after a build)
	@.venv/emulator/bin/python -B local/bench.py

bench-compare: console-files venv-emulator  ## the same for this build and another one, in turn, with the ratio (BASE=<commit>)
	@.venv/emulator/bin/python -B local/bench.py compare "$(BASE)"

bench-growth: console-files venv-emulator  ## what an event costs with 1 to 25 integrations and up to 1,000,000 events in the event log, as a picture
	@.venv/emulator/bin/python -B local/bench.py growth

bench-file:  ## what a file costs from segments to its body, beside memory's and zstd's own speed
	cargo bench --manifest-path bench/Cargo.toml --target-dir target/bench --bench file

bench-latency: up  ## from publication to the webhook's arrival on the local stack, at 50 events/s, one a request
	@. target/local/env && target/$(CARGO_BUILD_TARGET)/debug/demo --events 3000 --batch 1 --rate 50 --bus-events 0

bench-flow:  ## what webhooks cost: catch-up and live runs, in events/s, CPU and what AWS bills, against canned services
	cargo bench --manifest-path bench/Cargo.toml --target-dir target/bench --bench flow

unit:  ## the tests of the rules alone: no AWS, no stack, under a minute from nothing
	@cargo test --locked --profile unit --package domain

test:  ## everything, on stacks of its own, or some steps of it (STEPS="console readme")
	@$(PYTHON) -B local/test.py $(STEPS)

house:  ## the walls: what domain may link, who calls receivers, no import cycles, no crate compiled twice; prints the longest files
	@$(PYTHON) -B local/house.py report

docs:  ## the documents: links, line lengths, and that each test named in docs/invariants.md exists
	@$(PYTHON) -B local/docs.py

check: house docs lint-template lint-openapi deny  ## what needs no local stack: formatting, clippy, template, document, licences, cargo test
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	cargo test --workspace
	cd fuzz && cargo check --locked --target-dir target  # workspaces of their own, which nothing else compiles here
	cd bench && cargo check --locked --all-targets --target-dir target

lint-template: venv-tools venv-checkov  ## cfn-lint, sam validate --lint, checkov, and least privilege against its table
	@$(TOOLS)/cfn-lint --include-checks I --ignore-checks I4010 -- template.yaml monitoring.json  # I4010 wants a prose of its own beside our comments
	@$(TOOLS)/python -B local/policies.py
	@.venv/checkov/bin/python -B local/actions.py
	@SAM_CLI_TELEMETRY=0 $(TOOLS)/sam validate --lint
	@BC_SKIP_MAPPING=TRUE LOG_LEVEL=ERROR .venv/checkov/bin/checkov --config-file local/checkov.yaml --file template.yaml

lint-openapi:  ## redocly on openapi.json; needs npm (Node.js 20.19, or 22.12 and later)
	@if command -v npm >/dev/null; then \
		mkdir -p .venv/npm && cmp -s local/npm/package-lock.json .venv/npm/package-lock.json || { \
			cp local/npm/package.json local/npm/package-lock.json .venv/npm/ && \
			npm --prefix .venv/npm ci --ignore-scripts --no-audit --no-fund --silent || { rm -f .venv/npm/package-lock.json; exit 1; }; }; \
		REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true .venv/npm/node_modules/.bin/redocly lint openapi.json --config local/npm/redocly.yaml; \
	else echo "lint-openapi: NOT CHECKED, since there is no npm here"; fi

deny:  ## licences and sources of what is linked; advisories and duplicates where cargo-deny is installed
	@$(PYTHON) -B local/supply.py report
	@if command -v cargo-deny >/dev/null; then \
		cargo deny --workspace check --hide-inclusion-graph licenses bans sources; \
		cargo deny --workspace check advisories || echo "deny: ADVISORIES: see above, or NOT CHECKED where their database cannot be had"; \
	else echo "deny: advisories NOT CHECKED: cargo install cargo-deny --locked"; fi

attack: up venv-attack  ## thousands of requests made from openapi.json (EXAMPLES=1000); none may be answered with a 5xx or undocumented
	@. target/local/env && .venv/attack/bin/python -B local/attack.py $(or $(EXAMPLES),1000)

fuzz:  ## every fuzz target for FUZZ_SECONDS=20; needs a nightly toolchain and cargo-fuzz
	@command -v cargo-fuzz >/dev/null || { echo "fuzz: cargo install cargo-fuzz --locked"; exit 1; }
	@cargo +nightly fuzz build -O -s none --target-dir fuzz/target
	@cd fuzz && for target in $$(cargo +nightly fuzz list --fuzz-dir .); do \
		echo "=== $$target"; mkdir -p corpus/$$target artifacts/$$target; \
		target/$(CARGO_BUILD_TARGET)/release/$$target -max_total_time=$(or $(FUZZ_SECONDS),20) -max_len=8192 -timeout=10 -verbosity=0 -print_final_stats=1 \
			-artifact_prefix=artifacts/$$target/ corpus/$$target seeds/$$target || exit 1; \
	done

build-cloud: console-files venv-tools venv-cloud  ## build the functions for AWS into .aws-sam/cloud, with pinned tools (ARCH=arm64)
	@.venv/cloud/bin/python -B local/cloud.py

openapi:  ## write openapi.json again, from the routes and types of the API
	@WRITE_OPENAPI=1 cargo test -q --workspace --lib the_committed_document_is_what_the_code_says >/dev/null

monitoring:  ## write monitoring.json again: alarms, dashboard and saved queries, from the crate monitoring
	@WRITE_MONITORING=1 cargo test -q --package monitoring the_committed_template_is_what_the_code_says >/dev/null

fmt:  ## format the code
	cargo fmt --all

dev: up  ## a function of the local stack under cargo lambda watch, behind its triggers, until Ctrl-C (FUNCTION=delivery)
	@FUNCTION='$(FUNCTION)' .venv/emulator/bin/python -B local/dev.py

cost: up  ## what a million events cost in AWS, counted on the local stack (EVENTS=4000 BATCH=10 RATE=20)
	@. target/local/env && .venv/emulator/bin/python -B local/cost.py

receivers: up  ## the receivers of docs/receivers.md, in Python, TypeScript and Rust, against the local stack
	@. target/local/env && .venv/receivers/bin/python -B local/receiving.py

realtime: up  ## how late events are while receivers fail, hiccup, hang or are slow: promises of time (8 minutes)
	@. target/local/env && .venv/emulator/bin/python -B local/realtime.py

tenant: venv-emulator  ## a machine client for one more tenant (NAME=acme; STACK=event-stream for one in AWS)
	@NAME='$(NAME)' STACK='$(STACK)' .venv/emulator/bin/python -B local/tenant.py

token: venv-emulator  ## new access tokens in target/local/env (they last a day)
	@$(LOCAL) token

watch: venv-tools  ## what the local stack does, live: rates, latencies, failures, backlog, a line for each integration
	@.venv/tools/bin/python -B local/watch.py

console: up  ## the address of the console of the local stack, which signs in by itself
	@$(CONSOLE) open

stories: up  ## the console in a real browser, against the local stack
	@$(CONSOLE) stories

screenshots: up  ## the pages of the console as pictures, in target/screenshots
	@$(CONSOLE) screenshots

logs: venv-emulator  ## what the functions of the local stack have logged
	@$(LOCAL) logs

fresh:  ## make demo and make test as on a new machine: an empty clone, home and folder for temporary files (20 minutes)
	@$(PYTHON) -B local/fresh.py

clean: down  ## stop the local stack, remove everything that was built or installed
	rm -rf .aws-sam .venv target

venv-%:
	@$(PYTHON) -B local/venvs.py $*

console-files: venv-receivers
	@$(CONSOLE) files

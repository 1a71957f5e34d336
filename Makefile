# walfan's verbs; `make help` lists them. Everything that is built lies in target/.

CARGO ?= cargo
# Passed on to loadgen, as in: make load ARGS="--shapes 10000 --duration 10s"
ARGS ?= --duration 30s
# Seeds of `make oracle`, and how many clauses each generates.
SEEDS ?= 1 2 3 4 5 6 7 8 9 10 11 12 13
CLAUSES ?= 40000
# Rounds of `make chaos`; a round's SEED repeats it.
ROUNDS ?= 100
SEED ?= 1
# Runs of `make sim`, from SEED on.
RUNS ?= 100000
TARGET_DIR = $(or $(CARGO_TARGET_DIR),target)
# One set of features for every test, so that nothing is compiled twice.
WHOLE = $(CARGO) test --workspace --all-features
LOADGEN = $(CARGO) run --release -p walfan-loadgen

.DEFAULT_GOAL := help
.PHONY: help load load-postgres chaos sim test test-engine test-postgres test-loom oracle check bench \
	figures need-rust need-postgres

help: ## Lists the verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

load: need-rust ## Runs the main job: 300,000 shapes, consumers killed, 30 s; report in results/
	$(LOADGEN) -- run crash --out results $(ARGS)

load-postgres: need-rust need-postgres ## Runs it against a throwaway Postgres until its slot is at the end
	$(LOADGEN) --features postgres -- run crash --source postgres --shapes 10000 --crash-rate 0.02 \
		--out results $(ARGS)

chaos: need-rust ## Kills, fills, starves and wedges a real engine, and checks it: ROUNDS=100 SEED=1
	$(LOADGEN) -- chaos --rounds $(ROUNDS) --seed $(SEED)

sim: need-rust ## Simulates RUNS=100000 runs from SEED on; SEED=7 RUNS=1 repeats one
	WALFAN_SIM_SEED=$(SEED) WALFAN_SIM_RUNS=$(RUNS) $(CARGO) test --release -p walfan \
		--features testing --lib sim::tests::many_seeds -- --nocapture

test: need-rust need-postgres test-loom ## Runs every test; installs Postgres where it may
	$(WHOLE)
	$(WHOLE) --bench '*'
	@echo "All tests passed."

test-engine: need-rust ## Runs what needs no Postgres: cargo test --workspace, and each bench once
	$(CARGO) test --workspace
	$(CARGO) test -p walfan-bench --benches

test-postgres: need-rust need-postgres ## Runs what is asked of a real Postgres
	$(WHOLE) --lib --bins -- source:: predicate::oracle
	$(WHOLE) --test postgres

test-loom: need-rust ## Checks every protocol of atomics in all its interleavings
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$(TARGET_DIR)/loom" \
		$(CARGO) test -p walfan --lib --profile loom loom_

oracle: need-rust need-postgres ## Asks a real Postgres what generated clauses mean: a long run, SEEDS="7 8" for others
	@for seed in $(SEEDS); do \
		WALFAN_ORACLE_SEED=$$seed WALFAN_ORACLE_CLAUSES=$(CLAUSES) $(CARGO) test -p walfan \
			--features postgres --lib predicate::oracle -- --nocapture || exit 1; \
	done

check: need-rust need-postgres test-loom ## Checks lints, format, documentation and the loom models
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --all-features --no-deps

bench: need-rust ## Runs the criterion benches, each part beside what one would use instead
	$(CARGO) bench -p walfan-bench

figures: need-rust ## Runs the scenarios that figures come from, each verified; reports in results/
	$(LOADGEN) -- run fanout --consumers mailbox --out results $(ARGS)
	$(LOADGEN) -- run fanout --consumers inline --out results $(ARGS)
	$(LOADGEN) -- run fanout --consumers log --out results $(ARGS)
	$(LOADGEN) -- run fanout --consumers log --rate 100 --out results $(ARGS)
	$(LOADGEN) -- run scatter --out results $(ARGS)
	$(LOADGEN) -- run disjoint --out results $(ARGS)
	$(LOADGEN) -- run crash --out results $(ARGS)

need-rust:
	@command -v $(CARGO) >/dev/null || { \
		echo "walfan needs Rust, 1.90 or newer, with cargo: https://rustup.rs"; exit 1; }
	@command -v cc >/dev/null || { \
		echo "walfan needs a C compiler and linker; on Debian: apt-get install gcc libc6-dev"; \
		exit 1; }

need-postgres:
	@tools/need-postgres

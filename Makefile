# `make` lists the targets. Prerequisites: Rust through rustup and a C compiler; for e2e, Go as well.

CARGO ?= cargo

# The Kubernetes version that `make e2e` builds and tests against, unless KUBEBUILDER_ASSETS names a folder that holds
# kube-apiserver, etcd and kubectl.
K8S ?= 1.37.2
ifdef KUBEBUILDER_ASSETS
e2e-assets = $(KUBEBUILDER_ASSETS)
else
e2e-assets = $(CURDIR)/target/e2e-assets/$(K8S)
e2e bench bench-resident: build-e2e-assets
endif

.DEFAULT_GOAL := help
.PHONY: help build demo test e2e soak bench bench-resident build-e2e-assets check format-check lint deny docs golden clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the program as it is released: target/release/anchore-k8s-inventory
	$(CARGO) build --locked --release --bin anchore-k8s-inventory

demo: ## Report a made-up cluster to a made-up Anchore Enterprise, on this machine alone
	scripts/demo.sh

test: ## Run all tests that need Rust alone
	$(CARGO) test --locked --workspace -- --test-threads=8

e2e: ## Run the tests against a real kube-apiserver and etcd (K8S=1.34.4 takes another version)
	KUBEBUILDER_ASSETS=$(e2e-assets) $(CARGO) test --locked --features e2e --test e2e

soak: ## Compare for minutes or hours what ran with what was reported, under faults (MINUTES=120 SEED=7)
	SOAK_MINUTES=$(or $(MINUTES),10) SOAK_SEED=$(SEED) $(CARGO) test --locked --test soak all_that_ran -- --nocapture

bench: ## Measure the agent beside curl on a real kube-apiserver (SIZES=10000 takes one size)
	KUBEBUILDER_ASSETS=$(e2e-assets) $(CARGO) bench --locked --features e2e --bench side_by_side

bench-resident: ## Measure the resident agent at work on a real kube-apiserver (SIZES=10000 takes one size)
	KUBEBUILDER_ASSETS=$(e2e-assets) $(CARGO) bench --locked --features e2e --bench resident

build-e2e-assets:
	tests/e2e/build-assets.sh $(K8S) $(e2e-assets)

check: format-check lint deny docs ## Check format, lints, dependencies and documentation

format-check:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --locked --workspace --all-targets --all-features -- -D warnings

deny:
	scripts/deny.sh

# For those who work on the sources: private items are documented, and may be linked to.
docs:
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc --locked --workspace --no-deps --document-private-items

golden: ## Write docs/configuration.md and what golden cases expect anew, to be read before it is committed
	UPDATE_DOCS=1 UPDATE_GOLDEN=1 $(CARGO) test --locked --lib -- config::tests::documents golden

clean: ## Remove everything that was built
	$(CARGO) clean

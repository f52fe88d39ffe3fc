# Two commands matter to a new user: `make run` and `make test`.
PREFIX ?= /usr/local
SWIFT ?= swift
# Inlining across the rooms: a tenth of the CPU of a request.
RELEASE = -c release -Xswiftc -cross-module-optimization

.DEFAULT_GOAL := help
.PHONY: help run build test bench lint abi docs format install soak fuzz sanitize clean

help: ## Show these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: ## Build and serve on 127.0.0.1:8776 with the embedded default
	@.ci/setup build
	$(SWIFT) build $(RELEASE)
	exec .build/release/clinker serve

build: ## Build the release into .build/release/clinker
	@.ci/setup build
	$(SWIFT) build $(RELEASE)

test: ## Build and run every test, real clients included
	Tests/run

bench: ## Measure against a C server on the same library, and backups against a C program, restic and Cinder, in one run
	@.ci/setup build bench keystone storage clients oracle glance rabbitmq
	$(SWIFT) build $(RELEASE)
	CLINKER_BENCH=1 $(SWIFT) build $(RELEASE) --product backup-bench
	cc -O2 -o .build/backup-limit Tests/Bench/backup_limit.c -lcrypto -lzstd -lpthread
	cc -O2 -o .build/bench-hello Tests/Bench/hello.c -lmicrohttpd
	python3 Tests/Bench/bench.py .build/release/clinker .build/bench-hello

lint: ## Check the form of the sources, that imports are declared, that SQLite's own words stay in Database/, and that the driver header is good C and C++
	.ci/imports
	.ci/dialect
	$(SWIFT) format lint --strict --parallel --recursive Package.swift Sources Plugins Tests
	printf '#include <clinker/driver.h>\n' | cc -std=c11 -Wall -Wextra -Wpedantic -Werror -ISources/CDriver/include -fsyntax-only -xc -
	printf '#include <clinker/driver.h>\n' | c++ -std=c++17 -Wall -Wextra -Werror -ISources/CDriver/include -fsyntax-only -xc++ -

abi: ## Compare the driver header with the last release's
	python3 Tests/DriverHostTests/abi.py Tests/DriverHostTests/Drivers/v1/driver.h Sources/CDriver/include/clinker/driver.h

docs: ## Make the documentation of DriverKit in .build/docs
	@.ci/setup build
	$(SWIFT) build --target DriverKit -Xswiftc -emit-symbol-graph -Xswiftc -emit-symbol-graph-dir -Xswiftc $(CURDIR)/.build/graphs --scratch-path .build/documented
	docc convert Sources/DriverKit/DriverKit.docc --additional-symbol-graph-dir .build/graphs --fallback-display-name DriverKit \
		--fallback-bundle-identifier DriverKit --fallback-bundle-version 1 --output-path .build/docs

format: ## Bring the sources into form
	$(SWIFT) format --in-place --parallel --recursive Package.swift Sources Plugins Tests

install: ## Install under PREFIX (/usr/local): program, plugins, the Swift libraries they need, the driver header
	@.ci/setup build
	$(SWIFT) build $(RELEASE) --scratch-path .build/install --disable-local-rpath -Xswiftc -no-toolchain-stdlib-rpath \
		-Xlinker -rpath -Xlinker '$$ORIGIN/../lib/clinker' -Xlinker -rpath -Xlinker '$$ORIGIN'
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/clinker $(DESTDIR)$(PREFIX)/include/clinker
	install -m 755 .build/install/release/clinker $(DESTDIR)$(PREFIX)/bin/
	install -m 644 .build/install/release/libClinker*.so $(DESTDIR)$(PREFIX)/lib/clinker/
	install -m 644 Sources/CDriver/include/clinker/driver.h $(DESTDIR)$(PREFIX)/include/clinker/
	libraries=$$(dirname $$(dirname $$(readlink -f $$(command -v $(SWIFT)))))/lib/swift/linux; \
	needed() { readelf -d "$$@" | sed -n 's/.*NEEDED.*\[\(.*\)\]/\1/p' | sort -u; }; \
	wanted=$$(needed .build/install/release/clinker .build/install/release/libClinker*.so); \
	for round in 1 2 3; do for library in $$wanted; do [ -e $$libraries/$$library ] && wanted="$$wanted $$(needed $$libraries/$$library)"; done; wanted=$$(echo $$wanted | tr ' ' '\n' | sort -u); done; \
	for library in $$wanted; do [ ! -e $$libraries/$$library ] || install -m 644 $$libraries/$$library $(DESTDIR)$(PREFIX)/lib/clinker/; done

SOAK_SECONDS ?= 1800
soak: ## Random kills, then mixed load, for SOAK_SECONDS each; the whole tables of faults; 50 power cuts; every fuzzer for FUZZ_SECONDS
	@.ci/setup build machine clients objects storage rabbitmq rust
	$(SWIFT) build --build-tests
	CLINKER_SOAK_SECONDS=$(SOAK_SECONDS) $(SWIFT) test --skip-build --no-parallel --filter SoakTests
	CLINKER_FAULTS=all CLINKER_INTERLEAVINGS=10000 CLINKER_POWER_CUTS=50 \
		$(SWIFT) test --skip-build --no-parallel --filter 'FaultTests|FaultMoveTests|FaultSwapTests|FaultKeyTests|FaultBackupTests|FaultImageTests|CommitTests|ConcurrencyTests|MachineTests|ConformanceTests|MutantTests|FormatTests|StorageFaultTests|MirroringTests|InterleavingTests'
	Tests/Fuzz/run $(FUZZ_SECONDS)

FUZZ_SECONDS ?= 1800
fuzz: ## Fuzz requests, JSON, configuration, policies, the driver wire, disk images and what backups consist of, FUZZ_SECONDS each
	@.ci/setup build
	Tests/Fuzz/run $(FUZZ_SECONDS)

SANITIZED = --filter JSONTests --filter PolicyTests --filter PrimitivesTests --filter ProcessesTests --filter ObservabilityTests --filter SettingsTests --filter DatabaseTests --filter BackupsTests --filter BlockStorageTests \
	--filter FlowsTests --filter BlockAPITests --filter HTTPServerTests --filter DriverHostTests
sanitize: ## Run the tests of the rooms under the address and the thread sanitizer
	@.ci/setup build
	ASAN_OPTIONS=detect_leaks=0 $(SWIFT) test --scratch-path .build/address --sanitize address $(SANITIZED)
	$(SWIFT) build --product ClinkerFile
	CLINKER_FILE_PLUGIN=$$(readlink -f .build/debug)/libClinkerFile.so TSAN_OPTIONS=suppressions=$(CURDIR)/Tests/thread-suppressions.txt \
		$(SWIFT) test --scratch-path .build/thread --sanitize thread $(SANITIZED)

clean: ## Remove what was built
	rm -rf .build .clients .keystone .glance .nova .barbican .oracle .objects

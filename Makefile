# Two commands: `make book` and `make test`. `make help` lists the rest.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The Python that makes the environment: 3.10 to 3.13. Override with
# `make book PYTHON=/path/to/python`.
SUPPORTED := import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	"$$p" -c '$(SUPPORTED)' 2>/dev/null && echo "$$p" && break; done)

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.requirements-installed
BROWSER_STAMP := $(VENV)/.browser-requirements-installed
# Not the script in bin/: its first line breaks when the folder is moved.
JB := $(PY) -c "from jupyter_book.cli.main import main; main()"
HTML := _build/html
PDF := _build/robustness-book.pdf
LIVE := _build/live
AUDITOR := _build/pip-audit
PEERS := _build/peers
BUILD_FLAGS := -W --keep-going -n
AT_ONCE = -n $(JOBS) --dist worksteal
UNITS = env -u BOOK_RUN -u BOOK_DATA BOOK_OFFLINE=1 \
	$(PY) -m pytest -q $(AT_ONCE) --durations=10

# How chapters run: recorded, smoke, colab or full (see README.md).
BOOK_RUN ?= recorded
CHAPTER ?=
# Models to record one by one, and which part of them: see tools/record_models.py.
MODELS ?=
PART ?= 1/1
PORT ?= 8000
# Tests that run side by side; each process takes up to a gigabyte.
JOBS ?= auto

# Notebooks use this environment's kernel, not one registered elsewhere.
export JUPYTER_PREFER_ENV_PATH := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1

# One thread for the pages and the tests: their small batches gain little from
# a second one, and lose severalfold when the cores are busy with other work.
book chapter serve test unit coverage search: export OMP_NUM_THREADS ?= 1

# The pages are the same with and without a network; BOOK_OFFLINE=0 lets them
# download the full data sets. Recording always may.
book chapter serve: export BOOK_OFFLINE ?= 1
unexport PYTHONPATH

.PHONY: help
help:  ## list these commands
	@echo "make COMMAND, where COMMAND is"
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | \
		sed -E 's/^([a-z]+):.*## */  \1|/' | \
		awk -F'|' '{ printf "%-10s %s\n", $$1, $$2 }'

.PHONY: book
book: $(STAMP)  ## execute every chapter and build the pages
	@echo "Executing every chapter and building the pages (BOOK_RUN=$(BOOK_RUN))"
	@rm -rf $(HTML)
	@BOOK_RUN=$(BOOK_RUN) $(JB) build . --all $(BUILD_FLAGS)
	@$(PY) tools/check_pages.py $(HTML)
	@echo "The book is at $(CURDIR)/$(HTML)/index.html"

.PHONY: unit
unit: $(STAMP)  ## run the unit tests that are quick: about a minute
	@$(UNITS) -m "not slow" tests

.PHONY: test
test: $(STAMP)  ## run all unit tests, then every chapter (small)
	@echo "Unit tests"
	@$(UNITS) tests
	@echo "Every chapter on the smoke preset"
	@env -u BOOK_DATA BOOK_RUN=smoke BOOK_OFFLINE=1 \
		$(PY) -m pytest -q $(AT_ONCE) --nbmake --nbmake-timeout=120 \
		--durations=0 --durations-min=1 book

.PHONY: coverage
coverage: $(STAMP)  ## branches of lib that the unit tests take (at least 95 %)
	@rm -rf _build/coverage && mkdir -p _build/coverage
	@$(UNITS) --cov --cov-report=term-missing \
		--cov-report=json:_build/coverage/report.json tests
	@$(PY) tools/counts.py --branches _build/coverage/report.json

.PHONY: search
search: $(STAMP)  ## properties on new inputs, 300 for each, that hypothesis chooses
	@HYPOTHESIS_PROFILE=search $(UNITS) tests/test_properties.py

.PHONY: types
types: $(STAMP)  ## check the types of lib
	@$(PY) -m mypy

.PHONY: browser
browser: $(STAMP) $(BROWSER_STAMP)  ## test the built pages in Chromium (after make book)
	@$(PY) -m pytest -q tests_browser

.PHONY: pdf
pdf: $(STAMP) $(BROWSER_STAMP)  ## print the built book into one PDF (after make book; needs Chromium)
	@$(PY) tools/print_book.py $(HTML) $(PDF)

.PHONY: chapter
chapter: $(STAMP)  ## build one page: make chapter CHAPTER=training
	@$(call need_chapter,chapter)
	@BOOK_RUN=$(BOOK_RUN) $(PY) tools/build_chapter.py "$(CHAPTER)"

.PHONY: serve
serve: $(STAMP)  ## build, serve on PORT (default 8000), rebuild when a page changes
	@mkdir -p $(LIVE)
	@$(JB) config sphinx . >/dev/null
	@sed "s|'book/|'$(CURDIR)/book/|g" conf.py > $(LIVE)/conf.py; rm conf.py
	@BOOK_RUN=$(BOOK_RUN) $(PY) -m sphinx_autobuild . $(LIVE)/html \
		-c $(LIVE) -d $(LIVE)/doctrees --port $(PORT) -q \
		--re-ignore '^$(CURDIR)/(\.|_build|_runs|results|tests|tools)' \
		--re-ignore '__pycache__|\.ipynb_checkpoints'

.PHONY: record
record: $(STAMP)  ## run a chapter in full, write its records: make record CHAPTER=training, or MODELS='sizes-mnist/*-seed0'
ifneq ($(MODELS),)
	@$(PY) tools/record_models.py "$(MODELS)" --part "$(PART)"
else
	@$(call need_chapter,record)
	@BOOK_RUN=full $(PY) tools/run_chapter.py "$(CHAPTER)"
endif
	@echo "Whatever was made anew wants: make note ONLY='its-name'"

# Which records to audit, how long, and why they still hold (see tools/audit.py).
ONLY ?= *
MINUTES ?= 5
VOUCH ?=

.PHONY: stale
stale: $(STAMP)  ## list the records that a change of the code made stale, or a hand changed
	@$(PY) tools/stale.py "$(ONLY)"

.PHONY: note
note: $(STAMP)  ## records made anew hold what they should: make note ONLY='toy-*'
	@$(PY) tools/stale.py --note $(if $(filter-out *,$(ONLY)),"$(ONLY)")

.PHONY: audit
audit: $(STAMP)  ## compute a random sample of recorded numbers again
	@$(PY) tools/audit.py --only "$(ONLY)" --minutes $(MINUTES) --vouch "$(VOUCH)"

.PHONY: faults
faults: $(STAMP)  ## inject every fault that the book is meant to survive; one line for each test
	@$(PY) tools/faults.py $(AT_ONCE)

.PHONY: variants
variants: $(STAMP)  ## break a copy of the repository in many ways; every one has to be noticed
	@$(PY) tests_variants/variants.py

.PHONY: mutants
mutants: $(STAMP)  ## change attacks, toy and evaluation everywhere; tests have to notice (six minutes); notes the totals
	@$(PY) -m pip install -qq --disable-pip-version-check --no-input \
		--no-compile -r tests_variants/requirements.txt
	@OMP_NUM_THREADS=1 BOOK_OFFLINE=1 $(PY) tools/mutants.py \
		--json _build/mutants.json
	@$(PY) tools/counts.py --mutants _build/mutants.json

.PHONY: colab
colab: $(STAMP)  ## run every chapter as Colab would: alone, with Colab's packages (needs Python 3.12)
	@$(PY) tools/colab_check.py

.PHONY: sheets
sheets: $(STAMP)  ## copies of the chapters without solutions, for a class
	@$(PY) tools/make_sheets.py _build/sheets

.PHONY: lint
lint: $(STAMP)  ## check the style of code and chapters
	@$(PY) -m ruff check .
	@$(PY) tools/check_sources.py
	@$(PY) tools/sync.py --check

.PHONY: sync
sync: $(STAMP)  ## copy the address and the first cell everywhere
	@$(PY) tools/sync.py

.PHONY: advisories
advisories: $(STAMP)  ## look for known holes in what is installed (needs a network)
	@rm -rf $(AUDITOR) && $(PY) -m venv $(AUDITOR)
	@$(AUDITOR)/bin/python -m pip install -qq --disable-pip-version-check \
		"pip-audit>=2.7,<3"
	@$(AUDITOR)/bin/python -m pip_audit --desc --path \
		"$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"

# Somebody else's PGD; installed beside the book's packages, not into them.
.PHONY: peers
peers: $(STAMP)  ## compare PGD with a second implementation, foolbox (needs a network)
	@$(PY) -m pip install -qq --disable-pip-version-check --no-input \
		--no-deps --upgrade --target $(PEERS) -r benchmarks/requirements.txt
	@BENCH_PEERS=$(PEERS) $(PY) -m pytest -q tests/test_second_implementation.py

.PHONY: links
links: $(STAMP)  ## check every link to another site (needs a network)
	@$(JB) build . --all --builder linkcheck

# A program for Node: the one on the path, or npx downloads it.
.PHONY: lighthouse
lighthouse: $(STAMP)  ## ask Lighthouse about five built pages (needs Node and Chromium)
	@$(PY) tools/lighthouse.py

.PHONY: clean
clean:  ## remove what was built (keeps .venv and results/)
	rm -rf _build .hypothesis .pytest_cache .ruff_cache
	find lib tests tests_browser tools book -name __pycache__ -prune -exec rm -rf {} +

# The environment, installed again only when requirements.txt has changed.
$(STAMP): requirements.txt
	@if [ -z "$(PYTHON)" ]; then \
		echo "No Python 3.10 to 3.13 with venv was found."; \
		echo "Install one (on Debian or Ubuntu also: python3-venv),"; \
		echo "or name it: make book PYTHON=/path/to/python"; exit 1; fi
	@$(PY) -c '$(SUPPORTED)' 2>/dev/null || { \
		echo "Creating $(VENV) with $(PYTHON)"; \
		rm -rf $(VENV); "$(PYTHON)" -m venv $(VENV); }
	@echo "Installing the requirements: a few minutes the first time"
	@$(PY) -m pip install -qq --disable-pip-version-check \
		--no-input --no-compile -r requirements.txt
	@touch $@

$(BROWSER_STAMP): tests_browser/requirements.txt | $(STAMP)
	@$(PY) -m pip install -qq --disable-pip-version-check \
		--no-input --no-compile -r $<
	@touch $@

define need_chapter
	if [ ! -f "book/$(CHAPTER).ipynb" ]; then \
		echo "Name a chapter: make $(1) CHAPTER=adversarial-examples"; \
		echo "There are:"; \
		for f in book/*.ipynb; do echo "  $$(basename "$$f" .ipynb)"; done; \
		exit 1; fi
endef

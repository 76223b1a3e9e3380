# Two commands matter: `make up` shows the box working on this machine, `make test` proves it.
# Everything else is Python in provisioning/evaluation/; this file only says which module, with which directory.

PYTHON       ?= python3
SITE         ?= var/evaluation
CONSOLE_PORT ?= 8800
API_PORT     ?= 8801
PERSON       ?= bob
VENV         := .venv/bin/python
export CONSOLE_PORT API_PORT ONCE ONLY N SEED PLANTS

.PHONY: help up down code test check lint format lock docs
.PHONY: fuzz-api stress-streams
.PHONY: bench-gateway bench-queue bench-console bench-report
.PHONY: help up down code test check lint format crash lock

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

up:  ## start the whole box here and show one answer; ONCE=1 stops again; CONSOLE_PORT= and API_PORT= move it
	@$(PYTHON) -m provisioning.evaluation.bootstrap up $(SITE)

down:  ## stop it, and clean up what a killed run left
	@$(PYTHON) -m provisioning.evaluation.down $(SITE)

code:  ## a one-time code for signing in to the evaluation: make code PERSON=bob
	@$(PYTHON) -m provisioning.evaluation.people $(SITE) $(PERSON)

test:  ## everything, installs included; ONLY=tests/browser runs a part
	@$(PYTHON) -m provisioning.evaluation.bootstrap test

check:  ## lint and types without the tests
	@$(PYTHON) -m provisioning.evaluation.bootstrap check

lint: check

format:  ## format and fix what can be fixed
	@$(VENV) -m ruff check --fix . ; $(VENV) -m ruff format .

crash:  ## kill -9 everything under load and compare the books: make crash N=200 SEED=1 ONLY=api,redis PLANTS=0
	@$(VENV) -m tests.crash

lock:  ## resolve every requirements file again and write the locks; UPGRADE=1 takes the newest versions
	@$(VENV) -m provisioning.evaluation.lock $(if $(UPGRADE),--upgrade)

docs:  ## write the pages that are made from the code
	@$(VENV) -m inference.api.errors_page > docs/api/errors.md

fuzz-api:  ## schemathesis against our own OpenAPI document, the long form: make fuzz-api N=2000 SEED=7
	@EXAMPLES=$(or $(N),2000) SEED=$(SEED) $(VENV) -m pytest tests/inference/api/test_openapi.py -q -s

stress-streams:  ## so many streams at once with a canary each, a third of them cut: make stress-streams N=2000 SEED=7
	@STREAMS=$(or $(N),2000) SEED=$(SEED) $(VENV) -m pytest tests/inference/api/test_streams.py -q -s

bench-gateway:  ## what the LAN API costs beside nginx, LiteLLM and the bare engine; tests/bench/ says how it is measured
	@$(PYTHON) -m provisioning.evaluation.bootstrap bench gateway

bench-queue:  ## the same for the durable queue, beside Celery and the bare engine
	@$(PYTHON) -m provisioning.evaluation.bootstrap bench queue

bench-console:  ## every page over a year of a hospital: make bench-console BENCH_REQUESTS=10000000
	@$(PYTHON) -m provisioning.evaluation.bootstrap bench console

bench-report:  ## write the tables of docs/performance.md from what the last runs left in var/bench/
	@$(VENV) -m tests.bench report

# make demo: a private release of real data.  make test: all tests.  make docs: the pages as a site.
# Each makes .venv first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_LEDGER := sqlite:///build/demo/ledger.sqlite

.PHONY: demo test test-lowest test-python lint docs dist bench mutation requirements clean
.DEFAULT_GOAL := demo

$(VENV)/.installed: requirements.txt setup.py dpbeam/_version.py
	@echo "Making $(VENV) and installing what dpbeam needs (about a minute, once) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: $(VENV)/.installed
	@mkdir -p build/demo
	@test -e build/demo/ledger.sqlite || \
		$(BIN)/dpbeam budget create examples/ngrams/policy.yaml --ledger $(DEMO_LEDGER)
	@$(BIN)/dpbeam run examples/ngrams/policy.yaml --ledger $(DEMO_LEDGER) --output build/demo/releases

test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal

build/lowest/.installed: setup.py $(VENV)/.installed
	@mkdir -p build
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/lowest
	@$(BIN)/uv pip compile --quiet --python build/lowest --resolution lowest-direct --extra dev \
		setup.py --output-file build/lowest/requirements.txt
	@$(BIN)/uv pip install --quiet --python build/lowest --requirement build/lowest/requirements.txt
	@$(BIN)/uv pip install --quiet --python build/lowest --no-deps --editable .
	@touch $@

# The same tests, with the lowest versions that setup.py allows
test-lowest: build/lowest/.installed
	build/lowest/bin/python -m pytest --numprocesses auto --dist worksteal $(TESTS)

# The same tests on another Python, in an environment of its own: make test-python PYTHON=python3.12 TESTS=tests/unit
test-python: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv venv --quiet --allow-existing --python $(PYTHON) build/$(notdir $(PYTHON))
	@$(BIN)/uv pip install --quiet --python build/$(notdir $(PYTHON)) --requirement requirements.txt
	@$(BIN)/uv pip install --quiet --python build/$(notdir $(PYTHON)) --no-deps --editable .
	build/$(notdir $(PYTHON))/bin/python -m pytest --numprocesses auto --dist worksteal $(TESTS)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The pages as a site, for a browser, from the disk or a server; any warning is an error
docs: $(VENV)/.installed
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky --fresh-env \
		--conf-dir docs/site --doctree-dir build/doctrees . build/docs
	@echo "The site: build/docs/index.html"

# What a package index takes, in dist/, checked as it checks and tried on each Python that is here
dist: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@rm -rf dist
	@$(BIN)/uv build --quiet --out-dir dist
	@$(BIN)/uv tool run --quiet twine@7.0.0 check --strict dist/*.whl dist/*.tar.gz
	@$(BIN)/python tests/distribution/run.py dist $(PYTHONS)

build/bench/.installed: benchmarks/requirements.txt
	@mkdir -p build
	@$(PYTHON) -m venv build/bench
	@build/bench/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.txt
	@touch $@

# All cases, or those named: make bench CASES="int skew"
bench: $(VENV)/.installed build/bench/.installed
	$(BIN)/python -m benchmarks.run $(CASES)

build/mutation/.installed: requirements.txt tests/mutation/requirements.txt
	@mkdir -p build
	@$(PYTHON) -m venv build/mutation
	@build/mutation/bin/python -m pip install --quiet --disable-pip-version-check \
		--requirement requirements.txt --requirement tests/mutation/requirements.txt
	@touch $@

# The modules that tests/mutation/survivors.md scores, or those named: make mutation FILES="selection noise"
mutation: build/mutation/.installed
	build/mutation/bin/python tests/mutation/run.py $(FILES)

requirements: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --extra dev setup.py -o requirements.txt

clean:
	rm -rf build $(VENV)

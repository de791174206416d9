# Two commands matter: `make speak` and `make test`. Both build what they need in .venv on the first call.
#   make speak TEXT="Good morning."          say something else
#   make ask QUESTION="Who wrote Hamlet?"    answers aloud, by SmolLM2-135M-Instruct, which it fetches
#   make tutorial                            train a tiny voice end to end (docs/tutorial.md)
#   make test JOBS=4                         in so many processes; by itself one a core, as far as memory allows
#   make browser                             the tests that need Chromium and its driver (Debian: chromium, chromium-driver)
#   make processes                           the tests that train in several processes or work on a Ray cluster, which each start torch anew
#   make benchmarks                          the tests of what measures speed (make bench measures it)
#   make gguf                                the tests that compare exports with llama.cpp, which is compiled (cmake, C++)
#   make test PYTHON=python3.12              another Python (3.10 or later)
#   make speak PIP_ARGS="--index-url URL"    another package index, e.g. PyTorch's own with CPU-only builds

PYTHON ?= python3
PIP_ARGS ?=
JOBS ?= auto
QUESTION ?= What is the capital of France?
TEXT ?= Hello! I am a language model, and this is my voice.
OUT ?= speech.wav

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS)

.PHONY: help speak ask tutorial test processes benchmarks browser gguf lint bench

help:
	@echo "make speak     say TEXT into OUT (speech.wav)"
	@echo "make ask       answer QUESTION aloud, into answer.wav"
	@echo "make tutorial  train a tiny voice end to end, in five minutes"
	@echo "make test      run the tests, in JOBS processes"
	@echo "make processes run the tests that train in several processes, or on Ray"
	@echo "make benchmarks run the tests of what measures speed"
	@echo "make browser   run the tests of pages in headless Chromium"
	@echo "make gguf      compare exported GGUF files with llama.cpp"
	@echo "make lint      ruff and mypy"
	@echo "make bench     measure speed and memory on this machine"

# Through the environment: a quote in the text must not end a shell word.
export TEXT OUT QUESTION

speak: $(VENV)/.installed
	@$(BIN)/voicegraft speak "$$TEXT" --out "$$OUT"
	@echo "Listen to it: $$(cd "$$(dirname "$$OUT")" && pwd)/$$(basename "$$OUT")"

ask: $(VENV)/.installed
	@$(PIP) -e '.[gguf]'
	@$(BIN)/voicegraft parts get smollm2
	@$(BIN)/voicegraft ask "$$QUESTION"

test: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

tutorial: $(VENV)/.installed-dev
	@bash runs/tiny_cpu.sh

processes: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -m processes

benchmarks: $(VENV)/.installed-dev
	@$(BIN)/python -m pytest -m benchmarks

browser: $(VENV)/.installed-dev
	@$(PIP) -e '.[browser]'
	@$(BIN)/python -m pytest -m browser

gguf: $(VENV)/.installed-dev
	@echo "llama.cpp is compiled, which takes some minutes."
	@$(PIP) -e '.[gguf,llama-cpp]'
	@$(BIN)/python -m pytest -m gguf

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

bench: $(VENV)/.installed-dev
	@$(BIN)/python -m benchmarks.speaking
	@$(BIN)/python -m benchmarks.fusion

# A stamp is touched last: an interrupted installation is taken up again.
$(VENV)/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
		{ echo "There is no $(PYTHON) here. Install Python 3.10 or later, or name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "voicegraft needs Python 3.10 or later, $(PYTHON) is $$($(PYTHON) -V 2>&1). Name a newer one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "$(PYTHON) cannot make virtual environments. Install its venv module (Debian, Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "Installing into $(VENV); the first time takes some minutes."
	@$(PYTHON) -m venv $(VENV)
	@# PyTorch alone and first: whoever else asks for it then takes this build and not a larger one.
	@$(PIP) torch
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the tools for tests."
	@$(PIP) -e '.[dev,evaluate,whisper,harness,datasets,ray,quantization,gguf]'
	@touch $@

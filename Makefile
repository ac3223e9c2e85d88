# The two commands that matter: `make demo` and `make test`. Both set up what they need first.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
PEERS  := .venv-peers
CLUSTER := .venv-cluster
MTEB := .venv-mteb
SPEECH_PEERS := .venv-translate-peers
SERVE_PEERS := .venv-serve-peers
AUDIT := .venv-audit

.PHONY: setup demo demo-full test test-cluster test-mteb test-faults fuzz soak determinism audit sbom lock golden lint type format docs study study-transfer study-finetune study-mboshi bench bench-encoding bench-seqsim bench-index bench-finetune bench-unseen bench-robustness bench-voices bench-head bench-documents bench-mine bench-corpora bench-translate bench-translate-quality bench-serve serve peers translate-peers serve-peers clean

setup: $(READY)  ## install the locked versions, fetch Whisper-base and the prompts corpus
	$(BIN)/interlingua doctor --fetch

$(READY): requirements.lock torch.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else f"interlingua needs Python 3.11 or newer; this is {v.major}.{v.minor}. Use make PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-compile -r torch.lock
	$(BIN)/python -m pip install --quiet --no-deps -e .
	@touch $@

demo: setup  ## retrieve, translate and report on real speech: runs/demo/report.html
	$(BIN)/interlingua demo

serve: setup  ## a page and an API for what the models do: http://127.0.0.1:8000
	$(BIN)/interlingua serve

demo-full: setup  ## the same, unpooled and on everything: runs/demo-full/report.html
	$(BIN)/interlingua demo --full

test: setup  ## all tests, those with the real model and real speech included: two processes of one thread, 4 GB each
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-faults: setup  ## kills and refused writes, real speech: 30 kills of each verb, or ten minutes of them
	INTERLINGUA_SPEECH=real INTERLINGUA_KILLS=30 INTERLINGUA_MINUTES=10 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -s tests/test_faults.py

fuzz: setup  ## damaged recordings, corpora, archives, models, recipes and results: FUZZ=100000 inputs by default
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz.py $(or $(FUZZ),100000)

soak: setup  ## memory and open files over MINUTES=20 of mixed work: docs/soak.md
	$(BIN)/python benchmarks/soak.py $(or $(MINUTES),20)

determinism: setup  ## what is bitwise equal over repeats, batches and threads: docs/determinism.md (minutes)
	$(BIN)/python benchmarks/determinism.py

audit: $(AUDIT)/.ready $(READY)  ## hashes, licences, and known vulnerabilities where the service can be reached
	$(AUDIT)/bin/python tests/audit.py $(BIN)/python

sbom: $(AUDIT)/.ready $(READY)  ## what is locked, as CycloneDX JSON: sbom.json
	$(AUDIT)/bin/python tests/audit.py $(BIN)/python --sbom sbom.json

$(AUDIT)/.ready: tests/audit.lock
	$(PYTHON) -m venv $(AUDIT)
	$(AUDIT)/bin/python -m pip install --quiet -r tests/audit.lock
	@touch $@

lock:  ## the hashes of requirements.lock again, after a version was changed in it (uvx is uv's)
	uvx uv pip compile requirements.lock --generate-hashes --no-deps --no-header --no-annotate --python-version 3.11 -q -o requirements.lock.new
	(grep '^#' requirements.lock; grep -v '^#' requirements.lock.new) > requirements.lock.newer
	mv requirements.lock.newer requirements.lock && rm requirements.lock.new

test-cluster: $(CLUSTER)/.ready  ## encoding on a local Ray cluster and on moto's S3 server (minutes)
	$(CLUSTER)/bin/python -m pytest tests/encoding/test_ray.py tests/encoding/test_object_store.py

$(CLUSTER)/.ready: tests/cluster.lock $(READY)
	$(PYTHON) -m venv $(CLUSTER)
	echo "import site; site.addsitedir('$(CURDIR)/$(VENV)/lib/$$(ls $(VENV)/lib)/site-packages')" > $$(echo $(CLUSTER)/lib/python*/site-packages)/main.pth
	$(CLUSTER)/bin/python -m pip install --quiet --no-deps -r tests/cluster.lock
	@touch $@

test-mteb: $(MTEB)/.ready  ## our task in mteb, scored by mteb's evaluator (a minute)
	$(MTEB)/bin/python -m pytest tests/experiments/test_mteb.py

$(MTEB)/.ready: tests/mteb.lock $(READY)
	$(PYTHON) -m venv $(MTEB)
	echo "import site; site.addsitedir('$(CURDIR)/$(VENV)/lib/$$(ls $(VENV)/lib)/site-packages')" > $$(echo $(MTEB)/lib/python*/site-packages)/main.pth
	$(MTEB)/bin/python -m pip install --quiet --no-deps -r tests/mteb.lock
	@touch $@

golden: setup  ## every figure of tests/golden again, minutes of real speech included
	INTERLINGUA_GOLDEN=compare $(BIN)/python -m pytest tests/test_golden.py

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

type: $(READY)
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: study  ## measure again what README.md and docs/ state, and write it there (hours on two cores)
	$(BIN)/interlingua demo --full
	$(BIN)/interlingua corpus prepare prompts --include-non-speech --out runs/as-found/manifest.jsonl
	$(BIN)/interlingua encode runs/as-found/manifest.jsonl runs/as-found/frames.lance --compute float32
	$(BIN)/interlingua evaluate retrieval runs/as-found/manifest.jsonl runs/as-found/frames.lance --method seqsim --out runs/as-found
	$(BIN)/python docs/update.py

study: setup  ## what improves SeqSim, every method on every pair: docs/seqsim.md (an hour on two cores)
	$(BIN)/python benchmarks/retrieval.py

study-transfer: setup  ## transfer and forgetting, all methods: docs/transfer.md (hours on two cores; goes on where it was)
	$(BIN)/python benchmarks/transfer.py

study-finetune: setup  ## what finetune's default learns and keeps, into three targets: docs/finetune-default.md (hours; goes on where it was)
	$(BIN)/python benchmarks/finetune_default.py

study-mboshi: setup  ## a language that Whisper never saw, from field recordings (2 GB are cloned): docs/mboshi.md (hours; goes on where it was)
	$(BIN)/python benchmarks/mboshi.py

bench: bench-encoding bench-seqsim bench-index bench-finetune  ## benchmarks, ratios against peers and the machine's own ceiling

bench-encoding: setup  ## docs/encoding.md
	$(BIN)/python benchmarks/encoding.py

bench-seqsim: setup peers  ## docs/speed.md
	$(BIN)/python benchmarks/seqsim.py

bench-index: setup peers  ## index and search, up to 100,000 utterances: docs/index.md (half an hour on two cores; goes on where it was)
	$(BIN)/python benchmarks/index.py

bench-finetune: setup  ## docs/finetune-speed.md
	$(BIN)/python benchmarks/finetune.py

bench-unseen: setup  ## languages without a token, synthetic speech: docs/unseen.md (an hour on two cores; goes on where it was)
	$(BIN)/python benchmarks/unseen.py

bench-robustness: setup  ## retrieval and translation against language distance: docs/robustness.md (half an hour on two cores)
	$(BIN)/python benchmarks/robustness.py

bench-voices: setup  ## retrieval and translation of other voices and families, clones of two public repositories: docs/voices.md, docs/voices-translation.md (two trainings; goes on where it was)
	$(BIN)/python benchmarks/voices.py
	$(BIN)/python benchmarks/voices_translation.py

bench-head: setup  ## a trained head on sentences, languages and voices it never saw: docs/head.md (an hour of a core; goes on where it was)
	$(BIN)/python benchmarks/head.py

bench-documents: setup  ## mine --document on talks spliced from prompts: docs/documents.md (half an hour of a core; frames are kept)
	$(BIN)/python benchmarks/documents.py

bench-mine: setup  ## mine on prompts hidden among others, and models fine-tuned on the pairs: docs/mine.md (two hours on two cores; goes on where it was)
	$(BIN)/python benchmarks/mine.py

bench-translate: setup translate-peers  ## docs/translate-speed.md, docs/translate-speed-beams.md
	$(BIN)/python benchmarks/translate.py
	$(BIN)/python benchmarks/translate.py beams

bench-translate-quality: setup  ## docs/translate-quality.md
	$(BIN)/python benchmarks/translate_quality.py

bench-serve: setup serve-peers  ## docs/serve-speed.md (half an hour on two cores that do nothing else; goes on where it was)
	$(BIN)/python benchmarks/serve.py

bench-corpora: setup  ## how fast corpora and archives are read: docs/corpora.md (minutes)
	$(BIN)/python benchmarks/corpora.py

peers: $(PEERS)/.ready  ## PyLate, maxsim-cpu and FAISS, in an environment of their own

$(PEERS)/.ready: benchmarks/peers.lock
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --no-deps -r benchmarks/peers.lock
	@touch $@

translate-peers: $(SPEECH_PEERS)/.ready  ## faster-whisper, openai-whisper and whisper.cpp, in an environment of their own

$(SPEECH_PEERS)/.ready: benchmarks/translate-peers.lock
	$(PYTHON) -m venv $(SPEECH_PEERS)
	$(SPEECH_PEERS)/bin/python -m pip install --quiet --no-deps -r benchmarks/translate-peers.lock
	@touch $@

serve-peers: $(SERVE_PEERS)/.ready  ## a public server on faster-whisper, in an environment of its own

$(SERVE_PEERS)/.ready: benchmarks/serve-peers.lock $(READY)
	$(PYTHON) -m venv $(SERVE_PEERS)
	echo "import site; site.addsitedir('$(CURDIR)/$(VENV)/lib/$$(ls $(VENV)/lib)/site-packages')" > $$(echo $(SERVE_PEERS)/lib/python*/site-packages)/main.pth
	$(SERVE_PEERS)/bin/python -m pip install --quiet --no-deps -r benchmarks/serve-peers.lock
	@touch $@

clean:
	rm -rf $(VENV) $(PEERS) $(SPEECH_PEERS) $(SERVE_PEERS) $(CLUSTER) $(AUDIT)

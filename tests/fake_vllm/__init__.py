"""A fake vLLM server: fast enough for unit tests, honest enough to be corrupted.

It speaks the part of vLLM's HTTP API that the harness uses (``tests/contract`` holds it to the
real engine) in front of a toy language model whose next token depends on what is *in* its
weights and its KV blocks.  Blank a block that the prefix cache still believes in and the answer
changes by itself; nothing here decides to answer wrongly.

==================  ============================================================
module              what it is in vLLM
==================  ============================================================
vocabulary          the tokenizer and its chat template
model               the model
blocks              the block pool with its block-hash prefix cache
memory              the worker's memory: what sleeping discards and waking restores
sequence            a request inside the engine
scheduler           the scheduler and the sampler
engine              the engine's lifecycle
requests, answers   the shapes of the HTTP API, with checks and refusals
openai_routes       generation, tokenizer, adapters, metrics
development_routes  the lifecycle endpoints
behaviours          what the environment asks it to do wrong
options             command line and environment
==================  ============================================================

``python -m tests.fake_vllm --port N`` runs it as a process; :func:`tests.fake_vllm.serving.serve`
runs it inside the current event loop.
"""

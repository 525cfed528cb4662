"""What is said to a vLLM server: generation, lifecycle, metrics.

One module a topic, plain async functions over clients that :func:`~harness.vllm_api.connection.connect`
opens.  Every call has a deadline, none is ever retried, and a failure is a value
(:class:`~harness.vllm_api.calls.CallError`), not an exception: a request that hangs, is refused or
comes back malformed is an observation about the engine and belongs into the history.
"""

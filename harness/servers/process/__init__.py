"""The process runtime: vLLM as a child of the harness."""

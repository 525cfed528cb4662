"""The Docker runtime: vLLM in containers, and the images they are made from."""

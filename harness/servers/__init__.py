"""How a vLLM server comes to be, is watched, and is gone again."""

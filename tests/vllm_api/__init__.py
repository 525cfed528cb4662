"""Tests of ``harness.vllm_api``: what no healthy server does is played by a scripted one."""

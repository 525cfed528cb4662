"""sleepwake: is the model that wakes up still the model that fell asleep?

Starts vLLM servers under differing configurations, drives each through scripted
sleep/wake cycles, records everything, and judges the record.  Importing this
package is cheap: no torch, no vllm, no docker.
"""

__version__ = "0.1.0"

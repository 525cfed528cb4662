"""How what may be asked of a run is spelt on the command line and in the environment."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from harness.cli.help import ENGINE, HOW, THEIRS, WHAT, WHERE
from harness.cli.option_sources import given_options, variable
from harness.cli.shared import (
    ApiKeyOption,
    ArmsOption,
    CaFileOption,
    ClientFileOption,
    HeadersOption,
    ModelOption,
    OutOption,
    ProxyOption,
    RuntimeOption,
    VllmArgsOption,
)
from harness.runs.finding import REPORTS
from harness.runs.options import RunOptions


@dataclass(frozen=True, kw_only=True)
class OptionsOfRun:
    """The options of ``sleepwake run``.

    Attributes:
        runtime: How servers are started. auto chooses the best that this machine has, and says why.
        vllm: The vLLM release to test.
        image: The container image to test.
        endpoint: URL of a server that is already running.
        api_key: The key that the server at --endpoint requires. Better in the environment, where other users
            of the machine never see it: SLEEPWAKE_API_KEY, or else OPENAI_API_KEY or VLLM_API_KEY.
        headers: NAME=VALUE, sent with every call to the server at --endpoint. Can be given several times.
            In the environment: all of them in one line, as for a shell.
        ca_file: A PEM file with the certificates to trust instead of the system's.
        client_cert: A PEM file with the certificate to show to the server at --endpoint.
        client_key: The PEM file of its key, if that is another.
        use_proxy: Go through the proxy that the environment names (HTTPS_PROXY, NO_PROXY, ...). Otherwise
            the server at --endpoint is called directly.
        allow_busy: Test a server with --endpoint although others use it. Their requests may be aborted, have
            to wait, or be answered wrongly while weights are missing. The report counts them.
        max_sleeps: Refuse to start if the scripts would put the server at --endpoint to sleep more often
            than this.
        model: A Hugging Face id or a model folder. Default: SmolLM2-135M-Instruct, without a hub.
        prompts: A JSONL file of prompts or chats that every scenario asks instead of its own, for example
            {"prompt": "Why?"} or a request's {"messages": [...]}, one a line.
        fault: Plant a corruption on purpose: a name, or FILE.py:function.
        arms: Run only this arm. Can be given several times.
        expression: Run only cells whose name matches, for example "level1 and not off".
        shard: Run only one part of the cells, for example 1/3 on the first of three machines; `sleepwake
            merge` puts the parts together.
        smoke: Take the shortest look that comes to a verdict: the scenario first_look, one arm, one cycle.
        thorough: Leave nothing out. Otherwise a cell whose answers are proven corrupt, with the cause
            known, leaves out further cycles of a repetition; a clean cell never does.
        exit_first: End the run with the first cell that is corrupt or degraded; --resume runs the others.
        isolate: Give every cell a server of its own. Otherwise cells that want the same one and begin
            with the same questions share it, as long as they are clean and it answers as it did when
            fresh.
        vllm_args: One more vLLM flag for every arm, for example --vllm-arg=--block-size=64. It overrules
            sleepwake's own defaults; an arm that sets the same flag overrules it, since arms are what is
            compared. In the environment: all of them in one line, as for a shell.
        kinds: Which other kinds of requests are asked beside the prompts, once a probe: few (those that cost
            little), all, none, or names with commas between them, for example json-schema,stop-strings.
            Default: what the scenario says.
        keep_servers: Leave the servers running, for debugging, and say where. `sleepwake clean` ends
            them.
        executor: Where cells run: here, one after the other, or on the nodes of a Ray cluster, as many at
            a time as it has room for.
        address: HOST:PORT of the Ray cluster. Default: the one this machine is part of.
        resources: What one cell takes of a node, by Ray's names, for example --resource CPU=4. Can be
            given several times. Default: GPU=1, times the arm's tensor and pipeline parallel sizes;
            without a GPU all the cores of the smallest node.
        out: The folder that holds the run directories.
    """

    runtime: RuntimeOption = "auto"
    vllm: Annotated[str | None, variable("SLEEPWAKE_VLLM"), Parameter(group=ENGINE)] = None
    image: Annotated[str | None, variable("SLEEPWAKE_IMAGE"), Parameter(group=ENGINE)] = None
    endpoint: Annotated[str | None, variable("SLEEPWAKE_ENDPOINT"), Parameter(group=ENGINE)] = None
    api_key: ApiKeyOption = None
    headers: HeadersOption = ()
    ca_file: CaFileOption = None
    client_cert: ClientFileOption = None
    client_key: ClientFileOption = None
    use_proxy: ProxyOption = False
    allow_busy: Annotated[bool, Parameter(negative=(), group=THEIRS)] = False
    max_sleeps: Annotated[int | None, Parameter(show_default=False, group=THEIRS)] = None
    model: ModelOption = None
    prompts: Annotated[Path | None, Parameter(group=WHAT)] = None
    fault: Annotated[str | None, Parameter(group=ENGINE)] = None
    arms: ArmsOption = ()
    expression: Annotated[str | None, Parameter(name=["-k", "--expression"], group=WHAT)] = None
    shard: Annotated[str | None, Parameter(show_default=False, group=WHAT)] = None
    smoke: Annotated[bool, Parameter(negative=(), group=WHAT)] = False
    thorough: Annotated[bool, Parameter(negative=(), group=HOW)] = False
    exit_first: Annotated[bool, Parameter(name=["-x", "--exit-first"], negative=(), group=HOW)] = False
    isolate: Annotated[bool, Parameter(negative=(), group=HOW)] = False
    vllm_args: VllmArgsOption = ()
    kinds: Annotated[str | None, Parameter(group=WHAT)] = None
    keep_servers: Annotated[bool, Parameter(negative=(), group=HOW)] = False
    executor: Annotated[Literal["local", "ray"], Parameter(group=WHERE)] = "local"
    address: Annotated[str | None, Parameter(group=WHERE)] = None
    resources: Annotated[tuple[str, ...], Parameter(name="--resource", group=WHERE)] = ()
    out: OutOption = REPORTS

    def of(self, paths: tuple[Path, ...]) -> RunOptions:
        """What is asked of these scenarios, with where each value came from.

        Raises:
            UsageError: there is no such fault.
        """
        return RunOptions(**vars(self), paths=paths, sources=given_options())

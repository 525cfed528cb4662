"""The command that watches a server that somebody else drives."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from pydantic import SecretStr
from rich.text import Text

from harness.cli.option_sources import given_options, variable
from harness.cli.shared import (
    ApiKeyOption,
    CaFileOption,
    ClientFileOption,
    HeadersOption,
    OutOption,
    ProxyOption,
    new_console,
)
from harness.errors import ExitCode
from harness.extras import require
from harness.runs.finding import REPORTS
from harness.runs.options import RunOptions

_Flag = Annotated[bool, Parameter(negative=())]
_Unshown = Parameter(show_default=False)


def watch(
    *,
    endpoint: Annotated[str, variable("SLEEPWAKE_ENDPOINT")],
    every: timedelta = timedelta(seconds=1),
    once: _Flag = False,
    listen: str | None = None,
    webhook: Annotated[str | None, variable("SLEEPWAKE_WEBHOOK")] = None,
    baseline: Path | None = None,
    rebaseline: Literal["on-weight-update", "never"] = "on-weight-update",
    prompts: int = 24,
    max_tokens: int = 32,
    at_most_every: timedelta = timedelta(0),
    max_tokens_per_hour: Annotated[int | None, _Unshown] = None,
    keep: int = 100,
    api_key: ApiKeyOption = None,
    headers: HeadersOption = (),
    ca_file: CaFileOption = None,
    client_cert: ClientFileOption = None,
    client_key: ClientFileOption = None,
    use_proxy: ProxyOption = False,
    out: OutOption = REPORTS,
) -> int:
    """Watch a server that somebody else puts to sleep and wakes; judge every wake-up.

    It asks canary prompts and nothing else: the engine is never put to sleep, woken, reset or reloaded by
    it. It goes on until it is interrupted, and then ends with 130.

    Args:
        endpoint: URL of the server.
        every: How often to look at it, for example 0.5s or 1m.
        once: Wait for one wake-up, judge it, and end with its exit code.
        listen: HOST:PORT at which to answer /metrics, /ready and /live, for example 127.0.0.1:9109.
        webhook: Where alarms are sent, as JSON. Better in the environment, as SLEEPWAKE_WEBHOOK.
        baseline: The run directory of an earlier watch whose baseline to take over. Default: the newest one
            of this very server process, or else a new baseline.
        rebaseline: When answers may change on purpose: on-weight-update (the server names other weights),
            or never.
        prompts: How many canary prompts to ask. An engine that answers with noise needs about 20.
        max_tokens: How long their answers may be.
        at_most_every: Check no more often than this, for example once in 30s.
        max_tokens_per_hour: Spend no more tokens than this on checks, prompts included.
        keep: How many sound checks to keep on disk; all others are kept.
        api_key: The key that the server requires. Better in the environment: SLEEPWAKE_API_KEY, or else
            OPENAI_API_KEY or VLLM_API_KEY.
        headers: NAME=VALUE, sent with every call to the server. Can be given several times.
        ca_file: A PEM file with the certificates to trust instead of the system's.
        client_cert: A PEM file with the certificate to show to the server.
        client_key: The PEM file of its key, if that is another.
        use_proxy: Go through the proxy that the environment names.
        out: The folder that holds the run directories.
    """
    require("run", for_what="watching a server")
    from harness.cli.concluding import conclude
    from harness.watch.options import WatchOptions
    from harness.watch.run import watch as begin

    asked = RunOptions(
        endpoint=endpoint,
        runtime="attached",
        api_key=SecretStr(api_key) if api_key else None,
        headers=tuple(map(SecretStr, headers)),
        ca_file=ca_file,
        client_cert=client_cert,
        client_key=client_key,
        use_proxy=use_proxy,
        out=out,
        sources={name: source for name, source in given_options().items() if name in RunOptions.model_fields},
    )
    options = WatchOptions(
        endpoint=endpoint,
        access=asked.access,
        every_s=every.total_seconds(),
        prompts=prompts,
        max_tokens=max_tokens,
        keep=keep,
        once=once,
        rebaseline=rebaseline,
        baseline=baseline,
        at_most_every_s=at_most_every.total_seconds(),
        most_tokens_per_hour=max_tokens_per_hour,
        listen=listen,
        webhook=webhook,
    )
    console = new_console()

    def tell(sentence: str) -> None:
        moment = datetime.now().astimezone()
        console.print(Text(f"{moment:%Y-%m-%d %H:%M:%S} {sentence}"), soft_wrap=True)

    ended = begin(options, asked, tell=tell)
    tell(f"recorded in {ended.directory}")
    if ended.result is not None:
        return conclude(ended.directory, console)
    return ExitCode.INTERRUPTED

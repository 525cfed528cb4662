"""The commands about this machine and about sleepwake itself."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from harness.cli.help import THEIRS
from harness.cli.option_sources import variable
from harness.cli.shared import (
    ApiKeyOption,
    CaFileOption,
    ClientFileOption,
    HeadersOption,
    ProxyOption,
    print_lines,
)
from harness.errors import ExitCode
from harness.extras import require


def clean(
    *,
    endpoint: Annotated[str | None, variable("SLEEPWAKE_ENDPOINT"), Parameter(group=THEIRS)] = None,
    api_key: ApiKeyOption = None,
    headers: HeadersOption = (),
    ca_file: CaFileOption = None,
    client_cert: ClientFileOption = None,
    client_key: ClientFileOption = None,
    use_proxy: ProxyOption = False,
) -> int:
    """Remove servers that a dead harness left behind, and those that --keep-servers left running.

    Servers of others that a dead harness left asleep, paused or with what it loaded are given back as they
    were found. Ends with 4 if one could not be.

    Args:
        endpoint: URL of the server that wants a key, a header or a certificate; no other is shown it.
        api_key: The key that it requires. Better in the environment: SLEEPWAKE_API_KEY, or else
            OPENAI_API_KEY or VLLM_API_KEY.
        headers: NAME=VALUE, sent with every call to it. Can be given several times.
        ca_file: A PEM file with the certificates to trust instead of the system's.
        client_cert: A PEM file with the certificate to show to it.
        client_key: The PEM file of its key, if that is another.
        use_proxy: Go through the proxy that the environment names.
    """
    from harness.drive.guest.owed import Ledger
    from harness.servers.select import sweep_all

    done, code = sweep_all(), ExitCode.CLEAN
    if (ledger := Ledger()).entries():
        require("run", for_what="giving servers back")
        import anyio
        from pydantic import SecretStr

        from harness.drive.guest.giving_back import give_back_all
        from harness.runs.options import RunOptions
        from harness.servers.attached import base_url_of

        access = RunOptions(
            endpoint=endpoint,
            api_key=SecretStr(api_key) if api_key else None,
            headers=tuple(map(SecretStr, headers)),
            ca_file=ca_file,
            client_cert=client_cert,
            client_key=client_key,
            use_proxy=use_proxy,
        ).access
        theirs = base_url_of(endpoint) if endpoint else None
        leftovers = anyio.run(partial(give_back_all, ledger, endpoint=theirs, access=access))
        done += [leftover.sentence for leftover in leftovers]
        if not all(leftover.is_settled for leftover in leftovers):
            code = ExitCode.INFRASTRUCTURE
    print_lines(done or ["nothing was left behind"])
    return code


def doctor() -> int:
    """Show what this machine can run, and what each missing piece would add."""
    from harness.servers.doctor import examine_machine

    print_lines(
        f"{'yes' if finding.available else 'no':<4} {finding.what}: {finding.detail}"
        for finding in examine_machine()
    )
    return ExitCode.CLEAN


def build_image(
    *,
    vllm: str,
    base: str | None = None,
    wheels: Path | None = None,
    ca: Path | None = None,
    pip_conf: Path | None = None,
    proxy: str | None = None,
) -> int:
    """Build the CPU image of a vLLM release, unless it is there and up to date.

    Args:
        vllm: The release, for example 0.10.0.
        base: The image to build on: Debian 13 or newer with Python 3.11 or 3.12.
        wheels: A folder of wheels that are preferred to the index's.
        ca: A file of certificates that the build trusts besides the public ones.
        pip_conf: A pip configuration file for the build.
        proxy: URL of an HTTP proxy for the build.
    """
    require("docker", for_what="building an image")
    from harness.servers.docker.images import BuildOptions, ensure_image

    default = BuildOptions.from_environment()
    options = replace(
        default,
        base=base or default.base,
        wheels=wheels or default.wheels,
        ca=ca or default.ca,
        pip_conf=pip_conf or default.pip_conf,
        proxy=proxy or default.proxy,
    )
    built = ensure_image(vllm, options=options, progress=lambda step: print_lines([step]))
    print_lines([f"{'built' if built.built else 'up to date'}: {built.reference} {built.id}"])
    return ExitCode.CLEAN


def schema(what: Literal["scenario", "verdict"] = "scenario", /) -> int:
    """Print a JSON Schema.

    Args:
        what: Of scenario files, or of verdict.json.
    """
    from harness.check.result import RunResult
    from harness.scenario.schema import Scenario

    model = Scenario if what == "scenario" else RunResult
    print_lines([json.dumps(model.model_json_schema(), indent=2)])
    return ExitCode.CLEAN

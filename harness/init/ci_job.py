"""The CI job that ``sleepwake init`` writes: it installs the package, runs the scenario, keeps the report.

Doubt (exit code 3) and trouble with the machine (4) are no verdict about the engine: where a CI knows
warnings, that is what they are.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from harness.init.wanted import Ci, Wanted

CHECKOUT = "actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4.2.2"
UPLOAD = "actions/upload-artifact@ea165f8d65b6e75b540449e92b4886f43607fa02 # v4.6.2"


def extras(wanted: Wanted) -> str:
    """What of the package the job needs; an engine of the user's own environment is never installed."""
    return "docker,report" if wanted.image else "run,report"


def asked(wanted: Wanted) -> list[str]:
    """The options that say what is tested."""
    options = ["--image", wanted.image] if wanted.image else ["--endpoint", wanted.endpoint or ""]
    if wanted.llm:
        options = ["--runtime", "process"]
    return [*options, *(["--model", wanted.model] if wanted.model else [])]


def command(wanted: Wanted, *, scenarios: Path) -> str:
    """The call that runs what was written."""
    return shlex.join(["sleepwake", "run", str(scenarios), *asked(wanted)])


_GITHUB = """\
# Written by `sleepwake init`: does the model that wakes up answer as the one that fell asleep?
name: sleepwake
on:
  workflow_dispatch:
  schedule:
    - cron: '17 3 * * *'
permissions:
  contents: read
concurrency:
  group: sleepwake # two engines on one GPU would make each other's memory readings lie
jobs:
  sleepwake:
    runs-on: {runner}
    timeout-minutes: 60
    env:
      SLEEPWAKE_API_KEY: ${{{{ secrets.SLEEPWAKE_API_KEY }}}}
    steps:
      - uses: {checkout}
        with:
          persist-credentials: false
      - name: Install sleepwake
        run: |
          python3 -m venv "$RUNNER_TEMP/sleepwake"{site}
          "$RUNNER_TEMP/sleepwake/bin/pip" install --quiet 'sleepwake[{extras}]=={version}'
          echo "$RUNNER_TEMP/sleepwake/bin" >> "$GITHUB_PATH"
      - name: Sleep, wake up, compare
        run: |
          code=0
          {command} || code=$?
          case $code in
            3) echo '::warning title=sleepwake::inconclusive: the summary says what would settle it' ;;
            4) echo '::warning title=sleepwake::infrastructure: no verdict about the engine' ;;
            *) exit $code ;;
          esac
      - if: always()
        run: sleepwake clean
      - uses: {upload}
        if: always()
        with:
          name: sleepwake
          path: reports/
          if-no-files-found: ignore
"""

_GITLAB = """\
# Written by `sleepwake init`. Include it: `include: {{local: /.gitlab/sleepwake.yml}}`
sleepwake:
  tags: [{tag}]
  timeout: 1h
  script:
    - python3 -m venv .sleepwake{site}
    - .sleepwake/bin/pip install --quiet 'sleepwake[{extras}]=={version}'
    - PATH="$PWD/.sleepwake/bin:$PATH" {command}
  after_script:
    - .sleepwake/bin/sleepwake clean
  allow_failure:
    exit_codes: [3, 4] # inconclusive, or infrastructure: no verdict about the engine
  artifacts:
    when: always
    paths: [reports/]
    reports:
      junit: reports/*/junit.xml
"""

_JENKINS = """\
// Written by `sleepwake init`: a pipeline of its own.
pipeline {{
  agent {{ label '{tag}' }}
  options {{ timeout(time: 1, unit: 'HOURS') }}
  stages {{
    stage('sleepwake') {{
      steps {{
        sh '''
          python3 -m venv .sleepwake{site}
          .sleepwake/bin/pip install --quiet "sleepwake[{extras}]=={version}"
        '''
        script {{
          def code = sh(returnStatus: true, script: '''
            PATH="$PWD/.sleepwake/bin:$PATH" {command}
          ''')
          if (code == 3 || code == 4) {{ // inconclusive, or infrastructure: no verdict about the engine
            unstable("sleepwake ended with ${{code}}")
          }} else if (code != 0) {{
            error("sleepwake ended with ${{code}}")
          }}
        }}
      }}
    }}
  }}
  post {{
    always {{
      sh '.sleepwake/bin/sleepwake clean'
      junit allowEmptyResults: true, testResults: 'reports/*/junit.xml'
      archiveArtifacts allowEmptyArchive: true, artifacts: 'reports/**'
    }}
  }}
}}
"""

_FILES: Mapping[Ci, tuple[str, str]] = MappingProxyType(
    {
        "github": (".github/workflows/sleepwake.yml", _GITHUB),
        "gitlab": (".gitlab/sleepwake.yml", _GITLAB),
        "jenkins": ("Jenkinsfile.sleepwake", _JENKINS),
    }
)


def ci_job(wanted: Wanted, *, scenarios: Path, version: str) -> tuple[Path, str] | None:
    """The file of the job and what is in it; None where none is wanted."""
    if wanted.ci not in _FILES:
        return None
    name, text = _FILES[wanted.ci]
    # A server of the user's own is reached from any runner of theirs; an engine takes one with a GPU.
    tag = "self-hosted" if wanted.endpoint else "gpu"
    fill: Callable[..., str] = text.format
    return Path(name), fill(
        runner="[self-hosted, linux]" if wanted.endpoint else "[self-hosted, linux, gpu]",
        tag=tag,
        checkout=CHECKOUT,
        upload=UPLOAD,
        site=" --system-site-packages" if wanted.llm else "",
        extras=extras(wanted),
        version=version,
        command=command(wanted, scenarios=scenarios),
    )

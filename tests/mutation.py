"""Mutation testing of the checkers: how many small changes to ``harness/check`` make a test fail.

``make mutation`` runs all of it, or with ``ARGS='harness.check.noise.limits.*'`` a part.  The outcome of
every mutant is kept in ``mutants/`` until the function it is in changes; mutants that survived are tried
again when they are named.  mutmut does the work; what it does otherwise here is in this file.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias
from unittest.mock import patch

import libcst as cst
from mutmut import __main__ as mutmut
from mutmut.mutation import file_mutation
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.file_mutation import MODULE_STATEMENT, Mutation, MutationVisitor
from mutmut.runners.harness import PytestRunner
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.workers import isolation

LEAST_SCORE = 0.85
"""Part of the mutants that must make a test fail."""

NOTICED = frozenset({"killed", "timeout", "segfault"})
"""What becomes of a mutant that the tests do not let pass."""

Arrangement: TypeAlias = tuple[
    Sequence[MODULE_STATEMENT], Sequence[MODULE_STATEMENT], Sequence[MODULE_STATEMENT], Sequence[str]
]

SKIPS = MutationVisitor._skip_node_and_children
ARRANGE = file_mutation.function_trampoline_arrangement
RUN_TESTS = PytestRunner.run_tests


def main(arguments: Sequence[str]) -> int:
    """Run ``mutmut run`` with these arguments, print the score of every module, say whether all suffice."""
    with (
        patch.object(MutationVisitor, "_skip_node_and_children", skip_but_properties),
        patch.object(file_mutation, "function_trampoline_arrangement", arrange),
        patch.object(PytestRunner, "run_tests", run_own_tests_first),
        # A busy machine is no endless loop: the limit on processor time is enough.
        patch.object(isolation, "register_timeout", lambda **_: None),
    ):
        mutmut.run.main([*arguments], standalone_mode=False)
    return report(statuses())


def skip_but_properties(visitor: MutationVisitor, node: cst.CSTNode) -> bool:
    """Skip what mutmut skips, decorated functions, but no properties: much of what decides is one."""
    return not is_property(node) and bool(SKIPS(visitor, node))


def arrange(function: cst.FunctionDef, mutants: Iterable[Mutation], class_name: str | None) -> Arrangement:
    """Lay a function and its variants out as mutmut does, of a property all but the first as functions."""
    before, (chooser, *variants), after, names = ARRANGE(function, mutants, class_name)
    if is_property(function):
        variants = [each.with_changes(decorators=()) for each in variants]
    return before, (chooser, *variants), after, names


def is_property(node: cst.CSTNode) -> bool:
    """Whether a node is a method that is read like an attribute."""
    if not isinstance(node, cst.FunctionDef) or len(node.decorators) != 1:
        return False
    decorator = node.decorators[0].decorator
    return isinstance(decorator, cst.Name) and decorator.value in {"property", "cached_property"}


def run_own_tests_first(runner: PytestRunner, *, mutant_name: str | None, tests: Iterable[str]) -> int:
    """Collect the tests of other modules only where a module's own have let a mutant pass."""
    tests = list(tests)
    own = [test for test in tests if mutant_name and test.startswith(own_tests(mutant_name))]
    others = [test for test in tests if test not in own]
    groups = [group for group in (own, others) if group] or [[]]
    exit_codes = (RUN_TESTS(runner, mutant_name=mutant_name, tests=group) for group in groups)
    return next((code for code in exit_codes if code), 0)


def own_tests(mutant_name: str) -> str:
    """How the tests of a mutant's module begin."""
    _harness, _check, *folders, module, _function = mutant_name.split(".")
    return "/".join(("tests", "check", *folders, f"test_{module}"))


def statuses() -> Iterator[tuple[str, str]]:
    """Module and status of every mutant that was tried."""
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for exit_code in data.exit_code_by_key.values():
            if exit_code is not None:
                yield path.stem, status_by_exit_code[exit_code]


def report(tried: Iterable[tuple[str, str]]) -> int:
    """Print what became of the mutants; 1 where too few were noticed."""
    of_module: dict[str, Counter[str]] = {}
    for module, status in tried:
        of_module.setdefault(module, Counter())[status] += 1
    total = sum(of_module.values(), Counter[str]())
    for name, counts in (*sorted(of_module.items()), ("all", total)):
        sys.stdout.write(row(name, counts) + "\n")
    return 0 if score(total) >= LEAST_SCORE else 1


def row(name: str, counts: Counter[str]) -> str:
    """One line of the table."""
    missed = ", ".join(f"{count} {status}" for status, count in counts.items() if status not in NOTICED)
    return f"{name:<18}{score(counts):>7.1%} of {counts.total():>4}  {missed}".rstrip()


def score(counts: Counter[str]) -> float:
    """Which part of the mutants made a test fail."""
    return sum(counts[status] for status in NOTICED) / max(1, counts.total())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The nouns: frozen records of the standard library, and nothing that does not follow from them.

    Suite ──expand──▶ Trial ──run──▶ Outcome ──record──▶ Report ──render──▶ files

A `Subject` is what is declared about the thing under test; a `Check` is one claim; a `Trial` is
one claim about one subject on one device in one dtype; `Evidence` is what a check measured, and
the `Verdict` is derived from it, so that a verdict and its numbers cannot disagree.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import Any

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Verdict(enum.Enum):
    """What a trial, or one piece of evidence, amounts to."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"  # the bound is too loose for a pass to mean anything
    ERRORED = "errored"  # dlcheck's own mistake, or a check that measured nothing
    SKIPPED = "skipped"  # not run, with its reason
    EXPECTED = "expected"  # failed as declared: a strict expected failure

    @property
    def symbol(self) -> str:
        return _SYMBOLS[self]

    @property
    def is_good(self) -> bool:
        return self in (Verdict.PASSED, Verdict.EXPECTED, Verdict.SKIPPED)


_SYMBOLS = {
    Verdict.PASSED: "✓",
    Verdict.FAILED: "✗",
    Verdict.INCONCLUSIVE: "?",
    Verdict.ERRORED: "!",
    Verdict.SKIPPED: "–",
    Verdict.EXPECTED: "x",
}

# Gravest last: what a trial with several pieces of evidence comes to.
_GRAVITY = (Verdict.PASSED, Verdict.INCONCLUSIVE, Verdict.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Data of one plot: named series of (x, y) points. Rendered as SVG with its table beneath.

    `marks` are series drawn as points without a line (zeros of a path, measured values over a
    fitted curve); `steps` are drawn as stairs, each height from its x to the next (a histogram).
    """

    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    log_x: bool = False
    log_y: bool = False
    marks: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What an introduction to deep learning says, and how far it is so.

    `verdict` is "true", "true if" or "false when"; `condition` ends the sentence. Several checks
    may be parts of the experiment behind one statement: they share its `id`.
    """

    id: str  # "R1"
    says: str
    verdict: str = "true"
    condition: str = ""

    @property
    def ruling(self) -> str:
        """The verdict as a phrase: "true if every step is proximal"."""
        return f"{self.verdict} {self.condition}".strip()

    @property
    def place(self) -> tuple[str, int]:
        """Orders R2 before R11."""
        letters = self.id.rstrip("0123456789")
        return letters, int(self.id[len(letters) :] or 0)


STATEMENT_VERDICTS = ("true", "true if", "false when")


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """One measured error, the bound that it had to respect, and the size of what was measured.

    `error`, `bound` and `signal` are non-negative and share `unit`. A pass needs
    `error ≤ bound` and a bound that is small against the signal: `bound ≤ resolution · signal`.
    A statistical claim gives `p_values`, one per strike, and then the strikes decide: it failed
    iff every one of `strikes` independent samples has p ≤ `alpha` (STATISTICS: three strikes).
    """

    error: float
    bound: float
    signal: float
    unit: str = ""
    what: str = ""  # what was measured: "gradient of weight", "mean of the mask"
    expected: str = ""  # in words or numbers, for the person who reads the failure
    got: str = ""
    where: str = ""  # which elements
    cause: str = ""  # the likely cause, only where evidence points to one
    resolution: float = 0.01
    p_values: tuple[float, ...] = ()
    alpha: float = 1e-3
    strikes: int = 3
    values: Mapping[str, float | str] = field(default_factory=lambda: NOTHING)
    figures: tuple[Figure, ...] = ()
    counterexample: bool = False  # measures where a statement of the textbook fails

    @property
    def verdict(self) -> Verdict:
        if self.p_values:
            return self._struck()
        if not self.error <= self.bound or math.isinf(self.error):  # NaN never passes
            return Verdict.FAILED
        if not self.bound <= self.resolution * self.signal or not self.signal > 0:
            return Verdict.INCONCLUSIVE
        return Verdict.PASSED

    def _struck(self) -> Verdict:
        if any(math.isnan(p) for p in (*self.p_values, self.error)):
            return Verdict.FAILED
        if all(p <= self.alpha for p in self.p_values):
            enough = len(self.p_values) >= self.strikes
            return Verdict.FAILED if enough else Verdict.INCONCLUSIVE
        detectable = self.bound <= self.resolution * self.signal
        return Verdict.PASSED if detectable else Verdict.INCONCLUSIVE

    @property
    def tightness(self) -> float:
        """Error over bound: above 1 is a failure, and near 1 a close call."""
        if math.isnan(self.error) or math.isnan(self.bound):
            return math.inf
        if self.bound > 0:
            return self.error / self.bound
        return math.inf if self.error > 0 else 0.0

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.p_values:
            strikes = ", ".join(f"{p:.2g}" for p in self.p_values)
            return (
                f"off by {self.error:.3g}{unit} (smallest detectable {self.bound:.3g}), "
                f"p = {strikes} (alpha {self.alpha:g}, {self.strikes} strikes)"
            )
        relation = "≤" if self.error <= self.bound else ">"
        return (
            f"error {self.error:.3g} {relation} bound {self.bound:.3g}{unit}, "
            f"signal {self.signal:.3g}"
        )


def worst(evidence: Sequence[Evidence]) -> Evidence:
    """The piece that decides: gravest verdict first, then the least room to the bound."""
    return max(evidence, key=lambda piece: (_GRAVITY.index(piece.verdict), piece.tightness))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFailure:
    """A check that this subject is known to fail. Strict: if it passes, the trial fails."""

    check: str  # a glob over check names
    reason: str
    when: Mapping[str, Any] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is declared about the thing under test. Holds no tensors and loads no code.

    `target` is an import path `"package.module:attribute"`, `"path/file.py:attribute"`, or the
    object itself. `inputs` maps each argument to the input language, as `{"x": "float b n"}`.
    `matrix` maps a constructor argument (or `device`, `dtype`) to the values it takes.
    """

    name: str
    target: Any
    kind: str
    args: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    inputs: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    matrix: Mapping[str, Sequence[Any]] = field(default_factory=lambda: NOTHING)
    reference: Any = None
    reference_args: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    traits: frozenset[str] = frozenset()
    options: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    checks: tuple[str, ...] = ()  # globs; empty means every check that applies
    skip: tuple[str, ...] = ()
    tags: frozenset[str] = frozenset()
    requires: tuple[str, ...] = ()  # distributions without which it is not run
    expect_failures: tuple[ExpectedFailure, ...] = ()
    file: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)

    def with_target(self, name: str, target: Any) -> Subject:
        """The same declaration for another implementation; how mutants are made."""
        return replace(self, name=name, target=target)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkPlan:
    """A benchmark as it is declared: what is timed, against what, on which inputs and sizes.

    `target` is an import path or the object itself; in a suite `subject` may name a subject of
    the same suite instead. `matrix` maps `device`, `dtype`, a dim of the inputs or a constructor
    argument to the values it takes. `items`, `flops` and `bytes` are of one call: numbers, or
    formulas in the dims.
    """

    name: str
    target: Any = None
    subject: str = ""
    against: Any = None
    kind: str = ""
    args: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    against_args: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    inputs: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    sizes: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    matrix: Mapping[str, Sequence[Any]] = field(default_factory=lambda: NOTHING)
    backward: bool = False  # time the call and its gradients
    items: float | str | None = None
    item: str = ""
    flops: float | str | None = None
    bytes: float | str | None = None
    options: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    traits: frozenset[str] = frozenset()
    tags: frozenset[str] = frozenset()
    requires: tuple[str, ...] = ()
    file: str = field(default="", compare=False)
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchmarkTrial:
    """One point of a plan: one pytest item, one measurement. `subject` holds its declaration,
    `against` as the reference."""

    suite: str
    plan: BenchmarkPlan
    subject: Subject
    device: str
    dtype: str
    sizes: Mapping[str, int]
    params: Mapping[str, Any] = field(default_factory=lambda: NOTHING)  # the axes but those two
    profile: str = "default"
    seed: int = 0

    @property
    def point(self) -> str:
        """The place in the grid, as the node id writes it: `cpu-float32-n=64`."""
        axes = (f"{name}={label(value)}" for name, value in self.params.items())
        return "-".join([self.device, self.dtype, *axes])


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Subjects × checks × devices × dtypes, with the claim that they stand for."""

    name: str
    subjects: tuple[Subject, ...] = ()
    claim: str = ""
    benchmarks: tuple[BenchmarkPlan, ...] = ()
    matrix: Mapping[str, Sequence[Any]] = field(default_factory=lambda: NOTHING)
    optional: bool = False  # `dlcheck run` runs it only where it is named
    file: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A role: how a subject is built and called, and what may be declared about it.

    `form` is `"function"` (a class is instantiated with `args`, a function gets them as keyword
    arguments), `"module"` (a class or a factory is called with `args`) or `"factory"` (a class
    or function that the check itself calls, `args` being keyword arguments).
    """

    name: str
    form: str
    call: str  # as the documentation writes it: "loss(prediction, target)"
    summary: str
    inputs: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    by_task: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: NOTHING)
    options: Mapping[str, str] = field(default_factory=lambda: NOTHING)  # name → meaning
    required: frozenset[str] = frozenset()  # options without which nothing can be checked
    traits: Mapping[str, str] = field(default_factory=lambda: NOTHING)  # beside the common ones
    implies: frozenset[str] = frozenset()  # traits that every subject of the kind has
    returns_tensors: bool = False  # an answer without a tensor breaks the contract
    pairs: bool = False  # weighs each position of the first input by each of the second
    gathers: bool = False  # several inputs are passed as one list
    methods: tuple[str, ...] = ()  # an object that has them all is called through them
    # Further positional arguments that are no tensors, and their value where a check gives none.
    further: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    # option → what a text may say there; those of `named` may name a constructor argument instead,
    # and numbers of them a dim
    values: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: NOTHING)
    named: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()  # options that are a number, "inf" or "-inf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One claim about every subject of its kinds, as it is declared: read without importing it.

    `function` is the import path `"module:name"`. `rejects` and `accepts` name the mutants and
    the further references as the source writes them.
    """

    name: str
    claim: str
    kinds: tuple[str, ...]  # ("*",) is every kind
    function: str
    file: str
    line: int
    doc: str = ""
    needs: frozenset[str] = frozenset()
    forbids: frozenset[str] = frozenset()
    options: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    dtypes: tuple[str, ...] = ()  # empty: any
    regimes: tuple[str, ...] = ()  # empty: any
    tags: frozenset[str] = frozenset()
    once: bool = False  # one case per trial instead of a Hypothesis search
    rejects: tuple[str, ...] = ()
    accepts: tuple[str, ...] = ()
    textbook: Statement | None = None  # the statement that it is (a part of) the experiment for

    def why_not(self, subject: Subject, kind: Kind | None = None) -> str:
        """Why this check does not apply to the subject; empty if it does."""
        if "*" not in self.kinds and subject.kind not in self.kinds:
            return f"is for kind {', '.join(self.kinds)}"
        if missing := self.needs - subject.traits:
            return f"needs the trait {', '.join(sorted(missing))}"
        if excluded := self.forbids & subject.traits:
            return f"does not apply with the trait {', '.join(sorted(excluded))}"
        declared = dict(subject.options)
        if subject.reference is not None:
            declared["reference"] = subject.reference  # options={"reference": True} needs one
        globs = [glob for glob in subject.checks if fnmatchcase(self.name, glob)]
        if "experiment" in self.tags and not any(glob.strip("*") for glob in globs):
            return "trains for seconds: runs where a suite names it in checks"
        if "opt_in" in self.tags and globs:
            return ""  # asked for by name: its options need not be declared too
        for option, allowed in self.options.items():
            if (reason := _option_reason(option, allowed, declared)) is not None:
                return reason
        return ""


def _option_reason(option: str, allowed: Any, options: Mapping[str, Any]) -> str | None:
    """Declared: True needs the option, False its absence, a list one of its values.

    A table is compared by its values: `norm = { l1 = 1, l2 = 2 }` is the choice `[1, 2]`; of an
    array one member is enough. None in a list allows the option to be absent.
    """
    if allowed is True or allowed is False:
        if (option in options) is allowed:
            return None
        return f"needs the option {option}" if allowed else f"does not apply with option {option}"
    choices = allowed if isinstance(allowed, (list, tuple, set, frozenset)) else [allowed]
    value = options.get(option)
    members = value if isinstance(value, (list, tuple)) else ()
    value = list(value.values()) if isinstance(value, Mapping) else value
    if value in choices or any(member in choices for member in members):
        return None
    said = " or ".join("nothing" if choice is None else str(choice) for choice in choices)
    return f"needs the option {option} = {said}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A trusted implementation, as it is declared: read without importing it."""

    name: str
    kind: str
    target: str  # "module:name"
    formula: str
    source: str
    file: str
    line: int
    inputs: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    args: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    traits: frozenset[str] = frozenset()
    options: Mapping[str, Any] = field(default_factory=lambda: NOTHING)
    doc: str = ""

    def subject(self) -> Subject:
        """The reference as its own first subject."""
        return Subject(
            name=self.name,
            target=self.target,
            kind=self.kind,
            args=self.args,
            inputs=self.inputs,
            traits=self.traits,
            options=self.options,
            file=self.file,
            line=self.line,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that is needed to make a case again: a few sizes, names and a seed, no numbers."""

    sizes: Mapping[str, int]
    regimes: Mapping[str, str]  # input → the distribution of its values
    layouts: Mapping[str, str]  # input → how it lies in memory
    seed: int

    def __str__(self) -> str:
        return self.told()

    def told(self, free: Mapping[str, str] = NOTHING) -> str:
        """In words. free: what a part may be instead, by its key: {"sizes.n": "any"}."""
        parts = {f"sizes.{name}": f"{name}={size}" for name, size in self.sizes.items()}
        odd = {
            f"{group}.{name}": f"{name}: {value}"
            for group, values, plain in (
                ("regimes", self.regimes, "normal"),
                ("layouts", self.layouts, "contiguous"),
            )
            for name, value in values.items()
            if value != plain
        }
        seed = {"seed": f"seed={self.seed}"}
        if all(free.get(key) == "any" for key in (*parts, *odd, *seed)):
            return f"{_listed(parts, odd, seed)} (or any other)"
        groups = (parts, odd, seed)
        marked = ({k: f"{v} ({free[k]})" if k in free else v for k, v in g.items()} for g in groups)
        return _listed(*marked)


def _listed(sizes: Mapping[str, str], *others: Mapping[str, str]) -> str:
    further = [said for group in others for said in group.values()]
    return ", ".join(part for part in (" ".join(sizes.values()), *further) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """How much work a run may spend."""

    name: str
    examples: int  # cases drawn per trial
    effort: int  # multiplies samples, rounds and sizes of the checks that run once
    draws_its_seed: bool = False  # another one in every run, where none is given; it is recorded


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "quick": Profile(name="quick", examples=5, effort=1),
        "default": Profile(name="default", examples=20, effort=1),
        "thorough": Profile(name="thorough", examples=100, effort=4),
        "ci": Profile(name="ci", examples=20, effort=1),
        "nightly": Profile(name="nightly", examples=400, effort=4, draws_its_seed=True),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One check of one subject on one device in one dtype: one pytest item, one unit of work."""

    suite: str
    subject: Subject
    check: Check
    device: str
    dtype: str
    params: Mapping[str, Any] = field(default_factory=lambda: NOTHING)  # further axes → arguments
    profile: str = "default"
    seed: int = 0
    timeout: float | None = None
    memory: int | None = None  # bytes that it may allocate; 0: any, None: most of what is left
    minimal: bool = True  # look for the smallest case that fails, and say why it does
    scripted: bool = False  # write the script of a failure, which takes up to seconds
    witness: Recipe | None = None  # the case that failed last time: tried first
    only_witness: bool = False  # and nothing else: how a failure is replayed

    @property
    def point(self) -> str:
        """The trial's place in the grid, as its node id writes it: `cpu-float64-mean`."""
        return "-".join([self.device, self.dtype, *(label(v) for v in self.params.values())])

    @property
    def id(self) -> str:
        return f"{self.suite}::{self.subject.name}::{self.check.name}[{self.point}]"

    @property
    def expected_failure(self) -> ExpectedFailure | None:
        here = {"device": self.device, "dtype": self.dtype, **self.params}
        for expected in self.subject.expect_failures:
            if fnmatchcase(self.check.name, expected.check) and all(
                here.get(axis) == value for axis, value in expected.when.items()
            ):
                return expected
        return None


def label(value: object) -> str:
    """A value of a matrix axis as a part of a node id."""
    return str(value).replace("::", ":").replace("/", "_").replace(" ", "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a trial came to: verdict, deciding evidence, minimal case, how to run it again."""

    suite: str
    subject: str
    kind: str
    check: str
    claim: str
    device: str
    dtype: str
    point: str
    verdict: Verdict
    evidence: tuple[Evidence, ...] = ()  # the deciding piece first
    case: str = ""  # the recipe in words
    recipe: Recipe | None = None  # of the deciding case; None for a check that runs once
    free: Mapping[str, str] = field(default_factory=dict)  # see Recipe.told
    cases: int = 0  # how many cases were run
    conclusive: int = 0  # in how many the bound was small against the signal
    message: str = ""  # why skipped or errored; the subject's own traceback
    reproduce: str = ""  # a shell command
    failure: str = ""  # the ID under which `dlcheck replay` finds it
    replay: Mapping[str, Any] = field(default_factory=lambda: NOTHING)  # where it was declared, how
    phases: Mapping[str, int] = field(default_factory=lambda: NOTHING)  # cases of each phase
    script: str = ""  # shows it again, importing only torch and the subject
    scriptless: str = ""  # why a failure has no script
    source: str = ""  # where the subject itself is written: "mypkg/losses.py:41"
    notes: tuple[str, ...] = ()  # what the subject left behind, and why a pass may mean little
    seconds: float = 0.0
    profile: str = "default"
    seed: int = 0
    target: str = ""
    file: str = ""  # where the subject is declared
    line: int = 0
    tags: tuple[str, ...] = ()
    textbook: Statement | None = None

    @property
    def worst(self) -> Evidence | None:
        return self.evidence[0] if self.evidence else None

    @property
    def id(self) -> str:
        return f"{self.suite}::{self.subject}::{self.check}[{self.point}]"

    @property
    def figures(self) -> tuple[Figure, ...]:
        return tuple(figure for piece in self.evidence for figure in piece.figures)


Mutant = Callable[[Subject], Subject]

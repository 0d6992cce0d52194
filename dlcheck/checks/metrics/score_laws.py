"""Between which values the Inception Score lies, and what may not change or raise it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from dlcheck.checks.metrics.class_probabilities import (
    drawn,
    in_one_or_fixed,
    on_probabilities,
    resolvable,
    score_of,
    softmax_rows,
    unsplit,
)
from dlcheck.checks.metrics.score_values import (
    compares_with_the_uniform_marginal,
    forgets_the_exponential,
    takes_logarithms_to_base_two,
    takes_zero_times_infinity,
)
from dlcheck.errors import NotApplicable
from dlcheck.model import Evidence
from dlcheck.registry import check
from dlcheck.strategies import Case
from dlcheck.subjects import Implementation


@on_probabilities
def drops_the_last_sample(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    return original(p[:-1] if len(p) > 1 else p, *rest, **keywords)


@on_probabilities
def weights_the_samples(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    """Later samples count more: a marginal kept as a running mean."""
    marginal = p[0]
    for row in p[1:]:
        marginal = 0.5 * marginal + 0.5 * row
    return (torch.xlogy(p, p) - torch.xlogy(p, marginal)).sum(1).mean().exp()


@on_probabilities
def splits_in_order(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    """The mean over two halves in the order given, where the score of all is meant."""
    return sum(float(_first(original(h, *rest, **keywords))) for h in p.chunk(2)) / len(p.chunk(2))


def _first(answer: Any) -> Any:
    return answer[0] if isinstance(answer, (tuple, list)) else answer


@on_probabilities
def skips_the_last_class(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    """An off-by-one in the sum over classes."""
    p, m = p[:, :-1], p[:, :-1].mean(0)
    return (torch.xlogy(p, p) - torch.xlogy(p, m)).sum(1).mean().exp()


@on_probabilities
def weights_the_classes(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    weights = torch.linspace(0.5, 1.5, p.shape[1], dtype=p.dtype, device=p.device)
    terms = torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))
    return (terms * weights).sum(1).mean().exp()


@on_probabilities
def divides_by_one_sample_less(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    terms = torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))
    return (terms.sum() / max(len(p) - 1, 1)).exp()


@on_probabilities
def sums_over_the_samples(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    return (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum().exp()


@on_probabilities
def counts_confusion_as_diversity(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    """The conditional entropy added instead of subtracted."""
    m = p.mean(0)
    return (-torch.xlogy(p, p) - torch.xlogy(p, m)).sum(1).mean().exp()


@on_probabilities
def negates_the_divergence(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    return 1 / torch.as_tensor(_first(original(p, *rest, **keywords)))


@on_probabilities
def divides_by_the_count_twice(original: Any, p: Tensor, *rest: Any, **keywords: Any) -> Any:
    return ((torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum(1).mean() / len(p)).exp()


@check(
    kind="score_metric",
    rejects=[
        counts_confusion_as_diversity,
        forgets_the_exponential,
        sums_over_the_samples,
        takes_logarithms_to_base_two,
        takes_zero_times_infinity,
    ],
)
def the_score_lies_between_one_and_the_class_count(
    score: Implementation, case: Case
) -> Iterator[Evidence]:
    """1 ≤ IS ≤ K, for probabilities [n, K] as drawn and for each row's likeliest class alone.

    A mean divergence from the mean is a mutual information: at least 0, at most the entropy of
    the classes, at most log K. Holds for a mean over splits too.
    """
    score, p = in_one_or_fixed(score), drawn(score, case)
    certain = torch.zeros_like(p).scatter_(1, p.argmax(1, keepdim=True), 1.0)
    for probabilities, what in ((p, "as drawn"), (certain, "of certain classes")):
        classes, value = p.shape[1], score_of(score, probabilities, case)
        yield Evidence(
            error=value if value != value else max(1 - value, value - classes, 0.0),
            bound=resolvable(score, case, classes),
            signal=float(classes),
            what=f"score outside of [1, K], probabilities {what}",
            expected=f"1 to {classes}",
            got=f"{value:.9g}",
        )


@check(
    kind="score_metric",
    rejects=[skips_the_last_class, weights_the_classes],
    regimes=["normal"],
)
def renaming_classes_changes_nothing(score: Implementation, case: Case) -> Evidence:
    """The score does not depend on the order of the classes.

    probabilities [n, k] as drawn; the columns are turned by one.
    """
    score, p = in_one_or_fixed(score), drawn(score, case)
    return unchanged(score, case, p, p.roll(1, 1), "renamed classes")


@check(
    kind="score_metric",
    rejects=[drops_the_last_sample, splits_in_order, weights_the_samples],
    regimes=["normal"],
)
def reordering_samples_changes_nothing(score: Implementation, case: Case) -> Evidence:
    """The score of one split does not depend on the order of the samples.

    probabilities [n, k] as drawn, shuffled.
    """
    score, p = unsplit(score), drawn(score, case)
    order = torch.randperm(len(p), generator=case.generator("order")).to(p.device)
    return unchanged(score, case, p, p[order], "shuffled samples")


@check(
    kind="score_metric",
    rejects=[divides_by_one_sample_less, drops_the_last_sample, sums_over_the_samples],
    regimes=["normal"],
)
def repeating_the_set_changes_nothing(score: Implementation, case: Case) -> Evidence:
    """Every sample twice scores the same: the score is one of the distribution, not of the count.

    probabilities [n, k] as drawn against [2n, k].
    """
    score, p = unsplit(score), drawn(score, case)
    return unchanged(score, case, p, torch.cat([p, p]), "repeated samples")


def unchanged(score: Implementation, case: Case, p: Tensor, other: Tensor, what: str) -> Evidence:
    """Two sets of probabilities have one score."""
    before, after = (score_of(score, rows, case) for rows in (p, other))
    return Evidence(
        error=abs(after - before),
        bound=2 * resolvable(score, case, before),
        signal=abs(before),
        what=f"change of the score for {what}",
        expected=f"{before:.9g}",
        got=f"{after:.9g}",
    )


@check(
    kind="score_metric",
    rejects=[compares_with_the_uniform_marginal, negates_the_divergence],
    regimes=["normal"],
)
def merging_classes_never_raises_the_score(score: Implementation, case: Case) -> Evidence:
    """A classifier that cannot tell two classes apart sees no more diversity.

    probabilities [n, k] as drawn, k ≥ 2; the first class takes the mass of the last. The data
    processing inequality of the mutual information.
    Source: Cover & Thomas, Elements of Information Theory, 2nd ed., §2.8.
    """
    score, p = in_one_or_fixed(score), drawn(score, case)
    if p.shape[1] < 2:
        raise NotApplicable("there is one class, and nothing to merge")
    merged = p.clone()
    merged[:, 0] += merged[:, -1]
    merged[:, -1] = 0
    before, after = (score_of(score, rows, case) for rows in (p, merged))
    return Evidence(
        error=after if after != after else max(after - before, 0.0),
        bound=2 * resolvable(score, case, before),
        signal=abs(before),
        what="rise of the score when two classes are merged",
        expected=f"at most {before:.9g}",
        got=f"{after:.9g}",
    )


@check(
    kind="score_metric",
    rejects=[divides_by_the_count_twice, negates_the_divergence],
    regimes=["normal"],
)
def pooling_two_sets_keeps_the_geometric_mean(score: Implementation, case: Case) -> Evidence:
    """IS(A ∪ B) ≥ √(IS(A) IS(B)) for two sets of n samples: pooling cannot lose diversity.

    probabilities [n, k] each. The marginal of the pool is the mean of the two, and the mean
    divergence from any other marginal is larger: log IS is concave.
    """
    score, n = unsplit(score), len(case.tensors[0]) + 1
    first, second = softmax_rows(case, n, "first"), softmax_rows(case, n, "second")
    apart = score_of(score, first, case) * score_of(score, second, case)
    pooled, least = score_of(score, torch.cat([first, second]), case), abs(apart) ** 0.5
    return Evidence(
        error=pooled if pooled != pooled else max(least - pooled, 0.0),
        bound=2 * resolvable(score, case, least),
        signal=least,
        what="fall of the pooled score below the geometric mean",
        expected=f"at least {least:.9g}",
        got=f"{pooled:.9g}",
    )

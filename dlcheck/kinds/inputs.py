"""What a subject takes where it does not declare its inputs."""

from __future__ import annotations

from collections.abc import Mapping

from dlcheck.kinds.metrics import CLASS_PREDICTIONS, SCORED
from dlcheck.model import Kind


def inputs_of(
    kind: Kind, declared: Mapping[str, str], options: Mapping[str, object]
) -> Mapping[str, str]:
    """What is declared, else what the task says, else what the kind says."""
    if declared:
        return declared
    task = options.get("task")
    if isinstance(task, str) and task in SCORED and kind.name == "prediction_metric":
        return _of_score(SCORED[task], options)
    if isinstance(task, str) and task in kind.by_task:
        return {name: _in_form(name, text, options) for name, text in kind.by_task[task].items()}
    if kind.name == "score_metric":
        return CLASS_PREDICTIONS.get(str(options.get("prediction")), kind.inputs)
    return kind.inputs


def _of_score(
    forms: Mapping[str, tuple[str, str]], options: Mapping[str, object]
) -> dict[str, str]:
    """The inputs of a score in the declared form and order."""
    form = options.get("prediction")
    prediction, target = forms.get(str(form), next(iter(forms.values())))
    pairs = [("prediction", prediction), ("target", target)]
    return dict(reversed(pairs) if options.get("target_first") else pairs)


# What a loss of a task takes where it is not the element of the task: form → element.
_FORMS: Mapping[str, Mapping[str, str]] = {
    "logit": {"probabilities": "probability", "log_probabilities": "log_probability"},
    "probability": {"logits": "logit", "log_probabilities": "log_probability"},
    "float": {"probabilities": "unit", "logits": "logit"},
}


def _in_form(name: str, text: str, options: Mapping[str, object]) -> str:
    """An input of a task in the declared form: logits, probabilities or their logarithms."""
    element, _, dims = text.partition(" ")
    form = options.get(name)
    if options.get("task") == "regression" and options.get("prediction") == "log_rate":
        return f"positive {dims}" if name == "target" else text
    if options.get("task") == "binary" and element == "logit":
        return f"unit {dims}" if form == "probabilities" else text
    wanted = _FORMS.get(element, {}).get(form if isinstance(form, str) else "", element)
    if wanted in ("probability", "log_probability") and dims.split()[1:2] == ["k"]:
        wanted += "[k]"  # b k h w: along the classes
    return f"{wanted} {dims}"

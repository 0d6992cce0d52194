"""Functions and modules that return tensors: operations, layers, losses, penalties."""

from __future__ import annotations

from collections.abc import Mapping

from dlcheck.model import Kind

_SYMMETRIC_AXES = (
    "axes of the first input, or names of its dims, along which it is permuted, shifted or "
    "causal, as its traits say"
)

_LOSS_TASKS: Mapping[str, Mapping[str, str]] = {
    "regression": {"prediction": "float b d", "target": "float b d"},
    "classification": {"prediction": "logit b k", "target": "label[k] b"},
    "binary": {"prediction": "logit b d", "target": "unit b d"},
    "segmentation": {"prediction": "logit b k h w", "target": "label[k] b h w"},
    "distribution": {"prediction": "logit b k", "target": "probability b k"},
    "contrastive": {"first": "float b d", "second": "float b d"},
    "triplet": {"anchor": "float b d", "positive": "float b d", "negative": "float b d"},
    "sequence": {"prediction": "logit b t k", "target": "label[k] b t"},
}

KINDS = (
    Kind(
        name="op",
        form="function",
        call="f(*inputs)",
        summary="a function or autograd.Function.apply that returns tensors",
        returns_tensors=True,
        options={"axes": _SYMMETRIC_AXES},
    ),
    Kind(
        name="layer",
        form="module",
        call="m(*inputs)",
        summary="an nn.Module that returns tensors",
        returns_tensors=True,
        options={
            "variance": 'law of its own initialization: { weight = "1 / fan_in" }',
            "axes": _SYMMETRIC_AXES,
            "filters": "of a convolution, the arguments that hold its channels: "
            '{ out = "out_channels", in = "in_channels", groups = "groups", '
            "transposed = true }",
        },
    ),
    Kind(
        name="activation",
        form="function",
        call="f(x)",
        summary="an elementwise function or module",
        returns_tensors=True,
        inputs={"x": "float b n"},
        options={
            "axes": "axes along which elements depend on each other (softmax); none by default",
            "values": "pairs [x, f(x)] that the definition gives: [[0, 0.5]]",
            "asymptotes": "lines that the graph nears, as [slope, intercept]: "
            "{ left = [0, 0], right = [1, 0] }",
        },
    ),
    Kind(
        name="normalization",
        form="module",
        call="m(x)",
        summary="a module that normalises over declared axes",
        returns_tensors=True,
        options={
            "axes": "which axes are normalised together",
            "groups": "how many groups the first of `axes` is split into, or its argument "
            '(GroupNorm: axes = [1, 2, 3], groups = "num_groups")',
            "eps": "the constant in the denominator, or its argument; what a norm is clamped at "
            "is none",
            "eps_form": "variance (the default: σ² + ε under the root) or deviation (√σ² + ε)",
            "ddof": "0 (the default), or 1 if the variance is divided by n − 1",
            "centred": "false for RMS norms",
            "running": "names of the running statistics and their momentum (the weight of the "
            "new batch): { mean, var, momentum }, and ddof = 0 or 1 of var; or 'frozen'",
        },
        required=frozenset({"axes"}),
        values={"eps_form": ("variance", "deviation")},
    ),
    Kind(
        name="attention",
        form="function",
        call="f(query, key, value, mask=None)",
        summary="an attention function or module",
        returns_tensors=True,
        options={
            "heads": "number of heads, or its argument",
            "mask": "{ name, meaning = keep/drop/additive, axis = key/pair }",
            "scale": "factor of the logits",
            "window": "how far a query sees",
            "projections": "sub-modules that may be set to the identity",
        },
        pairs=True,
        traits={"mask_keeps_one": "every row keeps at least one key"},
    ),
    Kind(
        name="positional",
        form="function",
        call="f(x)",
        summary="a positional encoding of x or of positions",
        returns_tensors=True,
        options={
            "axes": "sequence axes",
            "mode": "add, rotate or table",
            "relative": "rotation or inner_product",
            "base": "base of the frequencies",
            "first": "position of the first token",
        },
        values={"mode": ("add", "rotate", "table"), "relative": ("rotation", "inner_product")},
    ),
    Kind(
        name="recurrent",
        form="module",
        call="m(x, state)",
        summary="a module that returns (y, state)",
        returns_tensors=True,
        options={
            "batch_first": "axis order of x",
            "state": "the inputs that form the state; several names are a tuple",
            "reset": "the input that restarts the state",
            "lengths": "the input that holds the length of each row",
            "packed": "true if x may be a PackedSequence",
            "gates": "{ bias = parameter, order = [names] }, in torch's sense of each gate",
            "variant": "reset_before or reset_after",
        },
        values={"variant": ("reset_before", "reset_after")},
    ),
    Kind(
        name="loss",
        form="function",
        call="loss(prediction, target)",
        summary="a loss function or module",
        returns_tensors=True,
        by_task=_LOSS_TASKS,
        values={
            "prediction": ("logits", "probabilities", "log_probabilities", "log_rate"),
            "target": ("logits", "probabilities", "log_probabilities", "log_rate"),
            "denominator": ("rows", "valid", "weights"),
            "reduction": ("mean", "sum", "none", "batchmean"),
            "smoothing": (),
            "class_weight": (),
            "positive_weight": (),
        },
        named=frozenset({"reduction", "smoothing", "class_weight", "positive_weight"}),
        numbers=frozenset({"optimum", "perfect"}),
        options={
            "task": ", ".join(_LOSS_TASKS),
            "reduction": "mean, sum, none, batchmean, or per dim",
            "denominator": "rows, valid or weights",
            "ignore_index": "the target that is ignored",
            "class_weight": "argument with the weights of the classes",
            "smoothing": "argument with the amount of label smoothing",
            "positive_weight": "argument with the weight of positives (pos_weight, or the α of a "
            "focal loss)",
            "prediction": "logits, probabilities, log_probabilities or log_rate",
            "target": "logits, probabilities or log_probabilities",
            "optimum": "the least value",
            "range": "[lowest, highest] value",
            "perfect": "value at a perfect prediction",
            "similar": "the label that means alike",
            "margin": "beyond it pairs cost nothing",
        },
        traits={
            "masked": "takes ignored targets",
            "weighted": "takes class weights",
            "smoothed": "smooths the targets",
            "class_balanced": "classes count equally, not rows",
            "ordered_classes": "classes have an order, or one is special (background, blank)",
            "continuous": "has no jumps",
            "redescending": "the gradient falls for large errors",
            "margin": "is zero beyond a margin",
        },
    ),
    Kind(
        name="penalty",
        form="function",
        call="penalty(parameters)",
        summary="a function of a tensor or a list of tensors",
        returns_tensors=True,
        inputs={"weights": "float n m"},
        options={
            "norm": "1, 2, group, or { l1 = 1, l2 = 2 }",
            "strength": "the factor, or the name of its argument",
            "convention": "full (λ‖w‖²) or half (λ/2 ‖w‖²)",
            "homogeneity": "degree",
            "exclude": "parameters that are left out: bias",
            "minimum": "the least value",
            "prior": "gaussian, laplace or student_t",
            "takes": "tensor, list, module or named_parameters; several inputs are a list",
        },
        gathers=True,
        values={"strength": (), "takes": ("tensor", "list", "module", "named_parameters")},
        named=frozenset({"strength"}),
        numbers=frozenset({"minimum"}),
    ),
    Kind(
        name="proximal",
        form="function",
        call="prox(x, step)",
        summary="the proximal operator of a penalty",
        returns_tensors=True,
        inputs={"x": "float n"},
        options={
            "penalty": "path of the penalty",
            "norm": "1, 2, group, or { l1 = 1, l2 = 2 }",
            "strength": "the factor, or the name of its argument",
            "convention": "full (λ‖w‖²) or half (λ/2 ‖w‖²)",
        },
        further={"step": 0.5},
    ),
    Kind(
        name="dropout",
        form="module",
        call="m(x)",
        summary="a module that drops in train and is the identity in eval",
        returns_tensors=True,
        inputs={"x": "float b n"},
        options={
            "axes": "axes along which a mask is shared, the batch axis being 0; none by default",
            "eps": "what is added to the realized count, or its argument",
            "block": "side, or its argument, of blocks that fall together (DropBlock)",
            "rescale": "train, eval, none, realized or alpha",
            "noise": "bernoulli or gaussian",
        },
        values={
            "rescale": ("train", "eval", "none", "realized", "alpha"),
            "noise": ("bernoulli", "gaussian"),
        },
        implies=frozenset({"stochastic"}),
    ),
)

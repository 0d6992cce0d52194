"""The kinds: the role a subject plays, how it is called, and what may be declared about it.

A third party adds its own kind with an entry point of the group `dlcheck.kinds` that names a
`Kind` record. What an option or a trait means in full stands in `dlcheck list kinds`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dlcheck.model import Kind

COMMON_TRAITS: Mapping[str, str] = {
    "stochastic": "random in train, deterministic in eval",
    "stochastic_in_eval": "random in eval too",
    "batch_coupled": "a row's output may depend on the other rows in train",
    "batch_coupled_in_eval": "a row's output may depend on the other rows in eval too",
    "causal": "the past does not depend on the future",
    "permutation_equivariant": "permuting the input permutes the output",
    "permutation_invariant": "permuting the input leaves the output",
    "translation_equivariant": "shifting the input shifts the output",
    "scale_invariant": "scaling the input leaves the output",
    "shift_invariant": "adding a constant leaves the output",
    "elementwise": "each output element depends on one input element",
    "linear": "f(ax + by) = a f(x) + b f(y)",
    "orthogonal": "keeps inner products",
    "idempotent": "f(f(x)) = f(x)",
    "odd": "f(-x) = -f(x)",
    "even": "f(-x) = f(x)",
    "nonnegative": "the value is at least 0",
    "convex": "the value is a convex function of the input",
    "nonconvex": "the value is not a convex function of the input",
    "symmetric": "exchanging the first two inputs leaves the value",
    "monotone": "does not decrease when the input grows",
    "smooth": "differentiable everywhere",
    "nonsmooth": "has kinks or jumps; one subgradient is returned",
    "twice_differentiable": "the gradient can be differentiated again",
    "once_differentiable": "the gradient cannot be differentiated again",
    "nondifferentiable": "has no gradient",
    "surrogate_gradient": "the backward deliberately differs from the forward's derivative",
    "view": "the output aliases the input",
    "norm_preserving": "rows keep their norm",
    "zero_init": "zero gradients at the start are intended",
    "frozen": "no parameters and no modes",
    "sparse_gradient": "some parameters are unused in a call",
    "updates_buffers": "a forward in train moves buffers",
    "attention_sink": "rows of weights may sum to less than 1",
    "in_place": "overwrites its input, as documented",
    "accepts_empty": "takes empty inputs",
    "validates": "promises to reject bad inputs",
    "optional_parameters": "some registered parameters need not receive a gradient",
}

COMMON_OPTIONS: Mapping[str, str] = {
    "sizes": "bounds of the dims: { n = [1, 17] }",
    "output": 'a postcondition in the input language: "probability b k"',
    "bounds": "[lowest, highest] value of the output",
    "monotone": "true if the output does not decrease when the input grows",
    "stop_gradient": "inputs that deliberately get no gradient",
    "compute_dtype": "internal precision",
    "layouts": "the memory layouts to draw; all by default",
    "rejects": "documented refusals: { n = 1 }",
    "expect": (
        "what the gradient is meant to be: zero, straight_through, reversed, a factor, { clip = c }"
    ),
    "surrogate": "path of the function whose gradient the backward is",
    "mean": "law of a stochastic subject, a formula of the inputs",
    "variance": "law of a stochastic subject, a formula of the inputs",
    "p": "probability, or the name of the constructor argument that holds it",
    "neutral": "arguments at which the subject is the identity",
    "reduces_to": "at these arguments the subject equals that component",
    "paths": "arguments that may change speed only",
    "invariant_to": "arguments without effect",
    "knobs": "ranges of numeric arguments: { eps = [1e-8, 1e-2] }",
    "reference_state": "names of parameters: { theirs = ours }",
    "roles": "which input is the prediction, the target, data",
    "wrt": "inputs that must receive a gradient",
    "tied": 'parameters that are one: [["encoder.weight", "decoder.weight"]]',
    "task_weights": "of a combination of losses: its weights, or the argument that holds them",
    "batch": "the dim of the batch; by default b, batch, batch_size or bs, or n before c",
    "own_kernel": "true if it claims to compute what its reference does without calling that",
    "ecosystem": "tools with which it is meant to work: compile, export, vmap, meta, opcheck, "
    "func_grad, autocast",
    "kernels": "its Triton kernels: { name = { jit = path, signature = {…}, constexprs = {…} } }; "
    "see docs/kernels.md",
}

_SYMMETRIC_AXES = (
    "axes of the first input, or names of its dims, along which it is permuted, shifted or "
    "causal, as its traits say"
)

_STREAMING = {
    "range": '[lowest, highest] value; an end may name a dim, or be "inf"',
    "better": "higher or lower",
    "perfect": "value of a perfect prediction",
    "perfect_where": "nonconstant or has_positives",
    "task": "what is predicted",
    "resets_on_compute": "true if compute() also resets",
    "merge": "method of a stream that takes in another replica: a.merge(b)",
    "merge_takes": "replica or list: what that method is given; a replica by default",
    "sync": "method that brings the states of torch.distributed's ranks together before compute(); "
    "compute where it does so itself",
    "saves_state": "true if state_dict() and load_state_dict() carry on a stream",
    "forward": "what a call of a stream answers: batch (the value of that batch) or running "
    "(of all so far); it also takes the batch in",
}

_STREAMING_VALUES: Mapping[str, tuple[str, ...]] = {
    "better": ("higher", "lower"),
    "merge_takes": ("replica", "list"),
    "forward": ("batch", "running"),
}

# What a score of predictions takes by its task and the form of its prediction; the first form is
# the one where none is declared.
_SCORED: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "classification": {
        "labels": ("label[k] b", "label[k] b"),
        "logits": ("logit b k", "label[k] b"),
        "probabilities": ("probability b k", "label[k] b"),
        "log_probabilities": ("log_probability b k", "label[k] b"),
    },
    "binary": {
        "scores": ("float b", "label[2] b"),
        "labels": ("label[2] b", "label[2] b"),
        "logits": ("logit b", "label[2] b"),
        "probabilities": ("unit b", "label[2] b"),
    },
    "multilabel": {
        "scores": ("float b k", "label[2] b k"),
        "labels": ("label[2] b k", "label[2] b k"),
        "logits": ("logit b k", "label[2] b k"),
        "probabilities": ("unit b k", "label[2] b k"),
    },
    "regression": {"values": ("float b", "float b")},
    "segmentation": {
        "labels": ("label[k] b h w", "label[k] b h w"),
        "logits": ("logit b k h w", "label[k] b h w"),
        "probabilities": ("probability[k] b k h w", "label[k] b h w"),
    },
    "sequence": {
        "logits": ("logit b t k", "label[k] b t"),
        "labels": ("label[k] b t", "label[k] b t"),
        "probabilities": ("probability b t k", "label[k] b t"),
        "log_probabilities": ("log_probability b t k", "label[k] b t"),
    },
    "ranking": {
        "scores": ("float b n", "label[2] b n"),
        "probabilities": ("unit b n", "label[2] b n"),
    },
}

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

_KINDS = (
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
        },
        named=frozenset({"reduction"}),
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
    Kind(
        name="augmentation",
        form="function",
        call="f(images) or f(images, labels)",
        summary="a random change of images, labels moving along; a batch or one image",
        inputs={"images": "image b 3 h w"},
        values={
            "labels": ("kept", "mixed", "moved", "joined"),
            "unit": ("batch", "sample"),
            "label_format": ("ids", "onehot", "pair"),
            "target": ("mask", "boxes", "keypoints", "camera"),
            "geometry": ("horizontal_flip", "vertical_flip", "translation", "rotation", "affine"),
            "boxes": ("xyxy", "xywh", "cxcywh"),
            "coordinates": ("edges", "centres", "unit"),
            "evaluation": ("identity",),
            "enlarges": ("digits",),
        },
        options={
            "labels": "kept, mixed (weighted as their pixels are), moved (as they are) or joined",
            "unit": "batch (one draw for all images of a call) or sample (one for each)",
            "label_format": "of the answer: ids, onehot or pair (y_a, y_b, λ); that of the input "
            "is its element",
            "target": "what moves along with the pixels: mask, boxes, keypoints or camera",
            "probability": "of applying, or its argument",
            "geometry": "how pixels move: horizontal_flip, vertical_flip, translation, rotation "
            "(about the centre) or affine; a translation may also crop",
            "boxes": "xyxy (the default), xywh or cxcywh",
            "coordinates": "of boxes and keypoints: edges (pixel i reaches from i to i + 1), "
            "centres (it lies at i), or unit (edges, in shares of a side); either by default",
            "smoothing": "of labels, ε of (1 − ε) y + ε / k, or its argument",
            "integers": "true if it takes uint8 images too, for the same images",
            "evaluation": "identity, if a module leaves images alone in evaluation",
            "enlarges": "the data set whose labels it keeps and whose test error it lowers: digits",
        },
        traits={
            "own_generator": "draws from a generator that the global seeds do not reach",
            "may_leave_unchanged": "applying may change nothing, as a shift by 0 does: its "
            "probability is an upper bound of what shows",
        },
    ),
    Kind(
        name="initializer",
        form="function",
        call="f(tensor)",
        summary="fills a tensor in place",
        inputs={"tensor": "float out in"},
        options={
            "variance": "of an element: a formula in fan_in, fan_out, gain and the arguments",
            "mean": "of an element: such a formula, or a number; 0 by default",
            "gain": "the factor, or its argument (the one named gain by default)",
            "fan_layout": "out_in (torch): axes out, in, receptive field; or in_out",
            "independent": "false for orthogonal and the like",
        },
    ),
    Kind(
        name="optimizer",
        form="factory",
        call="f(params, **args)",
        summary="a torch.optim.Optimizer",
        values={
            "decay": ("none", "coupled", "decoupled", "independent"),
            "decay_order": ("before", "after"),
            "takes": ("list", "named_parameters", "module"),
        },
        inputs={"weight": "float n m", "bias": "float n"},
        options={
            "decay": "none, coupled, decoupled or independent (of the rate)",
            "decay_order": "before or after",
            "rule": "the recursion: a path or a name",
            "lr": "the name of the step size",
            "first_step": "size of the first step",
            "norms": "where it takes penalties",
            "takes": "list (of parameters), named_parameters or module",
        },
        traits={
            "scale_free": "the step does not depend on the gradient's scale",
            "sign_step": "each element moves by the step size",
            "per_tensor": "splitting a tensor changes it",
            "couples_parameters": "a parameter's step depends on the others' gradients",
            "perturbed_gradient": "asks for the gradient again elsewhere (SAM)",
            "bias_corrected": "with one gradient in every step, all steps are equal",
            "centralizes_gradient": "the mean of each row of a gradient is left out",
            "keeps_gradients": "step() leaves the gradients as they were",
            "decay_matrices_only": "vectors are not decayed",
            "needs_closure": "step(closure)",
            "needs_full_batch": "needs the whole batch",
            "modes": "has train() and eval()",
            "maximizes": "climbs",
        },
    ),
    Kind(
        name="scheduler",
        form="factory",
        call="f(optimizer, **args)",
        summary="a learning-rate schedule",
        values={"step_takes": ("nothing", "metric", "epoch")},
        inputs={"weight": "float n"},
        options={
            "closed_form": "in t, base_lr, the arguments and math",
            "steps": "how many",
            "step_takes": "nothing, metric (a loss), or epoch (how many there were); a metric "
            "where step() must be given something",
        },
    ),
    Kind(
        name="clipping",
        form="function",
        call="clip(parameters, limit)",
        summary="limits gradients or weights in place",
        values={
            "by": ("global_norm", "norm", "unit_norm", "value"),
            "target": ("gradients", "weights"),
        },
        inputs={"weight": "float n m", "bias": "float n"},
        options={
            "by": "global_norm, norm, unit_norm or value",
            "target": "gradients or weights",
            "axes": "of a unit",
            "relative_to_parameters": "the limit is a share of the parameter's norm",
        },
        required=frozenset({"by"}),
    ),
    Kind(
        name="loader",
        form="factory",
        call="f(dataset, batch_size=…, **args)",
        summary="an iterable of batches",
        inputs={"x": "float n d", "y": "label[k] n"},
        options={
            "shuffle": "true, false, buckets or buffer",
            "drop_last": "the argument, or true or false",
            "workers": "the argument that counts workers",
            "persistent": "the argument that keeps workers from one epoch to the next",
            "shards": "{ rank, count }: arguments",
            "padding": "{ value = what fills ragged rows, mask = name of the batch's mask, "
            "lengths = name of the batch's lengths, multiple = widths are multiples of it }",
            "rows": "tuple or dict: what a row of the data set is",
            "seed": "the argument that fixes the order",
        },
        values={"rows": ("tuple", "dict")},
        traits={
            "skips_bad_rows": "leaves out rows that cannot be read",
            "with_replacement": "rows may repeat within an epoch",
            "pads_shards": "ranks are made equal by repeating rows",
            "order_by_worker": "the order depends on the worker count",
            "endless": "an epoch is a number of steps and continues mid-pass",
            "repacks": "a batch row is not a data-set row",
        },
    ),
    Kind(
        name="collate",
        form="function",
        call="f(list of rows)",
        summary="rows → batch",
        inputs={"x": "float n d", "y": "label[k] n"},
        options={
            "padding": "{ value = what fills ragged rows, mask = name of the batch's mask, "
            "lengths = name of the batch's lengths, multiple = widths are multiples of it }",
            "rows": "tuple or dict: what a row is",
        },
        values={"rows": ("tuple", "dict")},
        traits={"repacks": "a batch row is not a data-set row"},
    ),
    Kind(
        name="split",
        form="function",
        call="f(n_or_rows, labels=None, groups=None) or an object's split(rows, labels, groups)",
        summary="pairs (train, test) or triples (train, validation, test) of index arrays",
        methods=("split",),
        inputs={"rows": "float n d", "labels": "label[k] n", "groups": "label[g] n"},
        options={
            "folds": "how many, or its argument; 1 is a holdout; rows or groups: one for each",
            "repeats": "how many times all rows are split anew, or its argument",
            "gap": "rows left out between train and a later test, or its argument; [before, after] "
            "a test where train is on both sides",
            "stratified": "true if the classes keep their proportions",
            "grouped": "true if groups are never split",
            "shuffle": "true if the rows are shuffled: each as likely in every part",
            "seed": "the argument that fixes the split",
            "shares": "of the rows in train, validation and test: [0.8, 0.2]",
            "takes": "what comes first: n (a number), rows (a table) or indices (0…n − 1, which "
            "come back in parts); n by default, rows of an object",
            "arrays": "numpy, torch or list: of what labels, groups and rows are made",
            "labels": "the argument of the labels, where they do not come second",
            "groups": "the argument of the groups, where they do not come third",
            "label_format": "ids or onehot",
        },
        traits={
            "ordered": "train before test",
            "with_replacement": "rows may repeat in train; the test holds those not drawn",
            "overlapping": "folds are drawn anew: a row may be tested in several or in none",
            "partial": "some rows may be in no part of a fold",
            "approximately_stratified": "the classes' counts are near their proportions only",
        },
        values={
            "folds": ("rows", "groups"),
            "repeats": (),
            "gap": (),
            "takes": ("n", "rows", "indices"),
            "arrays": ("numpy", "torch", "list"),
            "label_format": ("ids", "onehot"),
        },
        named=frozenset({"folds", "repeats", "gap"}),
    ),
    Kind(
        name="transform",
        form="function",
        call="f(train, test) or an object's fit(train) and transform(rows)",
        summary="a preprocessing step: (train, test) → (train, test)",
        methods=("fit", "transform"),
        inputs={"train": "float n d", "test": "float m d"},
        options={
            "arrays": "numpy, torch or list: of what the rows are made; tensors by default, "
            "numpy for an object",
            "ddof": "delta degrees of freedom of the deviation that becomes 1; 0 or 1",
        },
        traits={
            "fits_on_train": "statistics come from train only",
            "standardizes": "columns become (x − μ)/σ, by the mean and deviation of train",
            "row_by_row": "a row of train goes the way in which the same row of test goes",
        },
        values={"arrays": ("numpy", "torch", "list")},
    ),
    Kind(
        name="training",
        form="function",
        call="train(model, loader, optimizer, loss, *, accumulate=1, epochs=1)",
        summary="a training loop",
        inputs={"x": "float n d", "y": "label[k] n"},
        options={
            "model": "path of the model factory",
            "loss": "path of the loss",
            "epochs": "the argument that counts epochs; epochs by default",
            "accumulate": "the argument that counts the batches of a window; accumulate by default",
            "window": "what a window averages over: rows (by default), batches (each batch alike) "
            "or full (each batch 1/accumulate, the incomplete last window too)",
            "ignore_index": "the label that is not counted",
            "clip": "the argument that limits the global norm of the gradient",
            "scheduler": "step or epoch: how often the argument scheduler is stepped",
            "validation": "the argument of the validation loader",
            "resume": "the argument of the checkpoint's path, where training is saved and from "
            "where it goes on, to the same total of epochs; { path, random = true } also "
            "restores the random streams",
            "average_decay": "the argument of the decay of an exponential moving average",
        },
        values={"scheduler": ("step", "epoch"), "window": ("rows", "batches", "full")},
        traits={
            "micro_batches": "takes a batch in pieces, to save memory",
            "restores_best": "ends with the best weights",
            "skips_nonfinite": "drops a bad batch",
            "freezes": "trains some parameters only",
            "replaces_head": "gives the model a new head",
            "no_batch_statistics": "no BatchNorm",
            "perturbed_gradient": "SAM and the like",
            "reduced_precision": "autocast",
            "returns_average": "returns an averaged model",
            "sets_epoch": "tells a sampler that has set_epoch the number of the epoch",
            "synchronizes": "makes the gradients of the ranks agree by itself; else the model "
            "comes wrapped in DistributedDataParallel",
            "plain_sequential": "takes only a Sequential of Linear, Tanh and ReLU, with "
            "cross-entropy or squared error and SGD",
        },
    ),
    Kind(
        name="evaluation",
        form="function",
        call="evaluate(model, loader)",
        summary="a number for a model on data",
        inputs={"x": "float n d", "y": "label[k] n"},
        options={
            "metric": "accuracy, error_rate, mean_loss (cross-entropy, or the squared error of "
            "values), sum_loss, or a path: f(predictions, targets) → float",
            "model": "path of the model factory",
        },
        traits={"fits": "trains clones", "folds": "evaluates folds"},
    ),
    Kind(
        name="cross_validation",
        form="function",
        call="f(build, rows, folds)",
        summary="scores of folds; rows is (x, y), build() has fit(x, y), predict(x), score(x, y)",
        inputs={"x": "float n d"},
        options={
            "folds": "pairs (index arrays are passed) or count (a number is); pairs by default",
            "returns": "scores (one a fold), mean (of the folds) or weighted_mean (of the rows)",
            "candidates": "argument of the list among which it chooses for every outer fold: "
            "build(candidate)",
            "arrays": "numpy or torch: of what rows are made",
        },
        values={
            "folds": ("pairs", "count"),
            "returns": ("scores", "mean", "weighted_mean"),
            "arrays": ("numpy", "torch"),
        },
    ),
    Kind(
        name="prediction_metric",
        form="function",
        call="f(prediction, target)",
        summary="a score of predictions; a function or update/compute/reset",
        by_task={
            task: dict(zip(("prediction", "target"), next(iter(forms.values())), strict=True))
            for task, forms in _SCORED.items()
        },
        options={
            **_STREAMING,
            "perfect_where": "where a perfect prediction scores `perfect`: nonconstant (targets "
            "that differ), has_positives, or all_classes; everywhere by default",
            "prediction": "labels, logits, probabilities, log_probabilities, scores or values: "
            "what the prediction is",
            "target_first": "true where it is called f(target, prediction), as scikit-learn's are",
            "reference_target_first": "the same of the reference; where its first parameter is "
            "named y_true it is known",
            "arrays": "torch or numpy: of what it is given; torch by default",
            "average": "how classes become one number, or its argument: macro, micro, weighted, "
            "binary, none",
            "renaming": "true if renaming the classes changes nothing, where no average says so",
            "absent_classes": "what a class counts that neither side names: ignored, zero, one, "
            "or nan (then the value may be NaN)",
            "uninformed": "value of a prediction that is the same for every row: 0 for R², 0.5 "
            "for an area under the ROC curve",
            "ignore_index": "targets of this label do not count; the label or its argument",
            "ddof": "delta degrees of freedom, or its argument: the value is a sum over n - ddof",
        },
        traits={
            "monotone_invariant": "a monotone map of the prediction leaves it",
            "size_invariant": "repeating every row leaves it: a mean or a ratio, no count",
            "improves_with_each_row": "moving one prediction to its target never worsens it",
            "reverses": "negating the prediction mirrors the value in its range, as of a "
            "correlation or an area under the ROC curve",
            "ordered": "the order of the rows matters, as of a time series",
            "orders_ties": "rows of equal scores are taken in the order given",
        },
        values={
            **_STREAMING_VALUES,
            "perfect_where": ("nonconstant", "has_positives", "all_classes"),
            "prediction": (
                "labels",
                "logits",
                "probabilities",
                "log_probabilities",
                "scores",
                "values",
            ),
            "arrays": ("torch", "numpy"),
            "average": ("macro", "micro", "weighted", "binary", "none"),
            "absent_classes": ("ignored", "zero", "one", "nan"),
        },
        named=frozenset({"average"}),
    ),
    Kind(
        name="score_metric",
        form="function",
        call="f(probabilities)",
        summary="a score of class probabilities (Inception Score)",
        inputs={"probabilities": "probability n k"},
        options={
            **_STREAMING,
            "splits": "number of splits, or its argument",
            "prediction": "what it takes: probabilities (by default), log_probabilities or logits",
            "arrays": "torch or numpy: of what it is given; torch by default",
        },
        values={
            **_STREAMING_VALUES,
            "prediction": ("probabilities", "log_probabilities", "logits"),
            "arrays": ("torch", "numpy"),
        },
        traits={"positive_only": "takes the logarithm of p by the letter: no p is exactly 0"},
    ),
    Kind(
        name="distribution_metric",
        form="function",
        call="f(features_a, features_b)",
        summary="a distance of two sets of features (FID, KID)",
        inputs={"a": "float n d", "b": "float m d"},
        options={
            **_STREAMING,
            "estimator": "biased or unbiased, or its argument; with it the metric is a kernel "
            "distance (KID)",
            "degree": "of a kernel (gamma xᵀy + coef0)^degree, or its argument; 3 by default",
            "gamma": "of that kernel, or its argument; 1/d by default, and where it is None",
            "coef0": "of that kernel, or its argument; 1 by default",
            "ddof": "delta degrees of freedom of the covariance, or its argument; 1 by default",
            "arrays": "numpy or torch: of what the sets are made; tensors by default",
        },
        traits={
            "other_distance": "neither a Fréchet nor a kernel distance: has no law of theirs",
            "motion_invariant": "a common rotation and shift of both sets leaves it",
        },
        values={
            **_STREAMING_VALUES,
            "estimator": ("biased", "unbiased"),
            "arrays": ("numpy", "torch"),
        },
        named=frozenset({"estimator"}),
    ),
    Kind(
        name="image_metric",
        form="function",
        call="f(x, y)",
        summary="per pair or scalar (LPIPS, SSIM, PSNR, FSIM)",
        inputs={"x": "image b 3 h w", "y": "image b 3 h w"},
        options={
            **_STREAMING,
            "data_range": "the argument of that name, or the number that it stands at",
            "interval": "[lowest, highest] value that images hold",
            "reduction": "none or mean",
            "formula": "psnr, ssim or ms_ssim: the published definition that it computes",
            "window": "of ssim: { size = 11, deviation = 1.5, padding = none }; without deviation "
            "uniform; padding is reflect, replicate or constant",
            "distorted": "the input that is the distorted image; the last by default",
            "ddof": "of ssim: delta degrees of freedom of its moments, 0 or 1; 0 by default",
            "constants": "of ssim: [K1, K2], by default [0.01, 0.03]",
            "distortions": "those of noise, blur, jpeg, contrast that worsen it; all but the last",
            "beside": "import paths of registered metrics to show in the same figures",
            "bapps": "folder of a copy of the BAPPS set (2afc/val): human judgements",
        },
        traits={
            "mirror_invariant": "mirroring both images leaves the value",
            "transpose_invariant": "exchanging rows and columns of both images leaves the value",
            "grey_is_colour": "takes 1 channel too, which counts as three equal ones",
            "flat_at_identity": "the gradient exists, and is 0, where the images are equal",
        },
        values={**_STREAMING_VALUES, "formula": ("psnr", "ssim", "ms_ssim")},
    ),
)

# What a score of class predictions takes where it is not probabilities.
_CLASS_PREDICTIONS: Mapping[str, Mapping[str, str]] = {
    "log_probabilities": {"log_probabilities": "log_probability n k"},
    "logits": {"logits": "logit n k"},
}

BUILT_IN: Mapping[str, Kind] = {kind.name: kind for kind in _KINDS}
# What a check may name in place of a list of kinds.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "tensors": tuple(kind.name for kind in _KINDS if kind.returns_tensors),
}


def spelled_out(names: Iterable[str]) -> tuple[str, ...]:
    """Names of kinds with every group replaced by its members."""
    return tuple(dict.fromkeys(member for name in names for member in GROUPS.get(name, (name,))))


def options_of(kind: Kind) -> dict[str, str]:
    """Every option that a subject of this kind may declare, with its meaning."""
    return {**COMMON_OPTIONS, **kind.options}


def traits_of(kind: Kind) -> dict[str, str]:
    """Every trait that a subject of this kind may declare, with its meaning."""
    return {**COMMON_TRAITS, **kind.traits}


def inputs_of(
    kind: Kind, declared: Mapping[str, str], options: Mapping[str, object]
) -> Mapping[str, str]:
    """What is declared, else what the task says, else what the kind says."""
    if declared:
        return declared
    task = options.get("task")
    if isinstance(task, str) and task in _SCORED and kind.name == "prediction_metric":
        return _of_score(_SCORED[task], options)
    if isinstance(task, str) and task in kind.by_task:
        return {name: _in_form(name, text, options) for name, text in kind.by_task[task].items()}
    if kind.name == "score_metric":
        return _CLASS_PREDICTIONS.get(str(options.get("prediction")), kind.inputs)
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

"""What sets, steps and limits weights: initializers, optimizers, schedules, clipping."""

from __future__ import annotations

from dlcheck.model import Kind

KINDS = (
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
)

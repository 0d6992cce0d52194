"""What may be declared about a subject of any kind."""

from __future__ import annotations

from collections.abc import Mapping

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

INFINITE = ("inf", "-inf")  # what a number may be as text: JSON has no other way to say it

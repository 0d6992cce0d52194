"""What calls a model again and again: training, evaluation, cross-validation."""

from __future__ import annotations

from dlcheck.model import Kind

KINDS = (
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
)

"""What brings data to a model: augmentations, loaders, splits, transforms."""

from __future__ import annotations

from dlcheck.model import Kind

KINDS = (
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
)

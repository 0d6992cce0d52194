"""`dlcheck metric NAME A [B]`: a metric between two folders of images or two files of features."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlcheck.cli import Parser
from dlcheck.errors import UsageError

if TYPE_CHECKING:
    from dlcheck.scoring.table import Entry

_EVERY = 2.0  # seconds between two lines of progress
_FORMS = ("probabilities", "log_probabilities", "logits")


def parser() -> Parser:
    made = Parser(
        prog="dlcheck metric",
        description="Compute a metric by dlcheck's reference: FID, KID and precision/recall of two "
        "sets, IS of one, PSNR, SSIM, MS-SSIM, FSIM and LPIPS of pairs matched by name.",
        epilog="A and B are folders of images, or files of features [n, d] (.npy, .npz, .pt; "
        "pytorch-fid's statistics too). A is the real set. Example: dlcheck metric fid real/ "
        "generated/ --weights pt_inception-2015-12-05-6726825d.pth. Nothing is downloaded. Exit "
        "codes: 0 computed, 1 the network raised, 4 a mistake in the call or the input.",
    )
    add = made.add_argument
    add("metric", nargs="?", metavar="NAME", help="see --list")
    add("inputs", nargs="*", metavar="PATH", help="A and B; A alone for is")
    add("--list", action="store_true", help="which metrics there are, and what each takes")
    add("--features", help="inception (default), digits (to try out), or "
        "package.module:network, which takes images [b, 3, h, w] in [0, 1]")  # fmt: skip
    add("--weights", metavar="FILE", help="state dict of torchvision's inception_v3 or "
        "pytorch-fid's pt_inception; for lpips a backbone's (default: torch's cache)")  # fmt: skip
    add("--net", help="backbone of lpips: alex (default), vgg or squeeze")
    add("--size", type=int, metavar="N", help="resize to N × N for a network of your own")
    add("--resize", default="bicubic", metavar="FILTER", help="bicubic (default, as clean-fid) or "
        "bilinear; both antialiased")  # fmt: skip
    add("--alpha", default="refuse", help="refuse (default) images with an alpha channel, or drop "
        "the channel")  # fmt: skip
    add("--skip-unreadable", action="store_true", help="leave out images that cannot be read")
    add("--splits", type=int, help="of is; 10 unless told")
    add("--prediction", help=f"what a file for is holds: {', '.join(_FORMS)}")
    add("--seed", type=int, default=0, help="of shuffles")
    add("--batch-size", type=int, metavar="N", help="images at once (default: by free memory)")
    add("--device", default="auto", help="cpu, cuda, cuda:1, … (default: a GPU if there is one)")
    add("--save-features", nargs="+", default=[], metavar="FILE", help="keep the features, one "
        ".npy, .npz or .pt file for each folder")  # fmt: skip
    add("--json", action="store_true", help="print the score as JSON, with every pair's value")
    add("--quiet", "-q", action="store_true", help="no progress on standard error")
    return made


def main(arguments: Sequence[str]) -> int:
    """Compute a metric and print it; returns the exit code."""
    given = parser().parse_intermixed_args(arguments)
    if given.list:
        print(_listed())
        return 0
    _check(given)
    from dlcheck.errors import SubjectError
    from dlcheck.raised import told
    from dlcheck.scoring.compute import compute

    try:
        score = compute(_request(given), _silent if given.quiet else progress())
    except SubjectError as error:
        print(f"{given.features or 'inception'} could not be used: {told(error)}", file=sys.stderr)
        return 1
    print(score.to_json() if given.json else score)
    return 0


def _check(given: Any) -> None:
    from dlcheck.errors import unknown
    from dlcheck.scoring.table import TABLE

    if given.metric is None:
        raise UsageError("which metric? See: dlcheck metric --list")
    if given.metric not in TABLE:
        raise UsageError(unknown("metric", given.metric, TABLE, see="dlcheck metric --list"))
    for option, value, known in (
        ("--resize", given.resize, ("bicubic", "bilinear")),
        ("--alpha", given.alpha, ("refuse", "drop")),
        ("--prediction", given.prediction, (None, *_FORMS)),
        ("--net", given.net, (None, "alex", "vgg", "squeeze")),
    ):
        if value not in known:
            raise UsageError(f"{option} is {', '.join(k for k in known if k)}, not {value!r}")
    for option, value in (
        ("--splits", given.splits),
        ("--batch-size", given.batch_size),
        ("--size", given.size),
    ):
        if value is not None and value < 1:
            raise UsageError(f"{option} is at least 1, not {value}")
    _hold_to_metric(given, TABLE[given.metric])


def _hold_to_metric(given: Any, entry: Entry) -> None:
    """What means nothing for this metric must not pass unnoticed."""
    of_sets = entry.takes != "pairs", "metrics of sets, as fid"
    of_classes = entry.takes == "classes", "is"
    for option, value, (applies, whose) in (
        ("--features", given.features, of_sets),
        ("--size", given.size, of_sets),
        ("--save-features", given.save_features, of_sets),
        ("--splits", given.splits, of_classes),
        ("--prediction", given.prediction, of_classes),
        ("--net", given.net, (entry.is_network, "lpips")),
    ):
        if value and not applies:
            raise UsageError(f"{option} is for {whose}, and does nothing for {given.metric}")
    saved = [Path(name).resolve() for name in given.save_features]
    if len(set(saved)) < len(saved):
        raise UsageError("--save-features names one file twice: give each folder its own")


def _request(given: Any) -> Any:
    from dlcheck.errors import DeviceUnavailable
    from dlcheck.runner import usable_device
    from dlcheck.scoring.pictures import Decoding
    from dlcheck.scoring.request import Request
    from dlcheck.validation import found_device

    try:
        device = str(usable_device(found_device(given.device)))
    except DeviceUnavailable as error:
        raise UsageError(str(error)) from None
    except RuntimeError:
        raise UsageError(f"--device is cpu, cuda or cuda:1, not {given.device!r}") from None
    return Request(
        metric=given.metric,
        inputs=tuple(given.inputs),
        features=given.features,
        weights=given.weights,
        size=given.size,
        batch_size=given.batch_size,
        device=device,
        splits=given.splits or 10,
        seed=given.seed,
        prediction=given.prediction,
        net=given.net or "alex",
        decoding=Decoding(
            alpha=given.alpha, filter=given.resize, skip_unreadable=given.skip_unreadable
        ),
        save=tuple(given.save_features),
    )


def _listed() -> str:
    from dlcheck.scoring.table import TABLE, TAKEN

    width = max(map(len, TABLE))
    rows = [f"{name:<{width}}  {entry.summary}\n{'':<{width}}  of {TAKEN[entry.takes]}"
            for name, entry in TABLE.items()]  # fmt: skip
    return "\n".join(rows)


def _silent(done: int, total: int, what: str) -> None:
    pass


def progress() -> Callable[[int, int, str], None]:
    """Lines on standard error, at most one every two seconds, and the last of a longer task."""
    last, told = time.monotonic(), ""

    def tell(done: int, total: int, what: str) -> None:
        nonlocal last, told
        now = time.monotonic()
        if now - last >= _EVERY or (done == total and told == what):
            print(f"… {done} of {total} {what}", file=sys.stderr, flush=True)
            last, told = now, what

    return tell

"""`dlcheck metric`: values of folders and files, and one clear error for each bad input."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from dlcheck.cli import main
from dlcheck.features import digits_study
from dlcheck.references.metrics.frechet_distance import frechet_distance
from dlcheck.references.metrics.inception_score import inception_score
from dlcheck.scoring.inception import Inception
from dlcheck.scoring.pictures import Decoding, decoded
from dlcheck.scoring.values import bias_of_frechet_distance

Run = Callable[..., Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """`run("fid", …)` in an empty folder → the score as JSON, or (exit code, message)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))

    def call(*arguments: str) -> Any:
        try:
            code = main(["metric", *arguments, "--json", "--quiet", "--device", "cpu"])
        except SystemExit as stopped:
            code = stopped.code
        said = capsys.readouterr()
        return json.loads(said.out) if code == 0 else (code, said.err)

    return call


def needs(module: str) -> None:
    """The row of the table stands where its reference is in this installation."""
    pytest.importorskip(f"dlcheck.references.metrics.{module}", reason="not in this installation")


def refused(answer: Any) -> str:
    """The one message of a mistake in the input."""
    code, message = answer
    assert code == 4, message
    assert message.startswith("dlcheck metric: ")
    assert "Traceback" not in message
    return str(message)


def pixels(seed: int, height: int = 40, width: int = 48) -> np.ndarray:
    smooth = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(smooth).resize((width, height)))


def folder(name: str, count: int = 4, seed: int = 0, **size: int) -> Path:
    """Images `0.png` … below the current folder."""
    made = Path(name)
    made.mkdir()
    for i in range(count):
        Image.fromarray(pixels(seed + i, **size)).save(made / f"{i}.png")
    return made


def rows(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


# --- files of features ----------------------------------------------------------------------------


def test_fid_of_files_is_the_references(run: Run) -> None:
    a, b = rows(50, 6), rows(40, 6, 1)
    np.save("a.npy", a)
    np.savez("b.npz", features=b, labels=np.arange(40))
    score = run("fid", "a.npy", "b.npz")
    expected = float(frechet_distance(torch.tensor(a), torch.tensor(b)))
    assert score["value"] == pytest.approx(expected, rel=1e-12)
    assert score["n"] == [50, 40]
    assert score["dtype"] == "float64"
    assert score["seconds"] > 0
    torch.save({"features": torch.tensor(b).float()}, "b.pt")
    assert run("fid", "a.npy", "b.pt")["value"] == pytest.approx(expected, rel=1e-5)


def test_few_rows_bring_a_note_on_the_bias(run: Run) -> None:
    np.save("a.npy", rows(20, 6))
    np.save("b.npy", rows(400, 6, 1))
    assert "equal size" in run("fid", "a.npy", "b.npy")["notes"][0]
    assert run("fid", "b.npy", "b.npy")["notes"] == []
    np.save("far.npy", rows(400, 6) + 9)
    assert run("fid", "far.npy", "b.npy")["notes"] == []


def test_the_bias_of_a_distance_is_what_samples_of_one_law_come_to() -> None:
    spread = torch.tensor([3.0, 1.0, 0.5, 0.1, 0.1], dtype=torch.float64)
    found, expected = [], []
    for seed in range(60):
        a, b = (torch.tensor(rows(n, 5, 2 * seed + k)) * spread for k, n in enumerate((300, 150)))
        found.append(float(frechet_distance(a, b)))
        expected.append(bias_of_frechet_distance(a, b))
    # The mean of 60 distances, of whose standard errors five are allowed.
    error = 5 * statistics.stdev(found) / len(found) ** 0.5
    assert abs(statistics.fmean(found) - statistics.fmean(expected)) < error


def test_is_of_a_file_has_splits_and_the_whole(run: Run) -> None:
    p = np.random.default_rng(0).dirichlet(np.ones(5), 33)
    np.save("p.npy", p)
    score, expected = run("is", "p.npy", "--splits", "3"), inception_score(torch.tensor(p), 3)
    assert score["value"] == pytest.approx(float(expected.mean), rel=1e-12)
    assert score["values"]["deviation"] == pytest.approx(float(expected.deviation), rel=1e-12)
    assert score["values"]["whole"] == pytest.approx(float(expected.whole), rel=1e-12)
    np.save("z.npy", np.log(p) + 3)
    as_logits = run("is", "z.npy", "--prediction", "logits", "--splits", "3")
    assert as_logits["value"] == pytest.approx(score["value"], rel=1e-12)
    assert "at most 33 splits" in run("is", "p.npy", "--splits", "50")["notes"][1]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((3, 2), np.nan), "3 of 3 rows hold NaN or infinity, the first is row 0"),
        (np.ones((3, 2, 2)), r"features are rows \[n, d\]"),
        (np.ones((0, 2)), r"holds \[0, 2\]"),
        (np.array([["a"]]), "no real numbers"),
        (np.ones((3, 2), dtype=np.complex64), "no real numbers"),
        (np.array([["a"]], dtype=object), "b.npy cannot be read .* numpy.save of an array"),
        (1e160 * rows(9, 2), "fid comes to .*too large"),
    ],
)
def test_bad_features_are_refused(run: Run, values: np.ndarray, message: str) -> None:
    np.save("a.npy", rows(5, 2))
    np.save("b.npy", values)
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(refused(run("fid", "a.npy", "b.npy")))


def test_features_that_do_not_fit_each_other_are_refused(run: Run) -> None:
    needs("kernel_distance")
    np.save("a.npy", rows(5, 2))
    np.save("wide.npy", rows(5, 3))
    np.save("one.npy", rows(1, 2))
    Path("broken.npy").write_bytes(Path("a.npy").read_bytes()[:90])
    Path("no.pt").write_bytes(b"text")
    torch.save(torch.nn.Linear(2, 2), "module.pt")
    np.savez("two.npz", x=rows(2, 2), y=rows(2, 2))
    for other, words in (
        ("wide.npy", ("a.npy has 2 and wide.npy has 3 features",)),
        ("one.npy", ("1",)),
        ("broken.npy", ("broken.npy cannot be read",)),
        ("no.pt", ("no.pt",)),
        ("module.pt", ("module.pt",)),
        ("two.npz", ("holds 2 arrays (x, y)",)),
        ("absent.npy", ("absent.npy does not exist",)),
        ("nowhere", ("nowhere does not exist",)),
    ):
        message = refused(run("fid", "a.npy", other))
        assert all(word in message for word in words), message


def test_statistics_of_a_file_stand_for_its_rows(run: Run) -> None:
    needs("manifold")
    a, b = rows(50, 6), rows(40, 6, 1)
    np.save("a.npy", a)
    np.savez("b.npz", mu=b.mean(0), sigma=np.cov(b, rowvar=False))
    score = run("fid", "a.npy", "b.npz")
    expected = float(frechet_distance(torch.tensor(a), torch.tensor(b)))
    assert score["value"] == pytest.approx(expected, rel=1e-9)
    assert score["n"] == [50, None]
    assert "moments alone" in refused(run("precision-recall", "a.npy", "b.npz"))


def test_kid_and_whole_numbers_of_files(run: Run) -> None:
    needs("kernel_distance")
    np.save("a.npy", rows(50, 6))
    np.save("b.npy", (10 * rows(40, 6, 1)).astype(np.int16))
    assert run("kid", "a.npy", "a.npy")["value"] < 0
    assert run("fid", "a.npy", "b.npy")["value"] > 100
    assert "hold features already" in refused(run("fid", "a.npy", "a.npy", "--size", "9"))


def test_dtypes_that_torch_lacks_are_taken(run: Run) -> None:
    np.save("a.npy", rows(50, 2))
    for dtype, at in ((np.longdouble, 0), (np.uint64, 2**63), (">f4", 0)):
        made = (np.arange(50).reshape(25, 2) % 7).astype(dtype)
        np.save("b.npy", made + np.asarray(at, dtype))
        np.save("c.npy", made.astype(np.float64) + float(at))
        value = run("fid", "a.npy", "b.npy")["value"]
        assert value == pytest.approx(run("fid", "a.npy", "c.npy")["value"], rel=1e-6)


def test_values_beyond_float64_and_sparse_tensors_are_refused(run: Run) -> None:
    needs("kernel_distance")
    np.save("a.npy", rows(9, 2))
    np.save("b.npy", 1e160 * rows(9, 2))
    assert "kid comes to" in refused(run("kid", "a.npy", "b.npy"))
    assert "fid comes to" in refused(run("fid", "b.npy", "b.npy"))
    np.save("c.npy", 1e78 * rows(9, 2))
    assert run("fid", "a.npy", "c.npy")["value"] > 1e150
    torch.save(torch.eye(2).to_sparse(), "sparse.pt")
    assert "to_dense" in refused(run("fid", "a.npy", "sparse.pt"))
    torch.save(torch.ones(9, 2, device="meta"), "meta.pt")
    assert "with values" in refused(run("fid", "a.npy", "meta.pt"))
    torch.save(torch.tensor(rows(9, 2)).to(torch.float8_e4m3fn), "byte.pt")
    assert run("fid", "a.npy", "byte.pt")["value"] < 0.1
    Path("junk.pt").write_text("junk")
    message = refused(run("fid", "a.npy", "junk.pt"))
    assert "torch.save of a tensor" in message
    assert "unsafe" not in message


def test_classes_that_are_no_probabilities_are_refused(run: Run) -> None:
    np.save("z.npy", rows(5, 3))
    assert "--prediction logits" in refused(run("is", "z.npy"))
    assert "takes one folder" in refused(run("is", "z.npy", "z.npy"))
    assert "takes two folders" in refused(run("fid", "z.npy"))


# --- folders of images ----------------------------------------------------------------------------


def test_features_of_folders_are_kept_and_used_again(run: Run) -> None:
    folder("a", 5)
    folder("b", 6, seed=9, height=64)
    score = run("fid", "a", "b", "--features", "digits", "--save-features", "a.npz", "b.pt")
    assert run("fid", "a.npz", "b.pt")["value"] == pytest.approx(score["value"], rel=1e-12)
    again = run("fid", "a.npz", "b", "--features", "digits", "--batch-size", "4")
    # Batches of another size round another way in float32.
    assert again["value"] == pytest.approx(score["value"], rel=1e-4)
    assert "8 × 8" in score["resize"]
    assert "8 pixels" in refused(run("fid", "a", "b", "--features", "digits", "--size", "20"))
    study = digits_study(0)
    images = [decoded(Path(f"a/{i}.png"), Decoding(size=(8, 8))) for i in range(5)]
    own = study.features(torch.stack(images).mean(1, keepdim=True))
    with np.load("a.npz") as kept:
        np.testing.assert_allclose(kept["features"], own, rtol=1e-5, atol=1e-6)


def test_a_network_of_ones_own_gives_the_features(run: Run) -> None:
    folder("a", 4)
    folder("b", 4, seed=9)
    Path("network.py").write_text("def means(images):\n    return images.mean((2, 3))\n", "utf-8")
    values = [
        torch.stack([torch.tensor(pixels(i + s)).double().mean((0, 1)) / 255 for i in range(4)])
        for s in (0, 9)
    ]
    expected = float(frechet_distance(*values))
    found = run("fid", "a", "b", "--features", "network.py:means")["value"]
    assert found == pytest.approx(expected, rel=1e-4)
    Path("raising.py").write_text("def raises(images):\n    raise RuntimeError('boo')\n", "utf-8")
    code, message = run("fid", "a", "b", "--features", "raising.py:raises")
    assert code == 1
    assert "boo" in message


_HUNGRY = """
import torch


def hungry(images):
    if len(images) > 2:
        raise torch.OutOfMemoryError("too many")
    return images.mean((2, 3))


def starving(images):
    if len(images) > 1 or images.mean() > 0.5:
        raise torch.OutOfMemoryError("too many")
    return images.mean((2, 3))
"""


def test_a_batch_that_does_not_fit_is_halved(run: Run) -> None:
    folder("a", 7)
    folder("b", 7, seed=9)
    Path("hungry.py").write_text(_HUNGRY, "utf-8")
    own = ("fid", "a", "b", "--features", "hungry.py:hungry")
    halved, fitting = (run(*own, "--batch-size", size)["value"] for size in ("7", "1"))
    assert halved == pytest.approx(fitting, rel=1e-9)
    starving = run("fid", "a", "b", "--features", "hungry.py:starving")
    assert "does not fit into the memory" in refused(starving)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """torchvision's Inception v3 with random weights of half precision, as a state dict."""
    torch.manual_seed(0)
    network = torchvision.models.Inception3(aux_logits=False, init_weights=False)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.half().state_dict(), path)
    return path


def test_inception_takes_weights_from_a_file(run: Run, weights: Path) -> None:
    folder("a", 2)
    score = run("is", "a", "--weights", str(weights), "--save-features", "logits.npz")
    assert "torchvision's network" in score["weights"]
    with np.load("logits.npz") as kept:
        logits = kept["logits"]
    state = torch.load(weights, weights_only=True)
    own = torchvision.models.Inception3(aux_logits=False, init_weights=False).eval()
    own.load_state_dict(state)
    images = torch.stack([decoded(Path(f"a/{i}.png"), Decoding(size=(299, 299))) for i in (0, 1)])
    with torch.no_grad():
        expected = own(2 * images - 1)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    assert run("is", "logits.npz")["value"] == pytest.approx(score["value"], rel=1e-12)


def test_the_port_pools_otherwise(weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    plain = Inception(state, weights)
    classes = {name: torch.zeros(1008, *state[name].shape[1:]) for name in ("fc.weight", "fc.bias")}
    port = Inception({**state, **classes}, weights)
    assert port.is_port
    assert not plain.is_port
    images = torch.rand(1, 3, 299, 299, generator=torch.Generator().manual_seed(0))
    block = port.network.Mixed_7c
    given: list[torch.Tensor] = []
    block.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    block.register_forward_hook(lambda _, __, output: given.append(output))
    with torch.no_grad():
        assert not torch.allclose(port(images)[0], plain(images)[0], rtol=1e-2)
        pooled = plain.network.Mixed_7c.branch_pool(
            torch.nn.functional.max_pool2d(given[0], 3, 1, 1)
        )
    assert torch.allclose(given[1][:, -192:], pooled, rtol=1e-5, atol=1e-5)


def test_bad_weights_are_refused(run: Run, weights: Path) -> None:
    folder("a", 2)
    assert "nothing is downloaded" in refused(run("is", "a"))
    assert "no file of weights" in refused(run("is", "a", "--weights", "absent.pth"))
    Path("cut.pth").write_bytes(weights.read_bytes()[:100_000])
    assert "may be truncated" in refused(run("is", "a", "--weights", "cut.pth"))
    torch.save(torchvision.models.squeezenet1_1().state_dict(), "other.pth")
    assert "holds no weights of Inception v3" in refused(run("is", "a", "--weights", "other.pth"))
    torch.save([1, 2], "list.pth")
    assert "no state dict" in refused(run("is", "a", "--weights", "list.pth"))
    assert "inception, digits, or" in refused(run("is", "a", "--features", "resnet"))


def test_an_unreadable_image_is_named_and_counted(run: Run) -> None:
    folder("a", 4)
    Path("a/1.png").write_bytes(Path("a/1.png").read_bytes()[:200])
    Path("a/2.png").write_text("no image", "utf-8")
    Path("a/notes.txt").write_text("left alone", "utf-8")
    digits = ("--features", "digits", "--splits", "1")
    message = refused(run("is", "a", *digits))
    assert "2 images of a cannot be read: 1.png: " in message
    assert "--skip-unreadable" in message
    score = run("is", "a", *digits, "--skip-unreadable")
    assert score["n"] == [2]
    assert "left out: 2 images" in score["notes"][0]
    for path in Path("a").glob("*.png"):
        path.write_text("no image", "utf-8")
    assert "none of the 4" in refused(run("is", "a", *digits, "--skip-unreadable"))


def test_alpha_is_refused_or_dropped_and_grey_is_told(run: Run) -> None:
    folder("a", 3)
    with Image.open("a/1.png") as image:
        image.convert("RGBA").save("a/1.png")
    with Image.open("a/2.png") as image:
        image.convert("L").save("a/2.png")
    digits = ("--features", "digits")
    assert "1 image of a with an alpha channel, as 1.png" in refused(run("is", "a", *digits))
    notes = run("is", "a", *digits, "--alpha", "drop")["notes"]
    assert any("ignored" in note for note in notes)
    assert any("1 grey image" in note for note in notes)


def test_more_than_eight_bits_and_empty_folders_are_refused(run: Run) -> None:
    Path("deep").mkdir()
    Image.fromarray(np.zeros((9, 9), dtype=np.uint16)).save("deep/a.png")
    assert "more than 8 bits" in refused(run("is", "deep", "--features", "digits"))
    Path("empty").mkdir()
    assert "holds no images" in refused(run("is", "empty", "--features", "digits"))


def test_images_of_different_sizes_are_resized_or_refused(run: Run) -> None:
    needs("kernel_distance")
    folder("a", 2)
    Image.fromarray(pixels(5, 30, 20)).save("a/9.png")
    assert run("is", "a", "--features", "digits")["n"] == [3]
    Path("network.py").write_text("def flat(images):\n    return images.flatten(1)\n", "utf-8")
    own = ("--features", "network.py:flat")
    assert "2 sizes, as 40 × 48 (2), 30 × 20 (1)" in refused(run("kid", "a", "a", *own))
    assert "40 × 48" not in str(run("is", "a", *own, "--size", "4")["resize"])


def test_resizing_is_antialiased_and_exact_on_constants(tmp_path: Path) -> None:
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[::2] = 255
    Image.fromarray(stripes).save(tmp_path / "s.png")
    small = decoded(tmp_path / "s.png", Decoding(size=(8, 8)))
    assert float((small - 0.5).abs().max()) < 0.05
    Image.fromarray(np.full((31, 17, 3), 77, dtype=np.uint8)).save(tmp_path / "c.png")
    for name in ("bicubic", "bilinear"):
        flat = decoded(tmp_path / "c.png", Decoding(size=(50, 9), filter=name))
        torch.testing.assert_close(flat, torch.full((3, 50, 9), 77 / 255), rtol=1e-5, atol=0)


# --- pairs ----------------------------------------------------------------------------------------


def test_pairs_are_matched_by_name(run: Run) -> None:
    needs("psnr")
    folder("a", 3)
    folder("b", 3)
    noisy = np.clip(pixels(1).astype(int) + 10, 0, 255).astype(np.uint8)
    Image.fromarray(noisy).save("b/1.png")
    Path("b/0.png").rename("b/x.png")
    assert "0, x" in refused(run("psnr", "a", "b"))
    Path("b/x.png").rename("b/0.png")
    score = run("psnr", "a", "b")
    mse = ((noisy.astype(float) - pixels(1)) ** 2).mean() / 255**2
    assert score["value"] == pytest.approx(-10 * np.log10(mse), rel=1e-9)
    assert score["each"]["0.png"] == "inf"
    assert "2 pairs are equal" in score["notes"][0]
    assert run("psnr", "a/1.png", "b/1.png")["value"] == pytest.approx(score["value"], rel=1e-12)
    Image.fromarray(pixels(2, 41)).save("b/2.png")
    assert "2.png is 40 × 48 in one folder and 41 × 48" in refused(run("psnr", "a", "b"))
    np.save("f.npy", rows(3, 3))
    assert "file of features" in refused(run("psnr", "a", "f.npy"))


@pytest.mark.parametrize(("name", "perfect"), [("ssim", 1.0), ("fsim", 1.0), ("lpips", 0.0)])
def test_other_pairs_meet_their_perfect_value(run: Run, name: str, perfect: float) -> None:
    needs("psnr")
    folder("a", 2)
    folder("b", 2)
    score = run(name, "a", "b")
    assert score["value"] == pytest.approx(perfect, abs=1e-6)
    assert score["n"] == [2, 2]


def test_a_side_below_what_a_metric_needs_is_refused(run: Run) -> None:
    needs("psnr")
    folder("a", 1, height=8, width=8)
    folder("b", 1, seed=3, height=8, width=8)
    assert "8 × 8" in refused(run("ssim", "a", "b"))


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "which metric"),
        (("fdi", "a", "b"), "Did you mean 'fid'"),
        (("is", "a", "--splits", "0"), "--splits is at least 1"),
        (("is", "a", "--resize", "cubic"), "bicubic, bilinear"),
        (("is", "a", "--alpha", "white"), "refuse, drop"),
        (("psnr", "a", "b", "--net", "resnet"), "alex, vgg, squeeze"),
        (("is", "a", "--save-features", "f.csv"), "does not exist|written as"),
        (("psnr", "a", "b", "--size", "3"), "--size is for metrics of sets"),
        (("psnr", "a", "b", "--features", "digits"), "--features is for metrics of sets"),
        (("ssim", "a", "b", "--save-features", "f.npy"), "--save-features is for metrics of sets"),
        (("fid", "a", "b", "--net", "vgg"), "--net is for lpips, and does nothing for fid"),
        (("fid", "a", "b", "--prediction", "logits"), "--prediction is for is"),
        (("kid", "a", "b", "--splits", "10"), "--splits is for is"),
        (("fid", "a", "b", "--save-features", "x.npy", "./x.npy"), "one file twice"),
    ],
)
def test_mistakes_in_the_call_are_told(run: Run, arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(refused(run(*arguments)))


def test_every_metric_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["metric", "--list"]) == 0
    listed = capsys.readouterr().out
    for name in (
        "fid",
        "is",
        "kid",
        "lpips",
        "ssim",
        "ms-ssim",
        "psnr",
        "fsim",
        "precision-recall",
    ):
        assert f"{name} " in listed


def test_text_and_progress(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dlcheck.cli.metric._EVERY", 0.0)
    folder("a", 3)
    arguments = ["is", "a", "--features", "digits", "--splits", "2", "--device", "cpu"]
    assert main(["metric", *arguments]) == 0
    said = capsys.readouterr()
    assert "… 3 of 3 images of a read" in said.err
    assert " ± " in said.out
    assert "a (3)" in said.out
    assert "float64 on cpu" in said.out


def test_help_and_list_load_no_torch() -> None:
    program = (
        "import sys, contextlib\n"
        "from dlcheck.cli import main\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main(['metric', '--help'])\n"
        "main(['metric', '--list'])\n"
        "assert not {'torch', 'numpy', 'PIL'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

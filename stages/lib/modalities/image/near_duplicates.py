"""Nearly the same image in two sets: resized, slightly cropped, recompressed or mirrored.

Works on fingerprints, which are small grey copies of the images, in three steps: candidates by their correlation under a few
crops (what a perceptual hash is, but not rounded to bits), alignment of each candidate, and the correlation of what is then left.

In data whose images all look alike (digits, cells of one module), most of an image is what all of them show, which says nothing
about copies. So correlations are of whitened images, in which each direction in which images of the set vary counts as much as
any other; and a near-duplicate must be much nearer than the next candidates.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import pyplot as plt
from PIL import Image
from torch.nn.functional import grid_sample, normalize

from stages.lib.plots.style import PIXELS, STYLE, save, short

SIDE = 32  # of a fingerprint, in pixels
GAP = 3.0  # times SIDE, down to which blocks of pixels are averaged first: nothing that SIDE shows is lost, and it is much faster
SLOW = 1 / 16  # of the side: brightness that changes more slowly is ignored, because all images of a kind share it
FAST = 1 / 40  # of the side: what changes faster is lost when an image is resized or compressed
CROP = 0.9  # of the side: a copy may show this much of the original, anywhere in it
PLACES = 5  # of such a window, in each direction
VIEWS = [(1.0, 0.0, 0.0), *((CROP, y / 40, x / 40) for y in range(PLACES) for x in range(PLACES))]  # scale, top, left
MIRRORED = [0, *(PLACES * y + PLACES - x for y in range(PLACES) for x in range(PLACES))]  # the view of a mirrored image
NUM_COMMON, NUM_DIRECTIONS = 1000, 128  # images, and the directions of theirs that count
NUM_CANDIDATES, NUM_ALIGNED = 24, 12  # of each test image; only if one of the first few fits are the others looked at
ORDINARY = 4  # this many others may be near-duplicates as well; the next one says how near ordinary images are
STEPS = 6  # of the alignment
MOST_AT_ONCE = 50_000_000  # correlations in memory
PAIRS_AT_ONCE = 512


class Match(NamedTuple):
    """Two images that are nearly the same."""

    test: int  # row
    other: int  # row
    correlation: float  # of the aligned fingerprints, whitened, up to 1
    nearness: float  # 1 - correlation, as a fraction of that to an ordinary neighbour: 0 for copies, about 1 for others


def fingerprint(image: Image.Image) -> np.ndarray:
    """A small grey copy (SIDE, SIDE) uint8 of a decoded image."""
    small = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, reducing_gap=GAP)  # first, because there is less to convert then
    return np.asarray(small.convert("L"))


def find(tests: np.ndarray, others: np.ndarray, *, correlation: float, nearness: float) -> list[Match]:
    """Pairs of a test image and another that are nearly the same.

    Args:
        tests: fingerprints (N, SIDE, SIDE) uint8.
        others: (M, SIDE, SIDE) uint8; of images that none of the tests is one of.
        correlation: the lowest of a near-duplicate, 0 to 1.
        nearness: the highest of a near-duplicate, 0 to 1.

    Returns:
        Matches, ordered by rows.

    Reference:
        Baker and Matthews, Lucas-Kanade 20 Years On, IJCV 2004 (the alignment). Lowe, Distinctive Image Features from
        Scale-Invariant Keypoints, IJCV 2004 (the comparison with the next candidates).
    """
    if not len(tests) or not len(others):
        return []
    found = []
    mine, theirs = (torch.from_numpy(np.array(each)).float() for each in (tests, others))
    whitening = _whitening(torch.cat([mine, theirs]))
    candidates, views = _candidates(mine, theirs, whitening)
    rows = torch.arange(len(mine))[:, None].expand_as(candidates)
    first = _aligned(mine, theirs, whitening, rows[:, :NUM_ALIGNED], candidates[:, :NUM_ALIGNED], views[:, :NUM_ALIGNED])
    near = (first.amax(1) >= correlation).nonzero()[:, 0]
    rest = _aligned(mine, theirs, whitening, *(each[near, NUM_ALIGNED:] for each in (rows, candidates, views)))
    for row, values in zip(near.tolist(), torch.cat([first[near], rest], 1), strict=True):
        ordered = values.sort(descending=True).values
        ordinary = ordered[ORDINARY].item() if len(ordered) > ORDINARY else 0.0
        for other, value in zip(candidates[row].tolist(), values.tolist(), strict=True):
            relative = (1 - value) / max(1 - ordinary, 1e-6)
            if value >= correlation and relative <= nearness:
                found.append(Match(row, other, value, relative))
    return sorted(found)


def show(path: Path, pairs: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> None:
    """Draw pairs of fingerprints, the test image on the left, each with a title."""
    columns = 4
    rows = -(-len(pairs) // columns)
    with plt.rc_context(STYLE | {"axes.grid": False, "axes.titlesize": 6, "axes.titleweight": "normal"}):
        figure, grid = plt.subplots(rows, columns, figsize=(7.2, 0.3 + 1.3 * rows), squeeze=False, layout="constrained")
        for axes in grid.flat:
            axes.set_axis_off()
        for axes, (title, test, other) in zip(grid.flat, pairs, strict=False):
            axes.imshow(np.concatenate([test, np.full((SIDE, 2), 255, np.uint8), other], 1), **PIXELS)
            axes.set_title(short(title))
        save(figure, path)


def _whitening(images: torch.Tensor) -> torch.Tensor:
    """A matrix (SIDE * SIDE, d) by which directions in which the details of these images vary count by how little."""
    some = images[:: -(-len(images) // NUM_COMMON)]
    views = [_crop(some[index :: len(VIEWS)], view) for index, view in enumerate(VIEWS)]
    details = torch.cat([_detail(each) for each in (some, *views)])
    values, directions = torch.linalg.eigh(details.T @ details / len(details))
    kept = slice(-min(NUM_DIRECTIONS, len(details)), None)
    noise = 2 / len(details)  # two alone of the images would give that: less of a direction is mostly noise
    whitening: torch.Tensor = directions[:, kept] / (values[kept] + noise).sqrt()
    return whitening


def _candidates(tests: torch.Tensor, others: torch.Tensor, whitening: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows of the most similar others (N, k), and under which view each is (2 * view + 1 if the other is cropped, and
    2 * len(VIEWS) more if it is mirrored)."""
    whole = _whitened(others, whitening)
    rows, views = [], []
    for part in tests.split(max(1, MOST_AT_ONCE // len(others))):
        best = torch.full((len(part), len(others)), -2.0)
        code = torch.zeros(best.shape, dtype=torch.uint8)
        for index, view in enumerate(VIEWS):
            cropped = _whitened(_crop(others, view), whitening)
            for mirrored in (0, 1):  # here the test image is, because there are fewer
                mine, same = (part.flip(2), MIRRORED[index]) if mirrored else (part, index)
                for left, right, seen in (
                    (_whitened(_crop(mine, VIEWS[same]), whitening), whole, 2 * index),
                    (_whitened(mine, whitening), cropped, 2 * same + 1),
                ):
                    similar = left @ right.T
                    code[similar > best] = seen + 2 * len(VIEWS) * mirrored
                    torch.maximum(best, similar, out=best)
        chosen = best.topk(min(NUM_CANDIDATES, len(others)), 1).indices
        rows.append(chosen)
        views.append(code.gather(1, chosen))
    return torch.cat(rows), torch.cat(views).long()


def _aligned(
    tests: torch.Tensor,
    others: torch.Tensor,
    whitening: torch.Tensor,
    rows: torch.Tensor,
    candidates: torch.Tensor,
    views: torch.Tensor,
) -> torch.Tensor:
    """The correlation of each pair, aligned: of the shape of `rows`."""
    found = [
        _correlation(
            tests[row],
            torch.where((view >= 2 * len(VIEWS))[:, None, None], others[other].flip(2), others[other]),
            view,
            whitening,
        )
        for row, other, view in zip(*(each.flatten().split(PAIRS_AT_ONCE) for each in (rows, candidates, views)), strict=True)
    ]
    return torch.cat(found).view(rows.shape) if found else torch.zeros(rows.shape)


def _correlation(tests: torch.Tensor, others: torch.Tensor, views: torch.Tensor, whitening: torch.Tensor) -> torch.Tensor:
    """Correlation of pairs (n, SIDE, SIDE), whitened, once the whole one of each is cropped as the other was."""
    swapped = (views % 2 == 1)[:, None, None]
    whole, part = torch.where(swapped, others, tests), torch.where(swapped, tests, others)
    window = torch.tensor(VIEWS)[views % (2 * len(VIEWS)) // 2][:, [0, 1, 0, 2]]  # height, top, width, left (n, 4)
    wanted = _whitened(part, whitening)
    windows = (window, _fitted(whole, part, window))
    before, after = ((_whitened(_cut(whole, each), whitening) * wanted).sum(1) for each in windows)
    return torch.maximum(before, after)


def _fitted(whole: torch.Tensor, part: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """The window of each whole image that looks most like its part, up to brightness and contrast (Gauss-Newton)."""
    places = _places()
    slopes = [slope * SIDE for slope in torch.gradient(whole, dim=(1, 2))]
    for _ in range(STEPS):
        cut, down, right = (_cut(each, window) for each in (whole, *slopes))
        columns = [down * places[:, None], down, right * places, right, -part, -torch.ones_like(part)]
        jacobian = torch.stack(columns, -1).flatten(1, 2)
        square = jacobian.mT @ jacobian
        damped = square + 1e-3 * torch.diag_embed(square.diagonal(dim1=1, dim2=2) + 1)
        step = -torch.linalg.solve(damped, jacobian.mT @ cut.flatten(1)[..., None])[..., 0]
        window = window + step[:, :4].clamp(-0.03, 0.03)
        sides = window[:, ::2].clamp(CROP - 0.05, 1.02)
        corners = torch.minimum(window[:, 1::2].clamp(min=-0.02), 1.02 - sides)
        window = torch.stack([sides, corners], 2).flatten(1)
    return window


def _cut(images: torch.Tensor, window: torch.Tensor) -> torch.Tensor:
    """A window (height, top, width, left: fractions of the side) of each image, scaled to SIDE."""
    y, x = ((_places() * window[:, [side]] + window[:, [side + 1]]) * 2 - 1 for side in (0, 2))
    grid = torch.stack(torch.broadcast_tensors(x[:, None, :], y[:, :, None]), -1)
    return grid_sample(images[:, None], grid, padding_mode="border", align_corners=False)[:, 0]


def _places() -> torch.Tensor:
    return (torch.arange(SIDE) + 0.5) / SIDE


def _crop(images: torch.Tensor, view: tuple[float, float, float]) -> torch.Tensor:
    """One view of all images (N, SIDE, SIDE), by linear interpolation."""
    rows, columns = (_interpolation(view[0], start) for start in view[1:])
    return rows @ images @ columns.T


def _interpolation(scale: float, start: float) -> torch.Tensor:
    places = (((torch.arange(SIDE) + 0.5) * scale / SIDE + start) * SIDE - 0.5).clamp(0, SIDE - 1)
    return (1 - (places[:, None] - torch.arange(SIDE)).abs()).clamp(min=0)


def _detail(images: torch.Tensor) -> torch.Tensor:
    """Images (N, SIDE, SIDE) without what changes slowly and what changes fast, with mean 0 and length 1 (N, SIDE * SIDE); 0 for
    an image without structure."""
    slow, fast = _blur(SLOW), _blur(FAST)
    flat = (fast @ images @ fast.T - slow @ images @ slow.T).flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    flat /= flat.norm(dim=1, keepdim=True).clamp(min=1)  # less is rounding
    return flat


def _whitened(images: torch.Tensor, whitening: torch.Tensor) -> torch.Tensor:
    """The details of images (N, SIDE, SIDE), whitened and of length 1 (N, d); of nearly 0 for an image without structure."""
    return normalize(_detail(images) @ whitening, eps=1)


def _blur(width: float) -> torch.Tensor:
    """A Gaussian blur of rows (SIDE, SIDE); `width` is its standard deviation as a fraction of the side."""
    distance = torch.arange(SIDE)[:, None] - torch.arange(SIDE)
    weights = torch.exp(-0.5 * (distance / (width * SIDE)) ** 2)
    blur: torch.Tensor = weights / weights.sum(1, keepdim=True)
    return blur

"""Images: from files to packed bytes (once), and from packed bytes to network inputs (in every step)."""

import hashlib
import math
from typing import Any

import numpy as np
import torch
from PIL import Image

from stages.lib.core.contracts import LoadedSplit, Mix
from stages.lib.core.datasets import PackedSplit
from stages.lib.modalities.image.files import REMARKS, decode

__all__ = ["decode", "digest", "load", "mismatch", "pack", "packing", "probe", "remarks"]

FRAMED = 5 / 7  # of the side: MNIST's digits are 20 pixels long and lie in 28
RESAMPLING = {"nearest": Image.Resampling.NEAREST, "bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
SHARP = 512  # pixels: what tells two images apart by more than noise is still seen
LONGEST = 16  # times px: an image that would become longer is cut before it is resized, so that memory is bounded
NUM_DRAWS = 11  # random numbers that `augment` needs per image


def digest(image: Image.Image) -> str:
    """SHA-256 of the decoded pixels: equal for equal images, whatever the file format.

    Of large images, whole blocks of pixels are averaged first, as long as the sides stay SHARP or more, because hashing all
    pixels takes nearly as long as decoding them.
    """
    block = max(1, min(image.size) // SHARP)
    pixels = image.reduce(block) if block > 1 else image
    return hashlib.sha256(f"{image.width}x{image.height} ".encode() + pixels.tobytes()).hexdigest()


def packing(px: int, fit: str, preprocessing: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments of `pack`, from the dataset's block and the source's card."""
    how = {name: preprocessing[name] for name in ("crop_pct", "interpolation")}
    return {"px": px, "fit": fit, "channels": len(preprocessing["mean"])} | how


def mismatch(packing: dict[str, Any], preprocessing: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Where packed images differ from the weights' training images: (as packed, as trained) by name. The size may differ."""
    names = ("channels", "interpolation", "crop_pct") if packing["fit"] == "crop" else ("channels", "interpolation")
    trained = preprocessing | {"channels": len(preprocessing["mean"])}
    return {name: (packing[name], trained[name]) for name in names if packing[name] != trained[name]}


def pack(image: Image.Image, *, px: int, fit: str, channels: int, crop_pct: float, interpolation: str) -> np.ndarray:
    """Resize an image to the shape that the network takes.

    Args:
        image: RGB, any shape.
        px: side of the result.
        fit: "squash" keeps the whole image but not its aspect ratio; "crop" scales the short side to
            px / crop_pct and crops the centre, as ImageNet models are evaluated; "frame" scales the long side to FRAMED of
            px and puts the image in the centre on black, as MNIST's digits are framed.
        channels: 3, or 1 for grey.
        crop_pct: the fraction of the short side that "crop" keeps.
        interpolation: a key of RESAMPLING.

    Returns:
        (px, px, channels) uint8.
    """
    image = image if channels == 3 else image.convert("L")
    return np.asarray(_fitted(image, px, fit, crop_pct, interpolation)).reshape(px, px, channels)


def _fitted(image: Image.Image, px: int, fit: str, crop_pct: float, interpolation: str) -> Image.Image:
    how = RESAMPLING[interpolation]
    if fit == "squash":
        return image.resize((px, px), how)
    if fit == "frame":
        width, height = (max(1, round(FRAMED * px * side / max(image.size))) for side in image.size)
        framed = Image.new(image.mode, (px, px))
        framed.paste(image.resize((width, height), how), ((px - width) // 2, (px - height) // 2))
        return framed
    short = int(px / crop_pct + 1e-6)  # rounded as torchvision and timm round
    sides = [short if side == min(image.size) else int(short * side / min(image.size)) for side in image.size]
    left, top = (round((side - px) / 2) for side in sides)
    if max(sides) > LONGEST * px:
        across, down = (given / side for given, side in zip(image.size, sides, strict=True))
        return image.resize((px, px), how, (left * across, top * down, (left + px) * across, (top + px) * down))
    return image.resize((sides[0], sides[1]), how).crop((left, top, left + px, top + px))


def remarks(image: Image.Image, preprocessing: dict[str, Any]) -> dict[str, float]:
    """What people should know about how this image was decoded, in addition to what is done to all."""
    return dict(image.info.get(REMARKS, {}))


def load(split: PackedSplit, targets: torch.Tensor, preprocessing: dict[str, Any], device: torch.device) -> LoadedSplit:
    """Load packed images for training and evaluation, normalised according to `preprocessing` (of a model's card)."""
    resident = torch.from_numpy(np.array(split.inputs)).to(device) if _fits(split.inputs, device) else None
    scale, shift = _affine(preprocessing["mean"], preprocessing["std"], device)

    def inputs(indices: torch.Tensor, level: str, draws: torch.Tensor | None) -> torch.Tensor:
        if resident is None:
            batch = torch.from_numpy(split.rows(indices.numpy())).to(device)
        else:
            batch = resident[indices.to(device, non_blocking=True)]  # so that no step waits for the one before it
        if level != "none":
            assert draws is not None
            batch = augment(batch, level, draws).contiguous()  # turned images are not, and convolutions would copy them
        return _scaled(batch, scale, shift)

    return LoadedSplit(inputs, targets.to(device), NUM_DRAWS, mix)


def _fits(images: np.ndarray, device: torch.device) -> bool:
    """Whether all images should lie on the device: on a GPU, if they take at most a quarter of its free memory. Batches are then
    gathered there, and the GPU waits for no copy."""
    return device.type == "cuda" and 4 * images.nbytes <= torch.cuda.mem_get_info(device)[0]


def probe(preprocessing: dict[str, Any], device: torch.device) -> torch.Tensor:
    """One black input, to test whether a network accepts inputs of this shape."""
    return torch.zeros(1, len(preprocessing["mean"]), preprocessing["px"], preprocessing["px"], device=device)


def normalise(images: torch.Tensor, preprocessing: dict[str, Any]) -> torch.Tensor:
    """Convert (N, H, W, C) uint8 to the (N, C, H, W) float32 that the weights expect, in channels_last memory format."""
    return to_network(images, preprocessing["mean"], preprocessing["std"])


def to_network(images: torch.Tensor, mean: list[float], std: list[float]) -> torch.Tensor:
    """Like `normalise`, with a mean and a standard deviation (0 to 1) per channel."""
    return _scaled(images, *_affine(mean, std, images.device))


def _affine(mean: list[float], std: list[float], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and shift (C,) that turn bytes into what the weights expect."""
    return 1 / (255 * torch.tensor(std, device=device)), -torch.tensor(mean, device=device) / torch.tensor(std, device=device)


def _scaled(images: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    return torch.addcmul(shift, images.float(), scale).permute(0, 3, 1, 2)


def augment(images: torch.Tensor, level: str, draws: torch.Tensor) -> torch.Tensor:
    """Augment a batch at random, in ways that keep its labels.

    Args:
        images: (N, H, W, C) uint8 with H = W.
        level: "light": flip left-right and shift by up to 1/16 of the side. "strong": flip left-right, rotate by up to
            15 degrees, scale by 0.75 to 1.33, shift by up to 1/8, change brightness and contrast by up to 40 %, and cover
            a square of up to 1/3 of the side with grey. "inspection", for images without an upright position: flip
            left-right and up-down and rotate by multiples of 90 degrees.
        draws: (N, NUM_DRAWS) uniform in [0, 1), on the CPU, so that nothing has to wait for a GPU; the augmentation of each image
            depends only on its own row, so it does not matter how a batch is divided between processes.

    Returns:
        A batch of the same shape and type.
    """
    yes = (draws < 0.5).to(images.device, non_blocking=True)[:, :, None, None, None]
    images = torch.where(yes[:, 0], images.flip(2), images)
    if level == "inspection":
        images = torch.where(yes[:, 1], images.flip(1), images)
        return torch.where(yes[:, 2], images.transpose(1, 2), images)
    side = images.shape[1]
    if level == "light":
        most = max(1, side // 16)
        padded = torch.nn.functional.pad(images.permute(0, 3, 1, 2).float(), (most,) * 4, mode="reflect")
        padded = padded.to(torch.uint8).permute(0, 2, 3, 1)
        offsets = (draws[:, 1:3] * (2 * most + 1)).long().tolist()
        return torch.stack([image[y : y + side, x : x + side] for image, (y, x) in zip(padded, offsets, strict=True)])
    if level == "strong":
        return _strong(images, draws.to(images.device, non_blocking=True))
    raise ValueError(f"unknown level of augmentation: {level!r}")


def _strong(images: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    around = 2 * draws - 1  # (N, NUM_DRAWS) uniform in [-1, 1)
    angle, scale = around[:, 1] * math.radians(15), (4 / 3) ** around[:, 2]
    shift = around[:, 3:5] / 4  # of a side of length 2
    cos, sin = angle.cos() * scale, angle.sin() * scale
    turn = torch.stack([torch.stack([cos, -sin, shift[:, 0]], 1), torch.stack([sin, cos, shift[:, 1]], 1)], 1)  # (N, 2, 3)
    pixels = images.permute(0, 3, 1, 2).float()
    grid = torch.nn.functional.affine_grid(turn, list(pixels.shape), align_corners=False)
    pixels = torch.nn.functional.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    contrast, brightness = (1 + 0.4 * around[:, 5:7])[:, :, None, None, None].unbind(1)
    means = pixels.mean((1, 2, 3), keepdim=True)
    pixels = (means + (pixels - means) * contrast) * brightness

    side = pixels.shape[2]
    half = draws[:, 7] / 6  # as a fraction of the side
    places = (torch.arange(side, device=images.device) + 0.5) / side
    rows = (places - draws[:, 8:9]).abs() < half[:, None]  # (N, H)
    columns = (places - draws[:, 9:10]).abs() < half[:, None]
    covered = (rows[:, :, None] & columns[:, None, :] & (draws[:, 10] < 0.5)[:, None, None])[:, None]
    return torch.where(covered, 127.5, pixels).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def mix(inputs: torch.Tensor, others: torch.Tensor, how: Mix) -> tuple[torch.Tensor, float]:
    """Mix images with their partners.

    Args:
        inputs, others: (N, C, H, W); `others` are the partners, in the same order.

    Returns:
        The mixed images, and the fraction of their own targets: for cutmix, the fraction of unchanged pixels.
    """
    if how.box is None:
        return inputs.lerp(others, 1 - how.fraction), how.fraction
    height, width = inputs.shape[2:]
    top, bottom, left, right = (round(end * side) for end, side in zip(how.box, (height, height, width, width), strict=True))
    inputs = inputs.clone(memory_format=torch.preserve_format)
    inputs[:, :, top:bottom, left:right] = others[:, :, top:bottom, left:right]
    return inputs, 1 - (bottom - top) * (right - left) / (height * width)

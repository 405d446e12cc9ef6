"""Recordings as people have them: WAV, FLAC, OGG (Vorbis, Opus), MP3 and AIFF, decoded completely or refused in words."""

import io
import struct
import wave
from typing import Any, NamedTuple

import numpy as np
import soundfile

from stages.lib.modalities.audio import mp3

KINDS = ("WAV", "WAVEX", "FLAC", "OGG", "MP3", "AIFF")  # as libsndfile calls them
CONVERT = "Convert it, for example with: ffmpeg -i FILE NEW.wav"
RATES = (4_000, 192_000)  # Hz
SHORTEST = 0.05  # seconds: two windows of 25 ms, even if augmentation makes it a fifth shorter
SILENT = 1e-3  # of full scale, -60 dB: recordings whose samples stay below it hold nothing that can be heard
LOUDEST = 2.0  # of full scale: lossy formats may exceed 1 a little; more than this is another scale
FULL = 1 << 15  # full scale of 16-bit samples
BLOCK = 1 << 16  # frames decoded at once
UNKNOWN = 0x7FFFF000  # sizes in a header from this on mean that the writer did not know (it wrote to a pipe)
TOLERATED = 3 * mp3.LONGEST_FRAME  # samples that decoders of MP3 may leave out


class Recording(NamedTuple):
    """A decoded recording."""

    samples: np.ndarray  # (S,) float32 from -1 to 1, the mean of its channels
    rate: int  # Hz
    channels: int
    clipped: float  # fraction of the samples at full scale, before channels were averaged


def decode(source: bytes | tuple[Any, int]) -> Recording:
    """Decode a recording completely, or say why it cannot be used.

    Args:
        source: the bytes of a file; or samples (S,) or (S, channels) and their rate in Hz, where whole numbers are 16-bit.

    Raises:
        ValueError: it is empty, no audio, cut off, damaged, too short or silent; its samples are not numbers, or not from -1
            to 1; or its rate cannot be right.
    """
    samples, rate, channels, clipped = _read(source) if isinstance(source, bytes) else _given(*source)
    if not len(samples):
        raise ValueError("it holds no samples")
    if not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"its sample rate is {rate} Hz; allowed: {RATES[0]} to {RATES[1]}")
    if not np.isfinite(samples).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(samples))} of its samples are not numbers (NaN or infinite)")
    peak = float(np.abs(samples).max())
    if peak > LOUDEST:
        raise ValueError(
            f"its samples reach {peak:.4g}; numbers with decimals must be from -1 to 1. Divide them by their full scale"
        )
    if len(samples) < SHORTEST * rate:
        raise ValueError(f"it lasts {1000 * len(samples) / rate:.3g} ms; at least {1000 * SHORTEST:.3g} ms are needed")
    heard = float(np.abs(samples - samples.mean()).max())
    if heard < SILENT:
        level = f"{20 * np.log10(heard):.0f} dB" if heard else "0"
        raise ValueError(f"it is silent: its loudest sample is {level} of full scale, and below {20 * np.log10(SILENT):.0f} dB "
                         "nothing can be heard")  # fmt: skip
    return Recording(samples, rate, channels, clipped)


def _given(samples: Any, rate: int) -> Recording:
    values = np.asarray(samples)
    if values.ndim not in (1, 2) or values.dtype.kind not in "iuf":
        raise ValueError(f"samples must be numbers of shape (S,) or (S, channels), not {values.dtype} of shape {values.shape}")
    if values.dtype.kind in "iu":
        if np.abs(values.astype(np.int64)).max(initial=0) > FULL:
            raise ValueError("its samples are whole numbers of more than 16 bits; give numbers from -1 to 1")
        values = values / np.float32(FULL)
    frames = values.astype(np.float32)[:, None] if values.ndim == 1 else values.astype(np.float32)
    full = (np.abs(frames) >= 1 - 1 / FULL).any(1).mean() if len(frames) else 0.0
    return Recording(_mono(frames), int(rate), frames.shape[1], float(full))


def _read(source: bytes) -> Recording:
    if not source:
        raise ValueError("the file is empty (0 bytes)")
    try:
        file = soundfile.SoundFile(io.BytesIO(source))
    except soundfile.LibsndfileError as error:
        if "malformed" in str(error.error_string):
            raise ValueError("it is damaged or cut off: its beginning can be read, but not the rest") from None
        raise ValueError(f"it is no audio that can be read (WAV, FLAC, OGG, MP3, AIFF). {CONVERT}") from None
    with file:
        if file.format not in KINDS:
            raise ValueError(f"it is a file of the kind {file.format}; allowed are WAV, FLAC, OGG, MP3 and AIFF. {CONVERT}")
        # Decoded in blocks, because the header of a stream does not know how many samples there are.
        full = 1 - (1 / 128 if file.subtype in ("PCM_U8", "PCM_S8") else 1 / FULL)
        parts, clipped = [], 0
        try:
            while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                parts.append(_mono(block))
                clipped += int((np.abs(block) >= full).any(1).sum())
        except soundfile.LibsndfileError as error:
            raise ValueError(f"it is damaged or cut off after {sum(map(len, parts)) / file.samplerate:.2f} s "
                             f"({error.error_string.strip('. ')})") from None  # fmt: skip
        samples = np.concatenate([*parts, np.zeros(0, np.float32)])
        _require_complete(source, file.format, file.frames, len(samples))
        return Recording(samples, file.samplerate, file.channels, clipped / max(1, len(samples)))


def _mono(frames: np.ndarray) -> np.ndarray:
    """(S, channels) to (S,)."""
    mean: np.ndarray = frames[:, 0] if frames.shape[1] == 1 else frames.mean(1)
    return mean


def _require_complete(source: bytes, kind: str, promised: int, there: int) -> None:
    """Raise a ValueError if the file is shorter than its header says; libsndfile often returns what is there, without a word.

    Whether an MP3 file that does not say how long it is was cut off cannot be found out.
    """
    if kind in ("WAV", "WAVEX", "AIFF"):
        missing = _missing_bytes(source)
        if missing:
            raise ValueError(f"it is cut off: {missing} bytes that its header promises are missing at its end")
    elif kind == "OGG":
        if not _ends(source):
            raise ValueError("it is cut off: its last page is not the end of the stream")
    elif kind == "MP3" and not mp3.says_its_length(source):
        if there + TOLERATED < mp3.num_samples(source):  # a guess that was too short for a variable bit rate
            raise ValueError(f"it does not say how long it is, so only its beginning would be decoded. {CONVERT}")
    elif there + (TOLERATED if kind == "MP3" else 0) < promised < 1 << 62:
        raise ValueError(f"it is cut off: its header promises {promised} samples, but there are {there}")


def _missing_bytes(source: bytes) -> int:
    """How many bytes of samples a RIFF (WAV) or IFF (AIFF) file lacks."""
    order = ">" if source[:4] in (b"RIFX", b"FORM") else "<"
    place = 12
    while place + 8 <= len(source):
        name, size = struct.unpack_from(f"{order}4sI", source, place)
        if name in (b"data", b"SSND"):
            return 0 if size >= UNKNOWN else max(0, place + 8 + size - len(source))
        place += 8 + size + size % 2
    return 0


def _ends(source: bytes) -> bool:
    """Whether the last page of an Ogg file is complete and marked as the end of its stream (RFC 3533)."""
    page = source.rfind(b"OggS")
    if page < 0 or len(source) < page + 27:
        return False
    table = source[page + 27 : page + 27 + source[page + 26]]
    return bool(source[page + 5] & 4) and len(source) >= page + 27 + source[page + 26] + sum(table)


def wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV file of packed samples (S,) int16."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.astype("<i2").tobytes())
    return file.getvalue()

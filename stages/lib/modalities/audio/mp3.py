"""How long an MP3 file is: libsndfile guesses it from the first frames of a file that does not say so."""

RATES = (44_100, 48_000, 32_000)  # Hz of MPEG-1; half and a quarter of it for MPEG-2 and 2.5
KBITS = {  # of layer III, by whether it is MPEG-1
    True: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
SLOWER = {3: 1, 2: 2, 0: 4}  # by the two bits of the version
LONGEST_FRAME = 1152  # samples


def says_its_length(source: bytes) -> bool:
    """Whether the first frame holds the number of frames (a Xing header)."""
    first = _first(source)
    return any(word in source[first : first + 256] for word in (b"Xing", b"Info"))


def num_samples(source: bytes) -> int:
    """Samples per channel in all frames of layer III up to the first gap, from their headers."""
    place, total = _first(source), 0
    while place + 4 <= len(source):
        first, second, third = source[place : place + 3]
        slower, kbits, rate = SLOWER.get(second >> 3 & 3), third >> 4, third >> 2 & 3
        if first != 0xFF or second >> 5 != 7 or second >> 1 & 3 != 1 or not slower or not 0 < kbits < 15 or rate == 3:
            break
        samples = LONGEST_FRAME if slower == 1 else LONGEST_FRAME // 2
        place += samples // 8 * 1000 * KBITS[slower == 1][kbits - 1] * slower // RATES[rate] + (third >> 1 & 1)
        total += samples
    return total


def _first(source: bytes) -> int:
    """Where the first frame begins, after the tags."""
    if source[:3] != b"ID3" or len(source) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(source[6:10], (21, 14, 7, 0), strict=True))

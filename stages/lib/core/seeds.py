"""One seed per purpose, so that a new use of randomness never changes an existing one."""

import hashlib


def seed_for(seed: int, *purpose: object) -> int:
    """Derive the seed for one purpose from the experiment's seed.

    Args:
        seed: the experiment's seed.
        purpose: words and numbers that name the purpose, for example ("target", "shuffle", 3).

    Returns:
        An integer in [0, 2**32), the same on every machine and in every version.
    """
    words = "/".join(str(word) for word in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:4], "big")

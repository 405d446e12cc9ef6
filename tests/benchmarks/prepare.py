"""How fast photos are prepared: python -m tests.benchmarks.prepare --folder PHOTOS --against OTHER

What `prepare` does with each image (decode, pack to 160 px, digest, fingerprint), in images per second of one core, in turns with
the code of another checkout. Photos are scaled to sides of 500 and 2,400 pixels, with a little noise, and saved as JPEG.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

PROGRAM = """
import json, sys, time
from pathlib import Path
from stages.lib.modalities.image import inputs, near_duplicates
how = {"px": 160, "fit": "squash", "channels": 3, "crop_pct": 0.875, "interpolation": "bicubic"}
files = [path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())]
parts = dict.fromkeys(("decode", "pack", "digest", "fingerprint"), 0.0)
for repeat in range(3):
    for file in files:
        times = [time.process_time()]
        decoded = inputs.decode(file)
        for work in (lambda: None, lambda: inputs.pack(decoded, **how), lambda: inputs.digest(decoded),
                     lambda: near_duplicates.fingerprint(decoded)):
            work()
            times.append(time.process_time())
        if repeat:
            parts = {name: parts[name] + b - a for name, a, b in zip(parts, times, times[1:])}
print(json.dumps({name: 1000 * value / 2 / len(files) for name, value in parts.items()}))
"""


def photos(folder, out, side, num):
    """Write `num` photos of a folder with this length of their longer side."""
    random = np.random.default_rng(0)
    for number, path in enumerate(sorted(folder.rglob("*.jpg"))[:num]):
        image = Image.open(path).convert("RGB")
        scale = side / max(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        noise = random.integers(-6, 7, (image.height, image.width, 1))
        file = io.BytesIO()
        Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
        (out / f"{number}.jpg").write_bytes(file.getvalue())


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--folder", type=Path, required=True, help="of photos (.jpg)")
    arguments.add_argument("--against", type=Path, required=True, help="another checkout of this repository")
    arguments.add_argument("--repeats", type=int, default=5)
    arguments = arguments.parse_args()
    for side, num in ((500, 40), (2400, 8)):
        with tempfile.TemporaryDirectory() as scratch:
            photos(arguments.folder, Path(scratch), side, num)
            found = {"here": [], "against": []}
            for _ in range(arguments.repeats):
                for name, code in (("here", Path.cwd()), ("against", arguments.against)):
                    command = [sys.executable, "-c", PROGRAM, scratch]
                    told = subprocess.run(command, cwd=code, check=True, stdout=subprocess.PIPE).stdout
                    found[name].append(json.loads(told))
        rates = {name: [1000 / sum(each.values()) for each in times] for name, times in found.items()}
        for name, times in found.items():
            parts = ", ".join(f"{part} {statistics.median(each[part] for each in times):.2f}" for part in times[0])
            low, middle, high = min(rates[name]), statistics.median(rates[name]), max(rates[name])
            print(f"{side} px, {name}: {middle:.0f} images a second ({low:.0f} to {high:.0f}); ms each: {parts}")
        ratios = sorted(a / b for a, b in zip(rates["here"], rates["against"], strict=True))
        print(f"{side} px: ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()

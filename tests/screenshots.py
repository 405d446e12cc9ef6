"""Take the README's picture of the report: python -m tests.screenshots

After a `dvc repro`, whose metrics/compare.json the picture is stamped with; a test compares them.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

ROOT = Path(__file__).resolve().parents[1]
REPORT, PICTURE = ROOT / "metrics/report.html", ROOT / ".readme/report.png"
STAMP = "compare.json sha256"
SIZE = (800, 1240)


def compared() -> str:
    """What the picture is stamped with."""
    return hashlib.sha256((ROOT / "metrics/compare.json").read_bytes()).hexdigest()


def main() -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("error: no Chromium here (on Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "report.png"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={SIZE[0]},{SIZE[1]}"]
        words = [browser, *flags, f"--user-data-dir={folder}/browser", f"--screenshot={shot}", REPORT.as_uri()]
        subprocess.run(words, check=True, capture_output=True, timeout=120)
        stamp = PngInfo()
        stamp.add_text(STAMP, compared())
        with Image.open(shot) as image:
            image.convert("P", palette=Image.Palette.ADAPTIVE, colors=128).save(PICTURE, pnginfo=stamp, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

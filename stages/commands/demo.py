"""Write a page to try a model on: python -m stages demo FILE [--model FOLDER] [--runtime FILE]

FILE (.html) holds the exported model and ONNX Runtime Web, so it opens in a browser without internet access, and images that are
dropped on it stay on that computer. It answers as `predict` does. The runtime comes from the npm registry, through npm, and is
kept in .transfer; without npm, give its archive with --runtime.
"""

import argparse
import base64
import gzip
import html
import json
import tempfile
from pathlib import Path

from stages.commands import export
from stages.commands.predict import require_answers, shipped
from stages.lib.calibration import record
from stages.lib.core import cards, licences
from stages.lib.errors import UserError
from stages.lib.shell import npm

RUNTIME = npm.Package("onnxruntime-web", "1.30.0", "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71")
MEMBERS = {"runtime": "package/dist/ort.wasm.bundle.min.mjs", "wasm": "package/dist/ort-wasm-simd-threaded.wasm"}
LARGEST = 40_000_000  # bytes of a page that browsers and people still open
PARTS = Path(__file__).parent / "_demo"


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages demo", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("file", type=Path, help="ends in .html")
    parser.add_argument("--model", type=Path, help="folder of a model; default: the one that the comparison ships")
    parser.add_argument("--runtime", type=Path, help=f"the archive of {RUNTIME.name} {RUNTIME.version}, if npm is not here")
    asked = parser.parse_args(words)
    if asked.file.suffix != ".html":
        raise UserError(f"{asked.file}: the name must end in .html.")
    folder = asked.model or shipped()
    tensors, card = cards.read_model(folder)
    require_answers(card)
    export.require_use(card)
    if card.modality != "image" or card.task != "classify":
        raise UserError(
            f"{card.name} is a model of {card.modality} for the task {card.task}. A page can be made of one that tells classes "
            'of images apart; for others see "The shipped model" in stages/commands/README.md.'
        )
    runtime = parts(asked.runtime or fetched())
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "model.onnx"
        worst = export.export(tensors, card, record.of_model(folder, card), model)
        if worst > export.TOLERANCE:
            raise UserError(
                f"The exported model's predictions differ from the original's by up to {worst:.2g}; nothing was written."
            )
        text = page(card, model.read_bytes(), export.about(model), runtime)
    if len(text) > LARGEST:
        raise UserError(
            f"The page would have {len(text) / 1e6:.0f} MB, more than the {LARGEST / 1e6:.0f} MB that a browser opens well. "
            'Serve the model instead: "Over HTTP" in stages/commands/README.md.'
        )
    asked.file.parent.mkdir(parents=True, exist_ok=True)
    asked.file.write_text(text, encoding="utf-8")
    print(f"licences: {licences.use(card.licences)}")
    print(f"{asked.file}: {len(text) / 1e6:.1f} MB")


def page(card: cards.ModelCard, model: bytes, about: str, runtime: dict[str, bytes]) -> str:
    """The page.

    Args:
        model: an exported .onnx file.
        about: what it says of itself, as JSON.
        runtime: the contents of MEMBERS.
    """
    filled = {
        "data": html.escape(card.data or card.name),
        "classes": html.escape(", ".join(card.output_names or [])),
        "footer": html.escape(f"Model: {card.name}. Its licences: {licences.use(card.licences)}."),
        "runtime_version": RUNTIME.version,
        "card": json.dumps(json.loads(about), ensure_ascii=True).replace("<", "\\u003c"),
        "model": _packed(model),
        **{name: _packed(content) for name, content in runtime.items()},
        **{name: (PARTS / f"{name}.js").read_text(encoding="utf-8") for name in ("pixels", "page")},
    }
    text = (PARTS / "page.html").read_text(encoding="utf-8")
    for name, content in filled.items():
        text = text.replace(f"{{{{ {name} }}}}", content)
    return text


def fetched() -> Path:
    """The runtime's archive, from .transfer or else from the npm registry."""
    return npm.fetched(RUNTIME, f"name it: --runtime {RUNTIME.archive.name}")


def parts(archive: Path) -> dict[str, bytes]:
    """What a page needs of the runtime.

    Raises:
        UserError: it is not the archive that is expected.
    """
    return npm.members(archive, RUNTIME, MEMBERS, "; or name another: --runtime FILE")


def _packed(content: bytes) -> str:
    """Compressed, as text; equal contents give equal texts."""
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()

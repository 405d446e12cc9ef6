"""Show DVC's plots on a page that works without the internet: python -m stages plots [REVISION ...]

`dvc plots show` and, with revisions (experiments, commits), `dvc plots diff`, but with the library that draws the curves on the
page itself; DVC's own loads it from the internet. It comes from the npm registry, through npm, and is kept in .transfer.
"""

import argparse
import subprocess

from stages.lib.core import runs
from stages.lib.errors import UserError
from stages.lib.shell.npm import Package, fetched, members

LIBRARY = (  # the versions of DVC's page, in the order in which it loads them
    Package("vega", "5.20.2", "d77deab01d6104b1239228720721f93003e60797d2faced7ffdd759fa70f989d"),
    Package("vega-lite", "5.2.0", "f64ca4745f043447ac86b67dc9e9592ec2b85ac8b8dafc35faf970f142463e4b"),
    Package("vega-embed", "6.18.2", "93aeee312e92077b0252ef026c0fe0ec8fa430c19825aeada6cd3a6804e68e1b"),
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">{{refresh_tag}}
<title>DVC plots</title>
{scripts}
<style>table {{ border-spacing: 15px; }}</style>
</head>
<body>{{plot_divs}}</body>
</html>
"""


def main(words: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m stages plots", description=(__doc__ or "").partition(":")[0])
    parser.add_argument(
        "revisions", nargs="*", metavar="REVISION", help="experiments, branches, tags or commits to lay over each other"
    )
    asked = parser.parse_args(words)
    template = runs.state_folder() / "plots.html"
    template.parent.mkdir(parents=True, exist_ok=True)
    template.write_text(page([script(package) for package in LIBRARY]), encoding="utf-8")
    line = ["dvc", "plots", *(["diff", *asked.revisions] if asked.revisions else ["show"]), "--html-template", str(template)]
    try:
        if subprocess.run(line).returncode:
            raise UserError("dvc could not show the plots, see above.")
    except FileNotFoundError:
        raise UserError("dvc was not found. Activate the virtual environment first.") from None


def script(package: Package) -> str:
    """What a package runs in a browser, from its archive."""
    archive = fetched(package, f"copy it to {package.archive}")
    path = f"package/build/{package.name}.min.js"
    return members(archive, package, {"script": path}, "")["script"].decode()


def page(scripts: list[str]) -> str:
    """The page that DVC fills, with scripts in it."""
    inside = (each.replace("</script", "<\\/script") for each in scripts)
    return PAGE.format(scripts="\n".join(f"<script>{each}</script>" for each in inside))

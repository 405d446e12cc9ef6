"""Whether the licences of what the shipped model will be made of allow what `checks.use` asks for, before anything is fetched."""

from collections.abc import Mapping
from types import SimpleNamespace

from stages.lib.core import licences, plugins
from stages.lib.errors import listed
from stages.lib.params.schema import Dataset, Hop


def mistakes(p: SimpleNamespace, hops: Mapping[str, Hop], datasets: Mapping[str, Dataset]) -> list[str]:
    """The licences in the chains of the targets that do not allow it; invalid blocks are None and not looked at."""
    asked: licences.Asked = p.checks.use if p.checks else "any"
    found: dict[str, str] = {}
    data = {getattr(p.target, "data", None)}
    if _adapts(p):
        data.add(p.target.test)
    for init in p.inits or []:
        seen = set[str]()
        while init in hops and init not in seen:
            seen.add(init)
            data.add(hops[init].data)
            init = hops[init].init
        source = (p.source or {}).get(init)
        if source is not None:
            if source.weights != "random":
                found[f"source.{init}.licence"] = source.licence
            library = source.architecture.library if source.architecture else None
            if library in plugins.names("libraries"):
                found[f"source.{init}.architecture.library"] = plugins.load("libraries", library).LICENCE
    found |= {f"datasets.{name}.licence": datasets[name].licence for name in sorted(map(str, data)) if name in datasets}
    return [
        f"{path}: {licence!r} means {answer}, and checks.use asks for {asked} use ({listed(licences.ALLOWED[asked])}). Use "
        "something else, write the licence as an SPDX identifier (https://spdx.org/licenses), or set checks.use to any."
        for path, licence in found.items()
        if (answer := licences.of(licence)) not in licences.ALLOWED[asked]
    ]


def _adapts(p: SimpleNamespace) -> bool:
    """Whether the target is also trained on the inputs of the data that it is tested on."""
    known = p.target and p.strategy in plugins.names("strategies")
    return bool(known and getattr(plugins.load("strategies", p.strategy), "UNLABELLED", False))

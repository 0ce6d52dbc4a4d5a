"""`python -m hack.images.build`, or `make images`: builds KAITO's images, and pushes them where asked to.

Writes for each image DIR/<image>.json (name, id, digest in the registry) and DIR/<image>.cdx.json (what is in it).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hack.images import catalogue
from hack.images.catalogue import Recipe
from hack.images.engine import Base, BuildError, Built, Engine
from hack.images.sbom import write_sbom
from hack.images.wheelhouse import ROOT, gather, own_wheels
from kaito.catalog.lines import LINES

DEFAULT_BASE = "docker.io/library/python:3.12-slim"
DEFAULT_REGISTRY = "kaito"
FILE_MODE = 0o644


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        _build_all(options)
    except BuildError as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


def source_epoch() -> int:
    """The time that stands for every time in an image: SOURCE_DATE_EPOCH, else the last commit's, in seconds."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given:
        if not given.isdecimal():
            raise BuildError(f"SOURCE_DATE_EPOCH={given}: write seconds since 1970.")
        return int(given)
    command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
    try:
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    except (OSError, subprocess.CalledProcessError, ValueError):
        return 1577836800  # no checkout: 2020-01-01; zip files can't hold anything before 1980


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hack.images.build", description="Build KAITO's container images."
    )
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help=f"operator, puller, runtime-LINE or a preset's name (default: {' '.join(catalogue.DEFAULT)})",
    )
    parser.add_argument("--registry", default=DEFAULT_REGISTRY, help="what stands before every image's name")
    parser.add_argument("--tag", default=catalogue.default_tag(), help="of the operator")
    parser.add_argument("--base", default=DEFAULT_BASE, help="image with python3 that all are built on")
    parser.add_argument("--weights", type=Path, help="directory of the weights of the presets named here")
    parser.add_argument(
        "--runtime",
        default="",
        help=f"below the weights of the presets named here: {', '.join(line.name for line in LINES)}",
    )
    parser.add_argument("--tool", default="", help="buildah or docker (default: the first that is installed)")
    parser.add_argument("--push", action="store_true", help="push what was built")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "dist" / "images", help="where bills and digests go"
    )
    return parser


def _build_all(options: argparse.Namespace) -> None:
    wanted = options.images or list(catalogue.DEFAULT)
    recipes = [catalogue.recipe(name, options.tag, options.weights, options.runtime) for name in wanted]
    engine = Engine.find(options.tool)
    epoch = source_epoch()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="kaito-images-") as work:
        base = engine.probe(options.base)
        own = Path(work) / "own"
        own_wheels(epoch, own)
        for recipe in recipes:
            context = Path(work) / recipe.image
            arguments = _fill(context, recipe, base, own, epoch, options)
            _open_up(context)
            first, *others = recipe.names(options.registry)
            built = engine.build(context, first, arguments, epoch)
            shutil.rmtree(context)
            for name in others:
                engine.tag(first, name)
            pushed = [engine.push(name) for name in (first, *others)] if options.push else [None]
            _report(built, others, recipe, pushed[0], options.out)


def _fill(
    context: Path, recipe: Recipe, base: Base, own: Path, epoch: int, options: argparse.Namespace
) -> dict[str, str]:
    """Fills an image's build context; returns its build arguments."""
    context.mkdir()
    shutil.copy(ROOT / "images" / recipe.folder / "Dockerfile", context)
    if recipe.weights is not None:
        assert recipe.line is not None  # a preset has one
        _link(recipe.weights, context / "weights")
        runtime = catalogue.recipe(f"runtime-{recipe.line.name}", options.tag, None).name(options.registry)
        return {"RUNTIME": runtime, "PRESET": recipe.preset, "WEIGHTS": recipe.weights_name()}
    shutil.copy(ROOT / "images" / "install.sh", context)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kaito" / "images"
    wheels = gather(recipe.requirement, recipe.constraints, own, base, cache, context / "wheelhouse")
    bill = write_sbom(f"kaito/{recipe.image}", recipe.tag, wheels, base, epoch)
    for path in (context / "sbom.cdx.json", options.out / f"{recipe.image}.cdx.json"):
        path.write_text(bill, encoding="utf-8")
    digest = hashlib.sha256(bill.encode()).hexdigest()
    torch = {"TORCH": recipe.line.torch} if recipe.line is not None and recipe.line.torch else {}
    return {"BASE": base.name, "VERSION": recipe.tag, "SBOM_SHA256": digest, **torch}


def _link(source: Path, target: Path) -> None:
    """The directory with its files as hard links, because weights are large; copies where that can't be.

    In the image everybody may read them, whatever the umask of who downloaded them.
    """

    def link(one: str, two: str) -> None:
        if Path(one).stat().st_mode & 0o777 == FILE_MODE:
            try:
                os.link(one, two)
                return
            except OSError:  # another file system
                pass
        shutil.copyfile(one, two)

    shutil.copytree(source.resolve(), target, copy_function=link)


def _open_up(context: Path) -> None:
    """The same modes whoever builds: they are part of the digest, and a pod's user reads these files."""
    for path in (context, *context.rglob("*")):
        mode = 0o755 if path.is_dir() or path.suffix == ".sh" else FILE_MODE
        if path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)


def _report(built: Built, others: Sequence[str], recipe: Recipe, pushed: str | None, out: Path) -> None:
    record = {
        "name": built.name,
        **({"names": [built.name, *others]} if others else {}),
        "id": built.id,
        **({"digest": pushed} if pushed else {}),
    }
    text = json.dumps(record, indent=2) + "\n"
    (out / f"{recipe.image}.json").write_text(text, encoding="utf-8")
    print(f"{built.name} {built.id}" + (f" pushed as {pushed}" if pushed else ""), flush=True)
    if others:
        print(f"  also {', '.join(name.rpartition(':')[2] for name in others)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

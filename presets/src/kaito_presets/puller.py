"""`kaito-pull`: copies the payload of an adapter image (its files under /data) into a directory.

Runs as the init container of a pod that uses the adapter. The directory appears whole or not at all, and a second run
(a restarted pod) finds what is there and does nothing. Images come from their registry, with the credentials of the
docker config.json files below /root/.docker/config.d; where KAITO_IMAGE_MAP is set, only from OCI image layouts on
disk: it is a JSON object {"REFERENCE": "oci:/path"} whose paths are this machine's own.

Exit codes: 0 done, 2 wrong arguments, 6 the image can't be used.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from kaito_presets import paths
from kaito_presets.oci import MAX_PAYLOAD_BYTES, BadImage, ImageLayout, NotThere
from kaito_presets.registry import Reference, Registry, credentials
from kaito_presets.weights import artifact

EXIT_USAGE = 2
EXIT_BAD_IMAGE = 6
#: Directory of an adapter image that holds the adapter.
PAYLOAD = "data"
#: Directory with a directory for each pull secret, in which its config.json lies.
DOCKER_CONFIGS = "/root/.docker/config.d"
#: Written last; tells which manifest the directory came from.
DONE_FILE = ".kaito-pulled"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _fail(EXIT_USAGE, f"{message[:1].upper()}{message[1:]}. See kaito-pull --help.")


def _fail(code: int, sentence: str) -> NoReturn:
    print(f"kaito-pull: {sentence}", file=sys.stderr, flush=True)
    paths.termination_log(sentence)
    sys.exit(code)


def layout_of(image: str, image_map: str) -> Path:
    """Where the layout of an image reference is, by the JSON of KAITO_IMAGE_MAP. Raises BadImage with a sentence."""
    try:
        mapping = json.loads(image_map or "{}")
    except ValueError as error:
        raise BadImage(
            'KAITO_IMAGE_MAP is not JSON; write {"REFERENCE": "oci:/path/of/a/layout"}.'
        ) from error
    place = mapping.get(image) if isinstance(mapping, dict) else None
    if place is None:
        raise NotThere(
            f"The image {image} can't be pulled: this machine takes images from layouts alone. "
            f"Map it to an OCI image layout on this machine, for example with "
            f"kaito local up --image {image}=oci:/path/of/the/layout"
        )
    scheme, _, path = str(place).partition(":")
    if scheme != "oci" or not path:
        raise BadImage(f"The image {image} is mapped to {place!r}; write oci:/path/of/a/layout.")
    return Path(path)


def registry_of(image: str) -> Registry:
    """The image's registry, with the credentials that the pod was given for it. Raises BadImage."""
    reference = Reference.parse(image)
    try:
        configs = sorted(paths.resolve(DOCKER_CONFIGS).glob("*/config.json"))
    except (
        PermissionError
    ):  # outside of our images, whose /root is open: nothing was mounted for this user there
        configs = []
    return Registry(reference, credentials(configs, reference.registry))


def pull(layout: Path, output: Path) -> str:
    """Makes `output` hold the payload of a layout's image; see `pull_from`."""
    return pull_from(artifact.Local(ImageLayout(layout)), output)


def pull_from(store: artifact.Store, output: Path) -> str:
    """Makes `output` hold the image's payload and returns a sentence about it. Raises BadImage, OSError.

    The files are unpacked beside `output` and moved into place in one step. If `output` already holds this image,
    nothing is written; if it is an empty directory (a volume's mount point) or holds another image, it is replaced.
    """
    identity = json.dumps(store.manifest(), sort_keys=True)
    done = output / DONE_FILE
    if done.is_file() and done.read_text(encoding="utf-8") == identity:
        return f"{output.name} is there already."
    output.parent.mkdir(parents=True, exist_ok=True)
    for stale in output.parent.glob(f".{output.name}.*"):  # of a pull that was killed
        shutil.rmtree(stale, ignore_errors=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        fresh = scratch / "new"
        names = artifact.pull(store, fresh, (PAYLOAD,), limit=MAX_PAYLOAD_BYTES)
        size = sum((fresh / name).stat().st_size for name in names)
        (fresh / DONE_FILE).write_text(identity, encoding="utf-8")
        if output.exists():
            output.replace(scratch / "old")
        fresh.replace(output)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return f"Unpacked {len(names)} files ({size:,} bytes) to {output.name}: {', '.join(names[:5])}."


def main(arguments: Sequence[str] | None = None) -> None:
    """Pulls one image."""
    parser = _Parser(
        prog="kaito-pull", description="Copies an adapter image's /data to a directory.", allow_abbrev=False
    )
    parser.add_argument("--image", required=True, metavar="REF", help="reference of the image")
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="directory to make, e.g. /mnt/adapter/NAME"
    )
    options = parser.parse_args(arguments)
    try:
        images = os.environ.get("KAITO_IMAGE_MAP")
        output = paths.resolve(options.output)
        if images is None:
            print(pull_from(artifact.Remote(registry_of(options.image)), output), flush=True)
        else:
            print(pull(layout_of(options.image, images), output), flush=True)
    except BadImage as error:
        _fail(EXIT_BAD_IMAGE, str(error))
    except OSError as error:
        _fail(EXIT_BAD_IMAGE, f"The image {options.image} can't be unpacked: {error.strerror}.")


if __name__ == "__main__":
    main()

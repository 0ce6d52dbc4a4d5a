"""`kaito-weights`: puts a model's weights where the server of the same pod finds them, or checks what is there.

    kaito-weights --repository=ORG/MODEL --revision=COMMIT --output=/workspace/weights [--share=1/4]
    kaito-weights --image=REGISTRY/NAME:TAG --output=/workspace/weights
    kaito-weights --check=/workspace/weights
    kaito-weights --look --image=… | --check=…

Runs as an init container. A download is resumed where it was interrupted, each file is verified, and the container's
last sentence (its termination message, which the pod's status shows) says how far it is. With --share=K/N it ends when
that part is there: N containers, one after the other, then tell of a long download while it lasts.

With --look nothing is fetched but config.json and the headers of the weight files, so that a pod without a GPU can
tell what another one will find. The last sentence is then JSON: {"bytes": of the weight files that load, "files": how
many, "quantization": method or null, "digest": of the manifest, for an image from a registry}.

Exit codes: 0 done, 1 the disk, 2 wrong arguments, 5 these weights can't be served, 6 they can't be had. With --look
also 7 they can't be looked at before they are pulled, 8 there are none, 9 nobody may pull with these credentials.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from kaito_presets import paths
from kaito_presets.oci import BadImage, ImageLayout, NotThere
from kaito_presets.puller import layout_of, registry_of
from kaito_presets.registry import Refused
from kaito_presets.weights import artifact, look, shared
from kaito_presets.weights.check import Unfit, check
from kaito_presets.weights.fetch import Progress, download, verify
from kaito_presets.weights.hub import Hub, HubError
from kaito_presets.weights.parts import Unseen
from kaito_presets.weights.plan import SPARE_DISK_BYTES, DoesNotFit, Plan, check_fit, gigabytes, pod_plan

EXIT_DISK = 1
EXIT_USAGE = 2
EXIT_UNFIT = 5
EXIT_UNAVAILABLE = 6
EXIT_UNSEEN = 7
EXIT_NOT_THERE = 8
EXIT_REFUSED = 9
#: Seconds between two lines of the log.
LOG_EVERY = 10.0
#: Which repository and commit the directory is of.
SOURCE_FILE = ".kaito-source"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _fail(EXIT_USAGE, f"{message[:1].upper()}{message[1:]}. See kaito-weights --help.")


def _say(sentence: str) -> None:
    print(sentence, flush=True)
    paths.termination_log(sentence)


def _fail(code: int, sentence: str) -> NoReturn:
    print(f"kaito-weights: {sentence}", file=sys.stderr, flush=True)
    paths.termination_log(sentence)
    sys.exit(code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetches or checks once."""
    options = _parser().parse_args(arguments)
    if options.look:
        _look(options)
        return
    try:
        if options.check:
            _say(check(paths.resolve(options.check), options.check, options.expect))
            return
        if not options.output:
            _fail(EXIT_USAGE, "Say where the files go, with --output.")
        directory = paths.resolve(options.output)
        if options.image:
            _say(from_image(options.image, directory, options.expect))
        else:
            _say(from_hub(options, directory))
    except Unfit as error:
        _fail(EXIT_UNFIT, str(error))
    except (HubError, BadImage, DoesNotFit) as error:
        _fail(EXIT_UNAVAILABLE, str(error))
    except OSError as error:
        place = shared.shared_directory() or options.output
        _fail(EXIT_DISK, f"The weights can't be written to {place}: {error.strerror or error}.")


def _look(options: argparse.Namespace) -> None:
    if options.repository:
        _fail(EXIT_USAGE, "--look goes with --image or --check; a repository's files are listed by its hub.")
    try:
        if options.check:
            found = look.at_directory(options.check, options.expect, mistral=options.format == "mistral")
        else:
            found = look.at_image(options.image, options.expect, mistral=options.format == "mistral")
        _say(json.dumps(found))
    except Unfit as error:
        _fail(EXIT_UNFIT, str(error))
    except Unseen as error:
        _fail(EXIT_UNSEEN, str(error))
    except (NotThere, FileNotFoundError) as error:
        _fail(EXIT_NOT_THERE, str(error))
    except Refused as error:
        _fail(EXIT_REFUSED, str(error))
    except BadImage as error:
        _fail(EXIT_UNAVAILABLE, str(error))
    except OSError as error:
        _fail(EXIT_UNAVAILABLE, f"The weights of {options.image or options.check} can't be read: {error}.")


def from_hub(options: argparse.Namespace, directory: Path) -> str:
    """Downloads the share that was asked for; of the last one all is checked. Raises HubError, Unfit, OSError."""
    hub = Hub()
    revision = _revision(hub, options.repository, options.revision, directory)
    share, shares = options.share
    log = _Log(options.repository)
    with shared.place(directory, options.repository, revision) as place:
        plan = pod_plan(hub, options.repository, revision, place, mistral=options.format == "mistral")
        _room(plan)
        until = None if share == shares else plan.total * share // shares
        download(plan, hub, log, until=until)
        if until is None:
            shared.hand_over((file.place for file in plan.files), place, directory)
    where = f"{plan.repository} at {revision[:12]}"
    if until is not None:
        return f"{gigabytes(max(until, log.done))} of the {gigabytes(plan.total)} of {where} are there{log.speed()}"
    if options.expect:
        check(directory, plan.repository, options.expect)
    return f"{where}: {len(plan.files)} files, {gigabytes(plan.total)}, verified"


def _revision(hub: Hub, repository: str, wanted: str, directory: Path) -> str:
    """The commit, found out once for all containers of the pod: a branch may move between them."""
    known = directory / SOURCE_FILE
    told = known.read_text(encoding="utf-8").split() if known.is_file() else []
    if len(told) == 3 and told[:2] == [repository, wanted]:
        return told[2]
    commit = hub.commit(repository, wanted)
    directory.mkdir(parents=True, exist_ok=True)
    if told:
        verify(pod_plan(hub, repository, commit, directory))
    known.write_text(f"{repository} {wanted} {commit}", encoding="utf-8")
    return commit


def from_image(image: str, directory: Path, expected: dict[str, Any]) -> str:
    """Pulls and checks. Raises BadImage, Unfit, OSError."""
    images = os.environ.get("KAITO_IMAGE_MAP")
    store: artifact.Store
    if images is not None:
        store = artifact.Local(ImageLayout(layout_of(image, images)))
        total = 0
    else:
        registry = registry_of(image)
        total = artifact.layers_size(registry.manifest())
        log = _Log(image)
        store = artifact.Remote(registry, lambda size: log.came(size, total))
    _check_room(directory, total, image)
    files = len(artifact.pull(store, directory))
    check(directory, image, expected)
    return f"{image}: {files} files, {gigabytes(total)}, verified" if total else f"{image}: {files} files"


def _room(plan: Plan) -> None:
    if shared.shared_directory() is not None:
        check_fit(plan)  # the memory that the server will have is this machine's
    else:
        _check_room(plan.directory, plan.missing, plan.repository)


def _check_room(directory: Path, missing: int, source: str) -> None:
    existing = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if missing and free < missing + SPARE_DISK_BYTES:
        raise HubError(
            f"{source} needs {gigabytes(missing + SPARE_DISK_BYTES)} of disk, and {gigabytes(free)} are free. Name a "
            "storage class of larger disks in weights.storageClassName, or a size with a larger disk."
        )


class _Log:
    """Writes a line now and then, and remembers the last figures."""

    def __init__(self, source: str, now: Callable[[], float] = time.monotonic) -> None:
        self._source = source
        self._now = now
        self._last = now()
        self._progress: Progress | None = None
        self.done = 0

    def __call__(self, progress: Progress) -> None:
        self._progress, self.done = progress, progress.done
        self._line(progress.done, progress.total)

    def came(self, size: int, total: int) -> None:
        """So many bytes more."""
        self.done += size
        self._line(self.done, total)

    def _line(self, done: int, total: int) -> None:
        if self._now() - self._last >= LOG_EVERY:
            self._last = self._now()
            print(f"{self._source}: {gigabytes(done)} of {gigabytes(total)}{self.speed()}", flush=True)

    def speed(self) -> str:
        """How fast, and how long still, as the end of a sentence; "" while nobody knows."""
        if self._progress is None or self._progress.seconds_left is None or self._progress.speed < 1e6:
            return ""
        left = round(self._progress.seconds_left)
        time_left = f"{left} s" if left < 120 else f"{left // 60} min"
        return f" ({self._progress.speed / 1e6:.0f} MB/s, about {time_left} left)"


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kaito-weights", description="Fetches or checks a model's weights.", allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--repository", metavar="ORG/NAME", help="repository of the hub (HF_ENDPOINT, HF_TOKEN)"
    )
    source.add_argument("--image", metavar="REF", help="image or OCI artifact")
    source.add_argument("--check", metavar="DIR", help="fetch nothing: check this directory")
    parser.add_argument(
        "--look", action="store_true", help="fetch nothing: tell, as JSON, what an image or directory holds"
    )
    parser.add_argument("--revision", default="main", help="commit, tag or branch (default: %(default)s)")
    parser.add_argument(
        "--format", choices=("auto", "mistral"), default="auto", help="which files, of a place with both"
    )
    parser.add_argument("--output", metavar="DIR", help="where the files go")
    parser.add_argument(
        "--share", type=_share, default=(1, 1), metavar="K/N", help="end when K of N parts are there"
    )
    parser.add_argument(
        "--expect", type=_object, default={}, metavar="JSON", help="what the weights have to be like"
    )
    return parser


def _share(text: str) -> tuple[int, int]:
    part, _, whole = text.partition("/")
    if not (part.isdecimal() and whole.isdecimal() and 1 <= int(part) <= int(whole)):
        raise argparse.ArgumentTypeError(f"{text!r} is no share such as 1/4")
    return int(part), int(whole)


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError("is no JSON object")
    return found


if __name__ == "__main__":
    main()

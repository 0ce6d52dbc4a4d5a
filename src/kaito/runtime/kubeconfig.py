"""A context of a kubeconfig: which cluster, as which user.

Finding, merging and resolving the files is left to `kubernetes_asyncio.config`. What it would do next (writing
keys to files that stay, running plugins without a time limit or under a terminal) is done elsewhere here.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from kaito.runtime.config_import import config_modules
from kaito.runtime.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Section:
    """A cluster or a user, and the directory that its relative paths start from."""

    body: Mapping[str, Any] = field(repr=False)
    base: Path
    where: str

    def text(self, key: str) -> str | None:
        """A value that must be text. Raises ConfigurationError."""
        value = self.body.get(key)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise ConfigurationError(f"{self.where}: {key} must be text")
        return value

    def file(self, key: str) -> Path | None:
        """The path in `key`; None where `key`-data is there, which takes precedence."""
        name = self.text(key)
        return None if name is None or self.text(f"{key}-data") else self.base / name

    def pem(self, key: str) -> bytes | None:
        """What `key`-data holds, or the file that `key` names. Raises ConfigurationError."""
        data = self.text(f"{key}-data")
        if data is not None:
            try:
                return base64.b64decode(data, validate=True)
            except binascii.Error as error:
                raise ConfigurationError(f"{self.where}: {key}-data is not base64") from error
        file = self.file(key)
        if file is None:
            return None
        try:
            return file.read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{self.where}: {key} {file}: {error.strerror or error}") from error


@dataclass(frozen=True, slots=True)
class Context:
    """One context, resolved. `server` is its cluster's URL."""

    name: str
    namespace: str
    server: str
    cluster: Section
    user: Section


def default_paths() -> str:
    """$KUBECONFIG, else ~/.kube/config."""
    return os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


def load_context(paths: str, context: str | None) -> Context:
    """Reads the files in `paths` (separated as in $KUBECONFIG) and picks a context, by default the current one.

    Raises ConfigurationError, which names the file and what to do.
    """
    kube_config = config_modules().kube_config
    files = [Path(part).expanduser() for part in paths.split(os.pathsep) if part]
    present = [file for file in files if file.is_file()]
    if not present:
        raise ConfigurationError(
            f"kubeconfig not found: {', '.join(map(str, files)) or '(no path given)'}. "
            "Write the path of one into $KUBECONFIG."
        )
    for file in present:
        _check_file(file)
    config = kube_config.KubeConfigMerger(os.pathsep.join(map(str, present))).config
    contexts = {each["name"]: each["context"] for each in (node.value for node in config.value["contexts"])}
    known = f"Known contexts: {', '.join(sorted(contexts)) or '(none)'}."
    name = context or config.value.get("current-context")
    if not name:
        raise ConfigurationError(
            f"kubeconfig {paths} has no current-context; choose one: kubectl config use-context NAME. {known}"
        )
    if name not in contexts:
        raise ConfigurationError(f"kubeconfig {paths} has no context {name!r}. {known}")
    where = f"kubeconfig {paths}, context {name!r}"
    try:
        loader = kube_config.KubeConfigLoader(config_dict=config, active_context=name, config_base_path=None)
        cluster = _section(loader, loader._cluster, f"{where}, cluster")
        user = _section(loader, loader._user, f"{where}, user")
    except (kube_config.ConfigException, KeyError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{where}: {error}") from error
    server = cluster.text("server")
    if not server:
        raise ConfigurationError(f"kubeconfig {paths}: the cluster of context {name!r} has no server")
    if not server.startswith(("http://", "https://")):
        raise ConfigurationError(f"{where}: server {server!r} is no URL; write https://HOST:PORT")
    namespace = (contexts[name] or {}).get("namespace") or "default"
    return Context(name, namespace, server.rstrip("/"), cluster, user)


def _section(loader: Any, node: Any, where: str) -> Section:
    """Anonymous users have no section, or one without a body."""
    if node is None:
        return Section({}, Path(), where)
    return Section(dict(node.value), Path(loader._get_base_path(node.path) or "."), where)


def _check_file(file: Path) -> None:
    try:
        tree = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"kubeconfig {file} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigurationError(f"kubeconfig {file}{where} is not YAML") from error
    if not isinstance(tree, dict):
        raise ConfigurationError(
            f"kubeconfig {file} is empty or not a kubeconfig (no clusters, contexts, users)"
        )
    for part, body in (("contexts", "context"), ("clusters", "cluster"), ("users", "user")):
        entries = tree.get(part) or []
        if not isinstance(entries, list):
            raise ConfigurationError(f"kubeconfig {file}: {part} must be a list")
        for index, entry in enumerate(entries):
            if not isinstance(entry, dict) or not entry.get("name") or body not in entry:
                raise ConfigurationError(f"kubeconfig {file}: {part}[{index}] needs a name and a {body}")

"""kubernetes_asyncio's `config` package without the 1,500 generated model modules that come with it.

An ordinary `from kubernetes_asyncio import config` loads the whole package, 40 MB of it, although `config` uses
nothing but the names `Configuration` and `ApiClient`. Here its modules are executed under an import function of
their own, in which the package and its `client` are stand-ins. Nothing of this is ever in `sys.modules`, so
whoever imports kubernetes_asyncio, before, after or from another thread at the same moment, gets the whole
package and never sees a stand-in.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.machinery
import importlib.util
import threading
from collections.abc import Mapping, Sequence
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

_PACKAGE = "kubernetes_asyncio"
_lock = threading.Lock()
_loaded: list[ConfigModules] = []


class ConfigModules(NamedTuple):
    """The two modules of `kubernetes_asyncio.config` in use."""

    kube_config: Any
    incluster_config: Any


def config_modules() -> ConfigModules:
    """The modules, executed at the first call. Raises ImportError where the package is not installed.

    A version of the package that needs more of its own client than the two names is imported the ordinary way, at
    its full cost.
    """
    with _lock:
        if not _loaded:
            _loaded.append(_load())
        return _loaded[0]


def _load() -> ConfigModules:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("kubernetes_asyncio is not installed; it is a dependency of kaito")
    loader: _Ordinary | _Apart = _Apart(list(spec.submodule_search_locations))
    try:
        return _both(loader)
    except (ImportError, AttributeError):
        return _both(_Ordinary())


def _both(loader: _Ordinary | _Apart) -> ConfigModules:
    return ConfigModules(
        loader.load(f"{_PACKAGE}.config.kube_config"), loader.load(f"{_PACKAGE}.config.incluster_config")
    )


class _Ordinary:
    """What everybody else uses."""

    def load(self, name: str) -> ModuleType:
        return importlib.import_module(name)


class _Apart:
    """Executes modules of the package and keeps them to itself."""

    def __init__(self, search: list[str]) -> None:
        package = ModuleType(_PACKAGE)
        package.__path__ = search
        client = ModuleType(f"{_PACKAGE}.client")
        # Only named in annotations and in helpers that are not called here.
        vars(client).update(Configuration=SimpleNamespace, ApiClient=SimpleNamespace)
        vars(package).update(client=client)
        self.modules = {_PACKAGE: package, client.__name__: client}
        self._builtins = {**vars(builtins), "__import__": self._import}

    def load(self, name: str) -> ModuleType:
        if name in self.modules:
            return self.modules[name]
        parent_name, _, tail = name.rpartition(".")
        parent = self.load(parent_name)
        if name in self.modules:  # the parent imported it
            return self.modules[name]
        spec = importlib.machinery.PathFinder.find_spec(name, getattr(parent, "__path__", []))
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        module = importlib.util.module_from_spec(spec)
        vars(module)["__builtins__"] = self._builtins
        self.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del self.modules[name]
            raise
        setattr(parent, tail, module)
        return module

    def _import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """What an `import` statement inside the package calls."""
        if level:
            name = importlib.util.resolve_name("." * level + name, str((globals or {})["__package__"]))
        if name.partition(".")[0] != _PACKAGE:
            return builtins.__import__(name, globals, locals, fromlist or (), 0)
        module = self.load(name)
        if not fromlist:
            return self.modules[_PACKAGE]
        for attribute in fromlist:
            if not hasattr(module, attribute) and hasattr(module, "__path__"):
                self.load(f"{name}.{attribute}")
        return module

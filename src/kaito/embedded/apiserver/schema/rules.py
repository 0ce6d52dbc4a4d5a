"""CEL rules (`x-kubernetes-validations`): compiled once per definition, evaluated per object.

Values are shown to CEL as their schema declares them: undeclared fields are invisible, numbers are doubles,
date-times are timestamps. A rule that cannot be compiled, or uses a function that does not exist here, makes the
whole definition invalid, by name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

import cel
import orjson

from kaito.embedded.apiserver.schema.formats import parse_date_time, parse_duration
from kaito.embedded.apiserver.schema.functions import EXTENSIONS, NATIVE, TYPE_NAMES
from kaito.embedded.apiserver.schema.node import Node
from kaito.embedded.apiserver.schema.validate import ABSENT, key_of, keyed
from kaito.embedded.apiserver.strategy import DUPLICATE, FORBIDDEN, INVALID, REQUIRED, FieldError

_STRING = re.compile(r"""[rR]?("{3}.*?"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*')""", re.DOTALL)
_BOUND = re.compile(r"\.(?:all|exists|exists_one|map|filter|existsOne)\s*\(\s*([A-Za-z_]\w*)\s*,")
_CHAIN = re.compile(r"(?<![\w.\])])(self|oldSelf)((?:\.[A-Za-z_]\w*)+)(\s*\()?")
_USE = re.compile(
    r"(?<![\w.])(self|oldSelf)\b(?:(?:\.value\(\))?\.([A-Za-z_]\w*)(?!\w*\s*\()|(\.hasValue\(\)))?"
)
_REASONS = {
    "FieldValueInvalid": INVALID,
    "FieldValueForbidden": FORBIDDEN,
    "FieldValueRequired": REQUIRED,
    "FieldValueDuplicate": DUPLICATE,
}
REASONS = tuple(_REASONS)
MAX_MESSAGE = 5120
"""Characters of an evaluated messageExpression (Kubernetes' limit)."""
REMEMBERED = 4096
"""Values known to keep the transition rules when they stay as they are."""


class RuleError(ValueError):
    """A rule that cannot be used; the text is for the author of the definition."""


class Rule:
    """One compiled rule."""

    __slots__ = (
        "field_path", "functions", "message", "message_program", "optional", "program", "texts", "type", "uses_old",
    )  # fmt: skip

    def __init__(self, source: dict[str, Any], node: Node, *, root: bool) -> None:
        text = source.get("rule", "")
        self.program, self.functions = _compile(text, node, root=root)
        self.texts = [text, source.get("messageExpression") or ""]
        self.uses_old = "oldSelf" in self.program.variables()
        self.optional = bool(source.get("optionalOldSelf"))
        self.message: str = source.get("message", "") or f"failed rule: {text.strip()}"
        self.type = _REASONS.get(source.get("reason", ""), INVALID)
        self.field_path: str = source.get("fieldPath", "")
        self.message_program: cel.Program | None = None
        if source.get("messageExpression"):
            self.message_program, more = _compile(source["messageExpression"], node, root=root)
            self.functions = {**self.functions, **more}

    def text(self, context: cel.Context) -> str:
        """What to tell the user."""
        if self.message_program is not None:
            try:
                result = self.message_program.execute(context)
            except Exception:
                return self.message
            if (
                isinstance(result, str)
                and result.strip()
                and "\n" not in result
                and len(result) <= MAX_MESSAGE
            ):
                return result
        return self.message


def _compile(text: str, node: Node, *, root: bool) -> tuple[cel.Program, dict[str, Any]]:
    compiled = compile_expression(text, ("self", "oldSelf"))
    _check_fields(_STRING.sub('""', text), node, root=root)
    return compiled


def compile_expression(text: str, variables: Collection[str]) -> tuple[cel.Program, dict[str, Any]]:
    """A CEL expression over some variables, with the functions that its evaluation context must be given.

    Raises:
        RuleError: it does not compile, or uses a variable or a function that does not exist here.
    """
    try:
        program = cel.compile(text)
    except ValueError as error:
        raise RuleError(f"compilation failed: {error}") from error
    bound = set(_BOUND.findall(_STRING.sub('""', text)))
    for name in program.variables():
        if name not in bound and name not in variables and name not in TYPE_NAMES:
            raise RuleError(f"compilation failed: undeclared reference to '{name}' (in container '')")
    functions: dict[str, Any] = {}
    for name in program.functions():
        if name in EXTENSIONS:
            functions[name] = EXTENSIONS[name]
        elif name not in NATIVE and re.match(r"[A-Za-z]", name):
            raise RuleError(
                f"compilation failed: undeclared reference to '{name}': this API server does not implement "
                f"the CEL function {name}()"
            )
    return program, functions


def _check_fields(text: str, node: Node, *, root: bool) -> None:
    """Refuse `self.a.b` where the schema has no such field."""
    for match in _CHAIN.finditer(text):
        names = match.group(2)[1:].split(".")
        if match.group(3):
            names.pop()
        current: Node | None = node
        for depth, name in enumerate(names):
            if current is None or current.type not in ("object", "") or current.int_or_string:
                if current is not None and current.type:
                    raise RuleError(
                        f"compilation failed: type '{current.type}' does not support field selection"
                    )
                break
            if current.additional is not None:
                current = current.additional
                continue
            if (current.embedded or (root and depth == 0)) and name in ("metadata", "apiVersion", "kind"):
                break
            found = current.properties.get(current.aliases.get(name, ""))
            if found is None and (current.properties or current.type == "object"):
                raise RuleError(f"compilation failed: undefined field '{name}'")
            current = found


def shown(node: Node, value: Any, *, root: bool = False, names: frozenset[str] | None = None) -> Any:
    """`value` as CEL sees it; `names` limits an object to the properties that are looked at."""
    if isinstance(value, dict):
        if node.additional is not None:
            extra = node.additional
            return {key: shown(extra, item) for key, item in value.items()}
        properties = node.properties
        result = {
            alias: shown(properties[key], value[key])
            for alias, key in node.aliases.items()
            if key in value and (names is None or alias in names)
        }
        if root or node.embedded:
            meta = value.get("metadata") or {}
            result["metadata"] = {key: meta[key] for key in ("name", "generateName") if key in meta}
            for key in ("apiVersion", "kind"):
                if key in value:
                    result[key] = value[key]
        return result
    if isinstance(value, list):
        return [shown(node.items, item) for item in value] if node.items else value
    return _shown_scalar(node, value)


def _names_used(texts: list[str]) -> frozenset[str] | None:
    """Properties of self that expressions look at; None if one of them takes self as a whole."""
    names: set[str] = set()
    for text in texts:
        for match in _USE.finditer(_STRING.sub('""', text)):
            if match.group(2):
                names.add(match.group(2))
            elif not match.group(3):
                return None
    return frozenset(names)


def _shown_scalar(node: Node, value: Any) -> Any:
    if node.type == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and node.format in ("date-time", "duration"):
        try:
            return parse_date_time(value) if node.format == "date-time" else parse_duration(value)
        except ValueError:
            return value
    return value


class RuleSet:
    """All rules of one schema, by node. Raises RuleError with the path of the rule on construction."""

    def __init__(self, node: Node) -> None:
        self._rules: dict[int, list[Rule]] = {}
        self._names: dict[int, frozenset[str] | None] = {}
        self._settled: set[tuple[int, bytes]] = set()
        self.problems: list[tuple[str, str]] = []
        """(path below the schema, what is wrong) of rules that cannot be used."""
        for path, each, correlated in _nodes_with_rules(node, "", True):
            compiled: list[Rule] = []
            for index, source in enumerate(each.rules):
                here = f"{path}.x-kubernetes-validations[{index}]"
                try:
                    rule = Rule(source, each, root=each is node)
                except RuleError as error:
                    self.problems.append((f"{here}.rule", str(error)))
                    continue
                if rule.uses_old and not correlated:
                    text = "oldSelf cannot be used on the uncorrelatable portion of the schema"
                    self.problems.append((f"{here}.rule", text))
                if rule.optional and not rule.uses_old:
                    text = "may not be set to true if oldSelf is not used in rule"
                    self.problems.append((f"{here}.optionalOldSelf", text))
                compiled.append(rule)
            self._rules[id(each)] = compiled
            self._names[id(each)] = _names_used([text for rule in compiled for text in rule.texts])

    def check(self, node: Node, value: Any, old: Any, path: str, *, root: bool = False) -> list[FieldError]:
        """Evaluate all rules in `value` and below; `old` is ABSENT where there is nothing to compare with."""
        errors: list[FieldError] = []
        self._walk(node, value, old, path, errors, root)
        return errors

    def _walk(
        self, node: Node, value: Any, old: Any, path: str, errors: list[FieldError], root: bool
    ) -> None:
        if value is None or not node.has_rules:
            return
        if node.rules:
            self._evaluate(node, value, old, path, errors, root)
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            for key, item in value.items():
                child = node.properties.get(key) or node.additional
                if child is not None and child.has_rules:
                    here = f"{path}.{key}" if path else key
                    self._walk(child, item, before.get(key, ABSENT), here, errors, False)
        elif isinstance(value, list) and node.items is not None and node.items.has_rules:
            if node.list_type != "map" and value == old:
                return  # its items correspond to nothing, but what is unchanged as a whole passes
            pairs = keyed(node, old) if node.list_type == "map" and isinstance(old, list) else {}
            for index, item in enumerate(value):
                previous = pairs.get(key_of(node, item) or (), ABSENT)
                self._walk(node.items, item, previous, f"{path}[{index}]", errors, False)

    def _evaluate(
        self, node: Node, value: Any, old: Any, path: str, errors: list[FieldError], root: bool
    ) -> None:
        has_old = old is not ABSENT and old is not None
        unchanged = has_old and value == old
        if unchanged and not root:
            self._evaluate_unchanged(node, value, path, errors)
        else:
            self._evaluate_all(node, value, old, path, errors, root=root, unchanged=unchanged)

    def _evaluate_unchanged(self, node: Node, value: Any, path: str, errors: list[FieldError]) -> None:
        """The same, once for each value: CEL is pure, so a value that may stay as it is may do so again.

        Status writes leave the whole spec as it is, and there are many of them.
        """
        key = id(node), orjson.dumps(value)
        if key in self._settled:
            return
        found: list[FieldError] = []
        self._evaluate_all(node, value, value, path, found, root=False, unchanged=True)
        errors += found
        if not found:
            if len(self._settled) >= REMEMBERED:
                self._settled.clear()
            self._settled.add(key)

    def _evaluate_all(
        self,
        node: Node,
        value: Any,
        old: Any,
        path: str,
        errors: list[FieldError],
        *,
        root: bool,
        unchanged: bool,
    ) -> None:
        has_old = old is not ABSENT and old is not None
        names = self._names[id(node)]
        context: cel.Context | None = None
        plain: Any = ABSENT
        optional: Any = None
        for rule in self._rules[id(node)]:
            if (rule.uses_old and not has_old and not rule.optional) or (unchanged and not rule.uses_old):
                continue
            if context is None:
                view = shown(node, value, root=root, names=names)
                context = cel.Context({"self": view})
                if has_old:
                    plain = view if unchanged else shown(node, old, root=root, names=names)
            for name, function in rule.functions.items():
                context.add_function(name, function)
            if rule.optional:
                if optional is None:
                    optional = cel.OptionalValue.of(plain) if has_old else cel.OptionalValue.none()
                    context.add_variable("oldSelf", optional)
            elif rule.uses_old:
                context.add_variable("oldSelf", plain)
                optional = None
            error = _outcome(rule, context, node, path)
            if error is not None:
                errors.append(error)


def _outcome(rule: Rule, context: cel.Context, node: Node, path: str) -> FieldError | None:
    where = path or "<nil>"
    try:
        passed = rule.program.execute(context)
    except KeyError as error:
        return FieldError(
            where, INVALID, f"no such key: {error.args[0]} evaluating rule: {rule.message}", node.type
        )
    except Exception as error:
        return FieldError(where, INVALID, f"{error} evaluating rule: {rule.message}", node.type)
    if passed is True:
        return None
    if rule.field_path:
        where = (path + rule.field_path).lstrip(".")
    if rule.type == DUPLICATE:  # Kubernetes has no room for the rule's message there
        return FieldError(where, DUPLICATE, value=node.type)
    return FieldError(where, rule.type, rule.text(context), node.type)


def _nodes_with_rules(node: Node, path: str, correlated: bool) -> Iterator[tuple[str, Node, bool]]:
    if node.rules:
        yield path, node, correlated
    for key, child in node.properties.items():
        if child.has_rules:
            yield from _nodes_with_rules(child, f"{path}.properties[{key}]", correlated)
    if node.additional is not None and node.additional.has_rules:
        yield from _nodes_with_rules(node.additional, f"{path}.additionalProperties", correlated)
    if node.items is not None and node.items.has_rules:
        yield from _nodes_with_rules(node.items, f"{path}.items", correlated and node.list_type == "map")

"""What the program says to people, found in its source: each message with its gaps.

A message is an argument of something that is shown (`_SINKS`) or that is an error. What it is
put together from in the function, such as a hint that may be empty, gives several variants.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, product
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "chatgpt_cli"

# Stands for what a message names; a number fits wherever a word does.
GAP = "7"
_MOST = 64
_DEEPEST = 12

_Node = ast.expr | None
_Function = ast.FunctionDef | ast.AsyncFunctionDef

# Which arguments of a call are shown, by the name that is called; keywords by theirs.
_SINKS: dict[str, tuple[int | str, ...]] = {
    **dict.fromkeys(("line", "success", "warn", "next_step", "alarm", "words", "say"), (0,)),
    **dict.fromkeys(("tell", "_tell", "said", "_disorder", "_unusable", "_unwritable"), (0,)),
    **dict.fromkeys(("Note", "_Unfit", "_warn", "_Unsupported"), (0,)),
    **dict.fromkeys(("located", "_await", "_wait", "update"), (1,)),
    **dict.fromkeys(("Option", "Argument"), ("help",)),
    "_damaged": (1,),
    "on_task": (0,),
    "table": (0, 1),
    "Finding": (0, 2, 3),
    "Problem": (1, 2),
    "RowFault": (0, "kind"),
}
_ERROR = (0, "remedy")
# Lists that are shown line by line.
_LISTS = ("notes", "said", "differs")


@dataclass(frozen=True)
class Message:
    """Something that is shown: a sentence whose gaps hold `GAP`, and where it is written."""

    text: str
    place: str


@dataclass
class _Scope:
    """What names stand for in a function, else in those around it, else in its module."""

    module: _Module
    names: dict[str, list[_Node]] = field(default_factory=dict)
    added: dict[str, list[ast.expr]] = field(default_factory=dict)
    # The function that a parameter belongs to, and its place in a call.
    parameters: dict[str, tuple[str, int]] = field(default_factory=dict)
    outer: _Scope | None = None

    def find(self, name: str) -> tuple[_Scope, list[_Node], list[ast.expr]] | None:
        if name in self.names:
            return self, self.names[name], self.added.get(name, [])
        return None if self.outer is None else self.outer.find(name)


class _Module:
    """A source file, and the text of its messages."""

    def __init__(self, path: Path) -> None:
        self.name = path.relative_to(PACKAGE).as_posix()
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.functions: dict[str, list[tuple[_Function, _Scope]]] = {}
        self.calls: dict[str, list[tuple[ast.Call, _Scope]]] = {}
        self.scope = _Scope(self)
        self.seen: set[int] = set()
        # Nodes with the scope in which they stand.
        self.nodes: list[tuple[ast.AST, _Scope]] = []
        self._collect(self.tree, self.scope)

    def _collect(self, node: ast.AST, scope: _Scope) -> None:
        for child in ast.iter_child_nodes(node):
            inner = scope
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                inner = _Scope(self, outer=scope)
                for argument in ast.walk(child.args):
                    if isinstance(argument, ast.arg):
                        inner.names[argument.arg] = [None]
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                self.functions.setdefault(child.name, []).append((child, inner))
                given = [one.arg for one in child.args.args if one.arg not in ("self", "cls")]
                inner.parameters = {name: (child.name, at) for at, name in enumerate(given)}
            elif isinstance(child, ast.Call):
                self.calls.setdefault(_name_of(child), []).append((child, scope))
            _note(child, scope)
            self.nodes.append((child, scope))
            self._collect(child, inner)


def _note(node: ast.AST, scope: _Scope) -> None:
    """Keep what a statement gives a name."""
    if isinstance(node, ast.Assign):
        for target in node.targets:
            _assign(target, node.value, scope)
    elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
        _assign(node.target, node.value, scope)
    elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        scope.added.setdefault(node.target.id, []).append(node.value)
    elif isinstance(node, ast.For | ast.comprehension):
        given = node.iter.elts if isinstance(node.iter, ast.Tuple | ast.List) else [None]
        for one in given:
            _assign(node.target, one, scope)


def _assign(target: ast.expr, value: _Node, scope: _Scope) -> None:
    if isinstance(target, ast.Name):
        scope.names.setdefault(target.id, []).append(value)
    elif isinstance(target, ast.Tuple):
        for index, one in enumerate(target.elts):
            for part in _parts(value, index):
                _assign(one, part, scope)


def _parts(value: _Node, index: int) -> list[_Node]:
    """What an unpacked value gives the name at `index`."""
    if isinstance(value, ast.Tuple) and index < len(value.elts):
        return [value.elts[index]]
    if isinstance(value, ast.IfExp):
        return [*_parts(value.body, index), *_parts(value.orelse, index)]
    return [None]


# ------------------------------------------------------------------------ one message


def _variants(node: _Node, scope: _Scope, depth: int = 0) -> list[str] | None:
    """The texts that an expression may be; None if it says nothing that the source shows."""
    if node is None or depth > _DEEPEST:
        return None
    scope.module.seen.add(id(node))
    match node:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            return _product([_variants(part, scope, depth + 1) or [GAP] for part in parts])
        case ast.FormattedValue(value=value, conversion=conversion):
            return [f"'{GAP}'"] if conversion == ord("r") else _variants(value, scope, depth + 1)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            sides = [_variants(side, scope, depth + 1) for side in (left, right)]
            return None if sides == [None, None] else _product([side or [GAP] for side in sides])
        case ast.IfExp(body=first, orelse=second) | ast.BoolOp(values=[first, second]):
            return _union([first, second], scope, depth)
        case ast.NamedExpr(value=value):
            return _variants(value, scope, depth + 1)
        case ast.Name(id=name):
            return _named(name, scope, depth)
        case ast.Subscript(value=ast.Dict(values=values)):
            return _union(values, scope, depth)
        case ast.Subscript(value=ast.Name(id=name)):
            return _values(name, scope, depth)
        case ast.Call():
            return _called(node, scope, depth)
    return None


def _product(parts: list[list[str]]) -> list[str]:
    return ["".join(one) for one in islice(product(*parts), _MOST)]


def _union(nodes: list[ast.expr], scope: _Scope, depth: int) -> list[str] | None:
    found = [_variants(node, scope, depth + 1) for node in nodes]
    if all(one is None for one in found):
        return None
    return list(dict.fromkeys(text for one in found for text in one or [GAP]))


def _named(name: str, scope: _Scope, depth: int) -> list[str] | None:
    known = scope.find(name)
    if known is None:
        return None
    where, values, added = known
    given = _given(name, where, depth)
    # A parameter's first value is not known otherwise.
    found = [_variants(value, where, depth + 1) for value in values[1 if given else 0 :]] + given
    if all(one is None for one in found):
        return None
    texts = [text for one in found for text in one or [GAP]]
    for node in added:
        texts += [text + more for text in texts for more in _variants(node, where, depth + 1) or []]
    return list(dict.fromkeys(texts))[:_MOST]


def _given(name: str, scope: _Scope, depth: int) -> list[list[str] | None]:
    """What the calls of a function in this module give its parameter."""
    if name not in scope.parameters:
        return []
    function, at = scope.parameters[name]
    return [
        _variants(one, where, depth + 1)
        for call, where in scope.module.calls.get(function, [])
        for one in [*call.args[at : at + 1], *(k.value for k in call.keywords if k.arg == name)]
    ]


def _values(name: str, scope: _Scope, depth: int) -> list[str] | None:
    """The values of a dictionary that has a name."""
    known = scope.find(name)
    nodes = [] if known is None else [one for one in known[1] if isinstance(one, ast.Dict)]
    return _union([value for one in nodes for value in one.values], scope, depth) if nodes else None


def _called(call: ast.Call, scope: _Scope, depth: int) -> list[str] | None:
    function = call.func
    name = _name_of(call)
    if isinstance(function, ast.Attribute):
        if name == "join" and call.args:
            return _joined(call.args[0], scope, depth)
        if name == "get":
            default = [_variants(one, scope, depth + 1) or [GAP] for one in call.args[1:]]
            mapping = function.value
            found = (
                _union(mapping.values, scope, depth)
                if isinstance(mapping, ast.Dict)
                else _values(mapping.id, scope, depth)
                if isinstance(mapping, ast.Name)
                else None
            )
            return None if found is None else [*found, *(t for one in default for t in one)]
        if name in ("strip", "rstrip", "lstrip", "capitalize", "format"):
            return _variants(function.value, scope, depth + 1)
        if not (isinstance(function.value, ast.Name) and function.value.id in ("self", "cls")):
            return None
    if name == "str" and len(call.args) == 1:
        return _variants(call.args[0], scope, depth + 1)
    returned: list[str] = []
    for definition, inner in scope.module.functions.get(name, []):
        for node in ast.walk(definition):
            if isinstance(node, ast.Return):
                returned += _variants(node.value, inner, depth + 1) or []
    return list(dict.fromkeys(returned)) or None


def _joined(items: ast.expr, scope: _Scope, depth: int) -> list[str] | None:
    """A list of one."""
    if isinstance(items, ast.GeneratorExp | ast.ListComp):
        return _variants(items.elt, scope, depth + 1)
    return None


def _name_of(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


# ----------------------------------------------------------------------- all messages


def messages() -> tuple[list[Message], list[Message]]:
    """What is shown; and every other sentence of the source, for which nobody has said it."""
    modules = [_Module(path) for path in sorted(PACKAGE.rglob("*.py"))]
    errors = _error_names(modules)
    shown = [one for module in modules for one in _shown(module, errors)]
    return shown, [one for module in modules for one in _others(module)]


def _error_names(modules: list[_Module]) -> set[str]:
    """ChatGPTError and all that are one."""
    names = {"ChatGPTError", "ValueError", "OSError"}
    classes = [n for m in modules for n in ast.walk(m.tree) if isinstance(n, ast.ClassDef)]
    for _ in range(3):
        names |= {
            one.name
            for one in classes
            if any(isinstance(base, ast.Name) and base.id in names for base in one.bases)
        }
    return names


def _shown(module: _Module, errors: set[str]) -> Iterator[Message]:
    for node, scope in module.nodes:
        for expression in _expressions(node, scope, errors):
            place = f"{module.name}:{expression.lineno}"
            for text in _variants(expression, scope) or []:
                yield Message(text, place)
    if module.name.startswith("cli/"):
        name = module.name.removeprefix("cli/").removesuffix(".py")
        for definition, _ in module.functions.get(name, []):
            for paragraph in (ast.get_docstring(definition) or "").split("\n\n"):
                text = " ".join(paragraph.split())
                yield Message(text, f"{module.name}:{definition.lineno}")


def _expressions(node: ast.AST, scope: _Scope, errors: set[str]) -> Iterator[ast.expr]:
    """The expressions of a node that are shown."""
    if isinstance(node, ast.Call):
        name = _name_of(node)
        wanted = _ERROR if name in errors else _SINKS.get(name, ())
        if name in ("append", "extend") and _list_name(node) in _LISTS:
            wanted = (0,)
        for key in wanted:
            for one in _argument(node, key):
                yield from one.elts if isinstance(one, ast.List) else [one]
    elif isinstance(node, ast.Assign | ast.AugAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = {one.id for one in targets if isinstance(one, ast.Name)}
        if names & {*_LISTS, "columns"} and isinstance(node.value, ast.List):
            yield from node.value.elts
        # Tables of what things are called.
        if isinstance(scope.outer, type(None)) and isinstance(node.value, ast.Dict):
            texts = [one for one in node.value.values if isinstance(one, ast.Constant)]
            if names & {"COMMANDS", "_COMMANDS", "_USES", "_OF_SYSTEM"}:
                yield from texts


def _argument(call: ast.Call, key: int | str) -> Iterator[ast.expr]:
    if isinstance(key, int) and key < len(call.args):
        yield call.args[key]
    name = {0: "fact", 1: "reason"}.get(key, "") if isinstance(key, int) else key
    yield from (one.value for one in call.keywords if one.arg == name)


def _list_name(call: ast.Call) -> str:
    base = call.func.value if isinstance(call.func, ast.Attribute) else None
    if isinstance(base, ast.Attribute):
        return base.attr
    return base.id if isinstance(base, ast.Name) else ""


def _others(module: _Module) -> Iterator[Message]:
    documented = {
        id(node.body[0].value)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inside = {
        id(part)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.JoinedStr)
        for part in node.values
    }
    for node, scope in module.nodes:
        known = id(node) in module.seen or id(node) in documented or id(node) in inside
        if known or not isinstance(node, ast.JoinedStr | ast.Constant):
            continue
        for text in _variants(node, scope) or []:
            yield Message(text, f"{module.name}:{node.lineno}")

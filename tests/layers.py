"""The one-way rule: a module imports only what stands before it in the data's way."""

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

ORDER = (  # a module or a package each
    "types",
    "errors",
    "files",
    "progress",
    "languages",
    "registry",
    "resampling",
    "audio",
    "fetch",
    "corpora",
    "models",
    "encoding",
    "retrieval",
    "metrics",
    "translation",
    "index",
    "results",
    "finetuning",
    "experiments",
    "report",
    "doctor",
    "serve",
    "cli",
)
APART = ("retrieval", "translation")  # neither may know the other
KNOW_BOTH = ("index", "results", "experiments", "report", "doctor", "serve", "cli")


def violations(
    root: Path,
    order: Sequence[str] = ORDER,
    apart: Sequence[str] = APART,
    know_both: Sequence[str] = KNOW_BOTH,
) -> list[str]:
    """What breaks the rule in the package at ``root``, one line each: ``file:line: what``; nothing is imported.

    Imports inside functions and under TYPE_CHECKING count. The package itself (``__version__``) is free to all.
    """
    found = []
    sides: dict[str, set[str]] = {}  # step -> those of `apart` that it imports
    for path in sorted(root.rglob("*.py")):
        step = _step(path.relative_to(root))
        where = path.relative_to(root.parent).as_posix()
        if step and step not in order:
            found.append(f"{where}: {step} has no place in the order")
            continue
        for line, imported in _imports(path, root):
            if imported in ("", step):
                continue
            if imported not in order:
                found.append(f"{where}:{line}: imports {imported}, which has no place in the order")
            elif not step or order.index(imported) > order.index(step):
                found.append(f"{where}:{line}: {step or 'the package itself'} imports {imported}, which comes after it")
            if imported in apart and step not in know_both:
                sides.setdefault(step, {step} & set(apart)).add(imported)
                if len(sides[step]) == len(apart):
                    found.append(f"{where}:{line}: {step} knows both {' and '.join(apart)}")
    return found


def _step(relative: Path) -> str:
    """The module or package right below the root; "" for the root's own ``__init__``."""
    first = relative.parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def _imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """(line, step) of every import from the package; "" stands for the package itself."""
    package = root.name
    inside = [package, *path.relative_to(root).parent.parts]  # what one leading dot means
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(inside[: len(inside) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names = [f"{module}.{alias.name}" for alias in node.names] if module == package else [module]
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        for name in names:
            head, _, rest = name.partition(".")
            step = rest.partition(".")[0]
            if head == package:
                yield node.lineno, "" if step.startswith("__") else step


def _called(node: ast.Call) -> str:
    function = node.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")

"""The public page of codes lists the codes that the source raises and notes, no more and no fewer."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "codes.md"
CODE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")


def trees() -> list[ast.Module]:
    folders = ("data", "cli", "kerasbalance/experiments")
    return [ast.parse(path.read_text()) for name in folders for path in sorted((ROOT / name).rglob("*.py"))]


def makers(modules: list[ast.Module]) -> set[str]:
    """Return the names that make an error of a code: functions with a parameter `code`, classes that hold one."""
    found = {"DataError"}
    for node in (node for module in modules for node in ast.walk(module)):
        if isinstance(node, ast.FunctionDef) and "code" in parameters(node):
            found.add(node.name)
        if isinstance(node, ast.ClassDef) and any("code" in parameters(item) for item in node.body):
            found.add(node.name)
    return found - {"Note", "__init__"}


def parameters(node: ast.AST) -> set[str]:
    if not isinstance(node, ast.FunctionDef):
        return set()
    arguments = node.args
    return {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}


def codes(modules: list[ast.Module], names: set[str]) -> set[str]:
    """Return the codes in calls of the named functions, and in tables that such a call reads `code` from."""
    found: set[str] = set()
    for node in (node for module in modules for node in ast.walk(module)):
        if isinstance(node, ast.Call) and name_of(node) in names:
            found |= set(literals(node))
        if isinstance(node, ast.FunctionDef) and "code" not in parameters(node):
            calls = (part for part in ast.walk(node) if isinstance(part, ast.Call) and name_of(part) in names)
            if any(isinstance(a, ast.Name) and a.id == "code" for call in calls for a in call.args):
                rows = (part.elts for part in ast.walk(node) if isinstance(part, ast.Tuple))
                found |= {code for row in rows for code in constants(row[:1])}
    return found


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def literals(call: ast.Call) -> Iterator[str]:
    given = [k.value for k in call.keywords if k.arg == "code"] or call.args[:3]
    for argument in given:
        parts = [argument.body, argument.orelse] if isinstance(argument, ast.IfExp) else [argument]
        if found := list(constants(parts)):
            yield from found
            return


def constants(nodes: list[ast.expr]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and CODE.fullmatch(node.value):
            yield node.value


def listed(section: str) -> list[str]:
    text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)


def printed(modules: list[ast.Module]) -> set[str]:
    """Return the codes that a command writes in front of the text of an exception of its own."""
    calls = (node for module in modules for node in ast.walk(module) if isinstance(node, ast.Call))
    texts = (a for call in calls if name_of(call) == "ClickException" for a in call.args)
    firsts = (text.values[0] if isinstance(text, ast.JoinedStr) else text for text in texts)
    values = (str(first.value) for first in firsts if isinstance(first, ast.Constant))
    return {value.split(": ")[0] for value in values if CODE.fullmatch(value.split(": ")[0])}


def test_the_page_lists_every_code_of_a_refusal_and_no_other():
    modules = trees()
    assert set(listed("Refusals")) == codes(modules, makers(modules)) | printed(modules)


def test_the_page_lists_every_code_of_a_remark_and_no_other():
    assert set(listed("Remarks")) == codes(trees(), {"Note"})


@pytest.mark.parametrize("section", ["Refusals", "Remarks"])
def test_the_codes_stand_in_alphabetical_order_and_each_has_a_cause_and_a_remedy(section):
    assert listed(section) == sorted(set(listed(section)))
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    assert all(re.fullmatch(r"\| (\S[^|]* \| ){3}\S[^|]* \|", row) for row in rows)

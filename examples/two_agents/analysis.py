"""The work itself: measures one Python file. Also a program: analysis.py PATH."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BRANCHES = (
    ast.If,
    ast.IfExp,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.comprehension,
    ast.match_case,
)


def analyse(path: Path) -> dict[str, Any]:
    """Count the functions; find the longest in lines and the highest cyclomatic complexity.

    Raises:
        OSError: the file cannot be read.
        SyntaxError: the file is not Python.
    """
    source = path.read_text()
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, _FUNCTIONS)]
    longest = max(functions, key=_lines, default=None)
    hardest = max(functions, key=_complexity, default=None)
    return {
        "path": str(path),
        "lines": source.count("\n"),
        "functions": len(functions),
        "longest": longest.name if longest else "",
        "longest_lines": _lines(longest) if longest else 0,
        "hardest": hardest.name if hardest else "",
        "complexity": _complexity(hardest) if hardest else 0,
    }


def _lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _complexity(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Cyclomatic complexity: 1, plus 1 for each branch and each operand of a boolean choice."""
    branches = sum(isinstance(node, _BRANCHES) for node in ast.walk(function))
    choices = [node for node in ast.walk(function) if isinstance(node, ast.BoolOp)]
    return 1 + branches + sum(len(node.values) - 1 for node in choices)


if __name__ == "__main__":
    print(json.dumps(analyse(Path(sys.argv[1]))))

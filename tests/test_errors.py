"""Messages name options as Python does; commands print their flags."""

import ast
import re
from pathlib import Path

from math_hash.errors import InputError, exit_code

PACKAGE = Path(__file__).resolve().parents[1] / "math_hash"


def test_commands_print_flags_where_python_names_options(capsys):
    def task() -> None:
        raise InputError("`label_t_file` a`b: missing; give `k_bits` and `method_options` x=1, or `math-hash --help`")

    assert exit_code(task) == 2
    wanted = "error: --label_t-file a`b: missing; give --k-bits and --set x=1, or `math-hash --help`\n"
    assert capsys.readouterr().err == wanted


def test_no_message_outside_the_commands_names_a_flag():
    named = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Raise) and "InputError" in ast.unparse(node) and "cli" not in path.parts:
                text = "".join(part.value for part in ast.walk(node) if is_text(part))
                if re.search(r"--[a-z]", re.sub("`[^`]*`", "", text)):  # commands stand in backticks
                    named.append(f"{path}:{node.lineno}")
    assert not named


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)

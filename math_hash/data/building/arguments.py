"""The command-line arguments that the tools for building datasets share."""

import argparse
from pathlib import Path


def tool_parser(prog: str | None, description: str | None, output: str, raw: str = "") -> argparse.ArgumentParser:
    """The parser of a tool: `--output` and `--check`, and for a published dataset where it comes from.

    Args:
        prog: name of the command; None: that of the process.
        description: shown by `--help`, as it is.
        output: default of `--output`.
        raw: what the folder named by `--raw` holds; with it come `--lists`, `--image-root` and `--allow-partial`.
    """
    parser = argparse.ArgumentParser(
        prog, description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if raw:
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("--raw", type=Path, help=f"folder with {raw}")
        source.add_argument("--lists", type=Path, help="folder with the MATH release's four text files")
        looked_for = "folder of the pictures (default: looked for in the source)"
        parser.add_argument("--image-root", type=Path, help=looked_for)
        parser.add_argument("--images", dest="image_root", type=Path, help=argparse.SUPPRESS)
        parser.add_argument(
            "--allow-partial", action="store_true", help="go on with fewer rows or labels than the protocol has"
        )
    parser.add_argument("--output", type=Path, default=Path(output), help=f"folder to write ({output})")
    parser.add_argument(
        "--check",
        choices=("full", "fast"),
        default="full",
        help="decode each picture, or only check that its file is there (full)",
    )
    return parser


def add_column_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where a table's values are, and which labels are kept."""
    parser.add_argument("--image-column", default="image", help="column or key of the picture's path (image)")
    parser.add_argument("--text-column", default="text", help="column or key of the text or texts (text)")
    parser.add_argument("--label-column", default="labels", help="column or key of the labels (labels)")
    parser.add_argument("--separator", default=",", help="character between two labels (,)")
    parser.add_argument("--vocabulary", type=Path, help="file of the label names, one per line (default: all names)")
    parser.add_argument("--min-count", type=int, default=1, help="rows that a label must have to be kept (1)")

"""The command-line arguments that the tools for building datasets share."""

import argparse
from pathlib import Path


def tool_parser(description: str | None, output: str, raw: str = "") -> argparse.ArgumentParser:
    """The parser of a tool: `--output` and `--check`, and for a published dataset where it comes from.

    Args:
        description: shown by `--help`, as it is.
        output: default of `--output`.
        raw: what the folder named by `--raw` holds; with it come `--lists`, `--images` and `--allow-partial`.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    if raw:
        source = parser.add_mutually_exclusive_group(required=True)
        source.add_argument("--raw", type=Path, help=f"folder with {raw}")
        source.add_argument("--lists", type=Path, help="folder with the MATH release's four text files")
        parser.add_argument("--images", type=Path, help="folder of the pictures (default: looked for in the source)")
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

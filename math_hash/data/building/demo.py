"""Draw the demo dataset: small scenes with overlapping labels and captions that do not simply spell them out.

  math-hash dataset make demo            # dataset/demo, 4,000 scenes, under a minute

Every scene has a setting, a time of day, weather and a few objects, which give it 1 to 6 of 20 labels. Captions use
synonyms, leave things out, and carry tags that say nothing, as people's captions do. The same seed draws the same
dataset.
"""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from math_hash.data.building.demo_scenes import Scene
from math_hash.data.folder import write_dataset
from math_hash.errors import InputError, exit_code
from math_hash.progress import is_watched

WORDS = {
    "balloon": ["balloon", "hot air balloon", "ballooning", "up in a balloon"],
    "beach": ["beach", "sand", "shore", "playa", "coast"],
    "bird": ["birds", "gulls", "a flock", "wings", "flying birds"],
    "boat": ["boat", "sailing", "a yacht", "ship", "sails"],
    "bridge": ["bridge", "the old bridge", "arches", "span"],
    "car": ["car", "traffic", "driving", "a parked automobile", "auto"],
    "city": ["city", "downtown", "skyline", "streets", "towers"],
    "clouds": ["clouds", "cloudy", "overcast", "cumulus"],
    "field": ["field", "meadow", "grass", "countryside", "pasture"],
    "flower": ["flowers", "blossom", "in bloom", "petals", "tulips"],
    "house": ["house", "cottage", "home", "a red roof", "farmhouse"],
    "moon": ["moon", "moonlight", "lunar", "full moon"],
    "mountain": ["mountains", "peaks", "the alps", "summit", "hills"],
    "night": ["night", "dark", "after dark", "midnight", "late"],
    "people": ["people", "friends", "a walk together", "somebody", "folks"],
    "rain": ["rain", "rainy day", "showers", "wet", "umbrella weather"],
    "sea": ["sea", "ocean", "waves", "water", "the bay"],
    "snow": ["snow", "winter", "snowfall", "cold", "frosty"],
    "sunset": ["sunset", "dusk", "evening glow", "golden hour", "tramonto"],
    "tree": ["trees", "woods", "a big tree", "leaves", "oak"],
}
LABELS = sorted(WORDS)
OPENINGS = ["", "", "my photo of", "a view with", "remembering", "just", "found", "somewhere with", "one more of"]
NOISE = [
    "nikon",
    "canon",
    "explore",
    "d80",
    "2008",
    "favourite",
    "travel",
    "geotagged",
    "50mm",
    "fun",
    "iso200",
    "blue",
]


def draw_scene(row: int, seed: int) -> tuple[Image.Image, set[str], str]:
    """The picture (64 to 96 pixels wide and high), the labels and the caption of one row."""
    rng = np.random.default_rng([seed, row])
    scene = Scene(rng, int(rng.integers(64, 97)), int(rng.integers(64, 97)))
    scene.paint()
    return scene.finished(), scene.labels, _caption(rng, sorted(scene.labels))


def _caption(rng: np.random.Generator, labels: list[str]) -> str:
    """Words for most of the labels, in any order, between words that say nothing."""
    mentioned = [label for label in labels if rng.random() < 0.78] or [labels[rng.integers(len(labels))]]
    words = [WORDS[label][rng.integers(len(WORDS[label]))] for label in rng.permutation(mentioned)]
    noise = list(rng.choice(NOISE, rng.integers(0, 4), replace=False))
    if rng.random() < 0.5:
        return " ".join(rng.permutation(words + noise))
    sentence = " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
    return " ".join([OPENINGS[rng.integers(len(OPENINGS))], sentence, *noise]).strip()


def _save_scene(row: int, seed: int, folder: Path) -> tuple[set[str], str]:
    image, labels, caption = draw_scene(row, seed)
    image.save(folder / f"{row:05d}.jpg", quality=92)
    return labels, caption


def draw_dataset(output: Path, rows: int = 4000, seed: int = 1) -> None:
    """Draw `rows` scenes and write the dataset's folder.

    Args:
        output: the folder to write.
        rows: number of scenes.
        seed: of the drawing; row r depends on it and on r alone.

    Raises:
        InputError: the folder cannot be written.
    """
    scratch = output.with_name(f".{output.name}.{os.getpid()}.images")
    try:
        scratch.mkdir(parents=True)
        with ProcessPoolExecutor() as pool:
            scenes = pool.map(partial(_save_scene, seed=seed, folder=scratch), range(rows), chunksize=50)
            drawn = list(tqdm(scenes, total=rows, desc="drawing scenes", unit="scene", disable=not is_watched()))
        labels = np.array([[name in names for name in LABELS] for names, _ in drawn], np.uint8)
        folder = write_dataset(
            output,
            images=[f"images/{row:05d}.jpg" for row in range(rows)],
            captions=[caption for _, caption in drawn],
            labels=labels,
            label_names=LABELS,
            protocol="demo",
            add_files=lambda building: os.rename(scratch, building / "images"),
            details={"seed": seed},
        )
    except OSError as error:
        raise InputError(f"{output}: cannot be written: {error.strerror}; choose another `output`") from error
    finally:
        if scratch.exists():
            for file in scratch.iterdir():
                file.unlink()
            scratch.rmdir()
    print(f"{output}: {len(folder)} scenes, {len(LABELS)} labels, {folder.labels.sum(1).mean():.1f} labels per scene")


def build(flags: argparse.Namespace) -> None:
    """Draw the dataset that the arguments describe."""
    draw_dataset(flags.output, flags.rows, flags.seed)


def make_parser(prog: str | None = None) -> argparse.ArgumentParser:
    """The parser of the tool's arguments."""
    parser = argparse.ArgumentParser(prog, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("dataset/demo"), help="folder to write (dataset/demo)")
    parser.add_argument("--rows", type=int, default=4000, help="scenes to draw (4000)")
    parser.add_argument("--seed", type=int, default=1, help="of the drawing (1)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool with these command-line arguments (by default those of the process); returns its exit code."""
    return exit_code(lambda: build(make_parser().parse_args(arguments)))

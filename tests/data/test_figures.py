import numpy as np
from conftest import make_tiny_dataset
from PIL import Image, ImageColor

from math_hash.data import read_dataset, split_rows
from math_hash.data.figures import _font, draw_contact_sheet


def test_letters_of_many_scripts_are_drawn():
    drawn = {bytes(_font(20).getmask(letter)) for letter in "ñéжλşن"}
    assert len(drawn) == 6  # a font without these letters draws the same box for each


class LabelsAsCodes:
    """Codes that are the rows' labels, the images' with one bit flipped everywhere."""

    def __init__(self, labels):
        self.bits = {"text": labels > 0, "image": (labels > 0) ^ np.array([True, False, False])}

    def of(self, modality, rows):
        return self.bits[modality][rows]


def test_a_contact_sheet_frames_results_by_shared_labels(tmp_path):
    folder = read_dataset(make_tiny_dataset(tmp_path / "tiny", rows=12))
    split = split_rows(12, 2, 6)
    codes = LabelsAsCodes(folder.labels)
    draw_contact_sheet(tmp_path / "sheet.png", folder, split, codes)
    sheet = Image.open(tmp_path / "sheet.png").convert("RGB")
    width, height = 168, 212  # of a cell with its gap; the frame begins below the title of 16 pixels
    assert sheet.size == (7 * width + 8, 4 * height + 8)
    colors = {False: ImageColor.getrgb("#c0392b"), True: ImageColor.getrgb("#2a8f4f")}
    for line, (asked, retrieved, query) in enumerate(
        (asked, retrieved, query)
        for asked, retrieved in (("text", "image"), ("image", "text"))
        for query in split.query
    ):
        database = codes.of(retrieved, split.database)
        distances = [int((codes.of(asked, [query])[0] != bits).sum()) for bits in database]
        nearest = sorted(range(len(distances)), key=lambda position: distances[position])[:6]
        for column, position in enumerate(nearest, start=1):
            shares = bool((folder.labels[split.database[position]] & folder.labels[query]).any())
            assert sheet.getpixel((8 + column * width, 8 + line * height + 16)) == colors[shares]

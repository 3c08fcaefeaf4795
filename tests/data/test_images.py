import numpy as np
import pytest
import torch
from PIL import Image

from math_hash.data import ImageTransform, inspect_images, open_image

TRANSFORM = ImageTransform(32, (0.48, 0.46, 0.41), (0.27, 0.26, 0.28))


def picture(width, height, mode="RGB"):
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (height, width, 3)).astype(np.uint8)).convert(mode)


def normalized(image):
    pixels = np.asarray(image, np.float32) / 255
    return ((pixels - TRANSFORM.mean) / TRANSFORM.std).transpose(2, 0, 1)


def test_training_resizes_the_short_side_and_crops_the_center():
    image = picture(100, 50)
    expected = image.resize((64, 32), Image.Resampling.BICUBIC).crop((16, 0, 48, 32))
    assert np.allclose(TRANSFORM(image, train=True), normalized(expected), atol=1e-6)


def test_evaluation_squeezes_the_whole_picture_into_the_square():
    image = picture(100, 50)
    expected = image.resize((32, 32), Image.Resampling.BICUBIC)
    assert np.allclose(TRANSFORM(image), normalized(expected), atol=1e-6)


def test_a_tensor_of_pictures_is_resized_like_the_pictures():
    image = picture(80, 40)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]
    assert (TRANSFORM.tensor(tensor)[0] - TRANSFORM(image)).abs().max() < 0.02


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "1"])
def test_every_color_mode_becomes_rgb(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture(20, 10, mode).save(path)
    assert open_image(path).mode == "RGB"


def test_exif_orientation_is_applied(tmp_path):
    image = picture(20, 10)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert open_image(tmp_path / "a.jpg").size == (10, 20)


def test_unusable_files_say_why(tmp_path):
    good = tmp_path / "good.jpg"
    picture(60, 60).save(good)
    (tmp_path / "cut.jpg").write_bytes(good.read_bytes()[:-200])
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    (tmp_path / "empty.jpg").write_bytes(b"")
    names = ["good.jpg", "cut.jpg", "page.jpg", "empty.jpg", "absent.jpg"]
    reasons = inspect_images([tmp_path / name for name in names]).bad
    assert sorted(reasons) == [1, 2, 3, 4]
    assert "absent.jpg: no such picture" in reasons[4]
    assert sorted(inspect_images([tmp_path / name for name in names], decode=False).bad) == [3, 4]

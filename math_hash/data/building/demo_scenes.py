"""The scenes of the demo dataset: what is in each, and how it is drawn."""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

# setting: its share, and the chance of each object in it
SETTINGS = {
    "field": (0.28, {"tree": 0.4, "flower": 0.35, "house": 0.3, "people": 0.2, "balloon": 0.12, "bird": 0.1}),
    "sea": (0.17, {"boat": 0.6, "bird": 0.3, "bridge": 0.2}),
    "beach": (0.15, {"people": 0.45, "boat": 0.3, "bird": 0.15, "balloon": 0.08}),
    "city": (0.22, {"car": 0.55, "people": 0.25, "bridge": 0.15, "tree": 0.12}),
    "mountain": (0.18, {"tree": 0.4, "house": 0.2, "bird": 0.15, "balloon": 0.12}),
}
TIMES = {"day": 0.62, "sunset": 0.19, "night": 0.19}
WEATHER = {"clear": 0.5, "clouds": 0.24, "rain": 0.12, "snow": 0.14}
MOST_LABELS = 6


class Scene:
    """One drawing, in coordinates from 0 to 1, and the labels of what is in it."""

    def __init__(self, rng: np.random.Generator, width: int, height: int):
        self.rng, self.size = rng, (2 * width, 2 * height)  # drawn twice as large, then reduced: smooth edges
        self.labels: set[str] = set()
        self.time = _choose(rng, TIMES)
        self.weather = _choose(rng, WEATHER)
        self.setting = _choose(rng, {name: share for name, (share, _) in SETTINGS.items()})
        self.image = Image.new("RGB", self.size)
        self.draw = ImageDraw.Draw(self.image)
        self.horizon = rng.uniform(0.45, 0.62)

    def paint(self) -> None:
        """Draw everything, far things first."""
        self._sky()
        grounds = {"sea": self._sea, "beach": self._sea, "city": self._city, "mountain": self._mountain}
        grounds.get(self.setting, self._ground)()
        self.labels.add(self.setting)
        if self.setting == "beach":
            self.labels.add("sea")
            self._beach()
        if self.time != "day":
            self.labels.add(self.time)
        if self.weather != "clear":
            self.labels.add(self.weather)
        wanted = [name for name, chance in SETTINGS[self.setting][1].items() if self.rng.random() < chance]
        for name in wanted:
            if len(self.labels) < MOST_LABELS:
                self.labels.add(name)
                getattr(self, f"_{name}")()
        self._fall()

    def finished(self) -> Image.Image:
        """The drawing at its final size, with the noise of a small camera."""
        small = self.image.resize((self.size[0] // 2, self.size[1] // 2), Image.Resampling.LANCZOS)
        if self.rng.random() < 0.2:
            small = small.filter(ImageFilter.GaussianBlur(0.6))
        pixels = np.asarray(small, np.float32) * self.rng.uniform(0.85, 1.1) + self.rng.normal(
            0, 5, (*small.size[::-1], 3)
        )
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    def _box(self, x0: float, y0: float, x1: float, y1: float) -> tuple[float, float, float, float]:
        return x0 * self.size[0], y0 * self.size[1], x1 * self.size[0], y1 * self.size[1]

    def _points(self, *points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(x * self.size[0], y * self.size[1]) for x, y in points]

    def _colour(self, red: int, green: int, blue: int) -> tuple[int, int, int]:
        """A colour in the light of the time of day, slightly varied."""
        light = {"day": (1, 1, 1), "sunset": (1.0, 0.75, 0.6), "night": (0.4, 0.42, 0.6)}[self.time]
        varied = np.array([red, green, blue]) * light + self.rng.normal(0, 10, 3)
        red, green, blue = (int(value) for value in varied.clip(0, 255))
        return red, green, blue

    def _sky(self) -> None:
        top, bottom = {
            "day": ((70, 140, 225), (175, 215, 250)),
            "sunset": ((110, 70, 140), (255, 150, 60)),
            "night": ((8, 10, 32), (30, 34, 70)),
        }[self.time]
        if self.weather in ("rain", "snow", "clouds") and self.time == "day":
            top, bottom = (130, 140, 155), (190, 198, 208)
        shift = self.rng.normal(0, 12, 3)
        ramp = np.linspace(0, 1, self.size[1])[:, None, None]
        sky = np.array(top) * (1 - ramp) + np.array(bottom) * ramp + shift
        self.image.paste(
            Image.fromarray(np.broadcast_to(sky, (self.size[1], self.size[0], 3)).clip(0, 255).astype(np.uint8))
        )
        if self.time == "night":
            for x, y in self.rng.random((25, 2)):
                self.draw.point(self._points((x, y * 0.5)), fill=(230, 230, 210))
            if self.rng.random() < 0.55:
                self.labels.add("moon")
                x, y, r = self.rng.uniform(0.15, 0.85), self.rng.uniform(0.1, 0.25), self.rng.uniform(0.07, 0.11)
                self.draw.ellipse(self._box(x - r, y - r, x + r, y + r), fill=(245, 240, 205))
        elif self.time == "sunset":
            x, r = self.rng.uniform(0.2, 0.8), self.rng.uniform(0.09, 0.14)
            self.draw.ellipse(self._box(x - r, self.horizon - r, x + r, self.horizon + r), fill=(255, 225, 110))
        elif self.weather == "clear":
            x, y, r = self.rng.uniform(0.1, 0.9), self.rng.uniform(0.08, 0.2), self.rng.uniform(0.05, 0.08)
            self.draw.ellipse(self._box(x - r, y - r, x + r, y + r), fill=(255, 245, 170))
        if self.weather == "clouds":
            for _ in range(self.rng.integers(3, 6)):
                x, y = self.rng.uniform(0, 1), self.rng.uniform(0.05, 0.35)
                for dx in (-0.1, 0, 0.1):
                    r = self.rng.uniform(0.06, 0.1)
                    self.draw.ellipse(
                        self._box(x + dx - r, y - r, x + dx + r, y + r * 0.8), fill=self._colour(240, 240, 245)
                    )

    def _ground(self) -> None:
        colour = self._colour(235, 240, 245) if self.weather == "snow" else self._colour(95, 165, 60)
        self.draw.rectangle(self._box(0, self.horizon, 1, 1), fill=colour)
        for x in self.rng.random(12):
            y = self.rng.uniform(self.horizon, 1)
            self.draw.line(self._points((x, y), (x + 0.03, y - 0.03)), fill=self._colour(60, 125, 40), width=2)

    def _sea(self) -> None:
        self.draw.rectangle(self._box(0, self.horizon, 1, 1), fill=self._colour(30, 95, 165))
        for y in np.arange(self.horizon + 0.05, 1, 0.08):
            for x in self.rng.random(4):
                self.draw.arc(self._box(x, y, x + 0.14, y + 0.05), 180, 360, fill=self._colour(150, 200, 235), width=2)

    def _beach(self) -> None:
        edge = self._points((0, 0.78), (0.5, 0.7), (1, 0.8), (1, 1), (0, 1))
        self.draw.polygon(edge, fill=self._colour(235, 208, 145))

    def _mountain(self) -> None:
        for x in self.rng.permutation([0.15, 0.5, 0.85]):
            peak, half = self.rng.uniform(0.15, 0.35), self.rng.uniform(0.3, 0.45)
            slope = self._points((x - half, self.horizon + 0.02), (x, peak), (x + half, self.horizon + 0.02))
            self.draw.polygon(slope, fill=self._colour(115, 105, 110))
            cap = 0.25 * half
            foot = peak + 0.25 * (self.horizon - peak)
            self.draw.polygon(
                self._points((x - cap, foot), (x, peak), (x + cap, foot)), fill=self._colour(245, 245, 250)
            )
        self._ground()

    def _city(self) -> None:
        self.draw.rectangle(self._box(0, self.horizon, 1, 1), fill=self._colour(105, 105, 110))
        x = -0.05
        while x < 1:
            width, top = self.rng.uniform(0.12, 0.22), self.rng.uniform(0.12, 0.4)
            shade = int(self.rng.integers(90, 190))
            self.draw.rectangle(
                self._box(x, top, x + width, self.horizon + 0.1), fill=self._colour(shade, shade, shade + 15)
            )
            for wx in np.arange(x + 0.02, x + width - 0.03, 0.05):
                for wy in np.arange(top + 0.04, self.horizon + 0.04, 0.08):
                    lit = (250, 225, 120) if self.time == "night" else (70, 95, 125)
                    self.draw.rectangle(self._box(wx, wy, wx + 0.025, wy + 0.04), fill=lit)
            x += width + self.rng.uniform(0, 0.04)

    def _tree(self) -> None:
        for _ in range(self.rng.integers(1, 4)):
            x, foot, tall = self.rng.uniform(0.08, 0.92), self.rng.uniform(0.68, 0.92), self.rng.uniform(0.28, 0.42)
            self.draw.rectangle(self._box(x - 0.02, foot - tall * 0.5, x + 0.02, foot), fill=self._colour(100, 65, 35))
            leaves = self._colour(30, 105, 40)
            if self.rng.random() < 0.5:
                crown = self._points((x - 0.13, foot - tall * 0.35), (x, foot - tall), (x + 0.13, foot - tall * 0.35))
                self.draw.polygon(crown, fill=leaves)
            else:
                self.draw.ellipse(self._box(x - 0.13, foot - tall, x + 0.13, foot - tall * 0.35), fill=leaves)

    def _flower(self) -> None:
        colour = [(230, 50, 70), (250, 200, 40), (200, 80, 200), (250, 250, 250)][self.rng.integers(4)]
        for _ in range(self.rng.integers(4, 9)):
            x, y, r = self.rng.uniform(0.05, 0.95), self.rng.uniform(0.72, 0.95), self.rng.uniform(0.025, 0.04)
            self.draw.line(self._points((x, y), (x, y + 0.1)), fill=self._colour(40, 120, 40), width=2)
            for angle in np.arange(0, 2 * np.pi, np.pi / 2.5):
                px, py = x + r * np.cos(angle), y + r * np.sin(angle)
                self.draw.ellipse(self._box(px - r, py - r, px + r, py + r), fill=self._colour(*colour))
            self.draw.ellipse(self._box(x - r, y - r, x + r, y + r), fill=self._colour(250, 220, 90))

    def _house(self) -> None:
        x, foot, w = self.rng.uniform(0.1, 0.65), self.rng.uniform(0.7, 0.85), self.rng.uniform(0.22, 0.32)
        wall = [(230, 215, 185), (200, 120, 90), (240, 240, 235)][self.rng.integers(3)]
        self.draw.rectangle(self._box(x, foot - w * 0.7, x + w, foot), fill=self._colour(*wall))
        roof = self._points((x - 0.04, foot - w * 0.7), (x + w / 2, foot - w * 1.25), (x + w + 0.04, foot - w * 0.7))
        self.draw.polygon(roof, fill=self._colour(175, 45, 35))
        self.draw.rectangle(self._box(x + w * 0.4, foot - w * 0.4, x + w * 0.6, foot), fill=self._colour(90, 60, 40))

    def _people(self) -> None:
        for _ in range(self.rng.integers(1, 4)):
            x, foot, tall = self.rng.uniform(0.1, 0.9), self.rng.uniform(0.82, 0.97), self.rng.uniform(0.2, 0.28)
            shirt = [(220, 40, 40), (40, 70, 200), (245, 190, 40), (240, 120, 180)][self.rng.integers(4)]
            self.draw.rectangle(
                self._box(x - 0.03, foot - tall * 0.7, x + 0.03, foot - tall * 0.3), fill=self._colour(*shirt)
            )
            for side in (-0.02, 0.02):
                leg = self._points((x + side * 0.5, foot - tall * 0.3), (x + side, foot))
                self.draw.line(leg, fill=self._colour(40, 40, 70), width=4)
            head = self._box(x - 0.028, foot - tall, x + 0.028, foot - tall * 0.7)
            self.draw.ellipse(head, fill=self._colour(235, 190, 155))

    def _balloon(self) -> None:
        x, y, r = self.rng.uniform(0.2, 0.8), self.rng.uniform(0.18, 0.32), self.rng.uniform(0.1, 0.15)
        colour = [(230, 60, 60), (250, 170, 30), (80, 60, 200)][self.rng.integers(3)]
        self.draw.ellipse(self._box(x - r, y - r, x + r, y + r), fill=self._colour(*colour))
        self.draw.ellipse(self._box(x - r * 0.4, y - r, x + r * 0.4, y + r), fill=self._colour(250, 245, 220))
        self.draw.line(self._points((x - r * 0.5, y + r * 0.8), (x, y + r * 1.6)), fill=(60, 50, 40), width=1)
        self.draw.line(self._points((x + r * 0.5, y + r * 0.8), (x, y + r * 1.6)), fill=(60, 50, 40), width=1)
        self.draw.rectangle(self._box(x - 0.03, y + r * 1.5, x + 0.03, y + r * 1.9), fill=self._colour(120, 80, 40))

    def _bird(self) -> None:
        colour = (240, 240, 240) if self.time == "night" else (25, 25, 30)
        for _ in range(self.rng.integers(3, 7)):
            x, y, w = self.rng.uniform(0.08, 0.92), self.rng.uniform(0.08, 0.42), self.rng.uniform(0.05, 0.08)
            wings = self._points((x - w, y - w * 0.5), (x, y), (x + w, y - w * 0.5))
            self.draw.line(wings, fill=colour, width=3)

    def _boat(self) -> None:
        x, y, w = self.rng.uniform(0.25, 0.75), self.rng.uniform(self.horizon + 0.05, 0.72), self.rng.uniform(0.12, 0.2)
        hull = self._points((x - w, y - 0.05), (x + w, y - 0.05), (x + w * 0.6, y + 0.05), (x - w * 0.6, y + 0.05))
        self.draw.polygon(hull, fill=self._colour(140, 60, 35))
        self.draw.line(self._points((x, y - 0.05), (x, y - 0.36)), fill=(60, 45, 30), width=2)
        sail = self._colour(250, 248, 240)
        self.draw.polygon(self._points((x + 0.01, y - 0.34), (x + w * 0.8, y - 0.08), (x + 0.01, y - 0.08)), fill=sail)
        self.draw.polygon(self._points((x - 0.01, y - 0.28), (x - w * 0.6, y - 0.08), (x - 0.01, y - 0.08)), fill=sail)

    def _bridge(self) -> None:
        y = self.horizon + self.rng.uniform(0.02, 0.1)
        steel = self._colour(165, 60, 50) if self.rng.random() < 0.5 else self._colour(140, 130, 120)
        self.draw.rectangle(self._box(0, y, 1, y + 0.05), fill=steel)
        for x in (0.25, 0.75):
            self.draw.rectangle(self._box(x - 0.02, y - 0.25, x + 0.02, y + 0.2), fill=steel)
        for left in (-0.25, 0.25, 0.75):
            self.draw.arc(self._box(left, y - 0.5, left + 0.5, y), 0, 180, fill=steel, width=3)

    def _car(self) -> None:
        for _ in range(self.rng.integers(1, 3)):
            x, y, w = self.rng.uniform(0.02, 0.62), self.rng.uniform(0.76, 0.9), self.rng.uniform(0.26, 0.34)
            paint = [(210, 30, 35), (35, 80, 190), (240, 190, 30), (235, 235, 235)][self.rng.integers(4)]
            body = self._colour(*paint)
            roof = self._points(
                (x + w * 0.2, y - 0.1), (x + w * 0.3, y - 0.18), (x + w * 0.7, y - 0.18), (x + w * 0.85, y - 0.1)
            )
            self.draw.polygon(roof, fill=self._colour(150, 190, 215))
            self.draw.rectangle(self._box(x, y - 0.1, x + w, y), fill=body)
            for wheel in (0.22, 0.78):
                cx = x + w * wheel
                self.draw.ellipse(self._box(cx - 0.04, y - 0.035, cx + 0.04, y + 0.045), fill=(20, 20, 22))

    def _fall(self) -> None:
        if self.weather == "rain":
            for x, y in self.rng.random((55, 2)):
                self.draw.line(self._points((x, y), (x - 0.02, y + 0.08)), fill=self._colour(200, 215, 240), width=1)
        elif self.weather == "snow":
            for x, y in self.rng.random((70, 2)):
                r = self.rng.uniform(0.006, 0.014)
                self.draw.ellipse(self._box(x - r, y - r, x + r, y + r), fill=(250, 250, 255))


def _choose(rng: np.random.Generator, shares: Mapping[str, float]) -> str:
    return str(rng.choice(list(shares), p=list(shares.values())))

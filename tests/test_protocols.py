from math_hash.protocols import PROTOCOLS, protocol_of


def test_protocols_are_recognized_by_their_sizes():
    assert protocol_of(2000, 18015, 24) == "flickr25k"
    assert protocol_of(2000, 18015, 23) == "own"
    assert set(PROTOCOLS) == {
        "flickr25k", "flickr25k-24581", "nuswide", "nuswide-195834", "coco", "iaprtc12", "demo",
    }  # fmt: skip

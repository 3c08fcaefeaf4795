"""IAPR TC-12: a miniature of the official files, and lists that name their own labels."""

from miniatures import put_picture

from math_hash.data import read_dataset
from math_hash.data.building import iaprtc12


def write_iapr(folder):
    """Three pictures: annotations in Windows-1252 with CRLF, one of them absent; labels of regions; the label names."""
    place = folder / "iaprtc12/annotations_complete_eng"
    texts = {1000: ("01", "a café’s terrace; two\r\n people"), 25: ("00", "a yellow building")}
    for number, (part, text) in texts.items():
        (place / part).mkdir(parents=True)
        content = f"<DOC>\r\n<DOCNO>annotations/{part}/{number}.eng</DOCNO>\r\n<TITLE>Not this</TITLE>\r\n"
        content += f"<DESCRIPTION>{text};</DESCRIPTION>\r\n<NOTES></NOTES>\r\n<IMAGE>images/{part}/{number}.jpg</IMAGE>"
        (place / part / f"{number}.eng").write_bytes(f"{content}\r\n</DOC>\r\n".encode("cp1252"))
    for name in ("01/1000", "00/25", "00/31"):
        put_picture(folder / f"iaprtc12/images/{name}.jpg")
    segmented = folder / "saiaprtc12ok/benchmark/saiapr_tc-12"
    for part, lines in {"00": "25\t1\t7\n25\t2\t9\n25\t3\t7\n31 1 9\n\n", "01": "1000\t1\t120\r\n"}.items():
        (segmented / part).mkdir(parents=True)
        (segmented / part / "labels.txt").write_text(lines)
    (segmented / "wlist.txt").write_text("7\tbuilding\n8\tnever-used\n9\tsky-blue\n120\tgroup of persons\n")
    return segmented


def test_iaprtc12_joins_descriptions_and_region_labels(tmp_path, run):
    write_iapr(tmp_path / "raw")
    options = ["--raw", tmp_path / "raw", "--allow-partial", "--output", tmp_path / "out"]
    code, printed = run(iaprtc12, *options)
    assert code == 0, printed
    assert "expected 20000 rows and 255 labels, found 3 and 3" in printed
    data = read_dataset(tmp_path / "out")
    assert data.images == ["images/00/25.jpg", "images/00/31.jpg", "images/01/1000.jpg"]
    assert data.captions == ["a yellow building;", "", "a café’s terrace; two people;"]
    assert data.label_names == ["building", "group of persons", "sky-blue"]
    assert data.labels.tolist() == [[1, 0, 1], [0, 0, 1], [0, 1, 0]]
    assert data.manifest["summary"]["rows_without_text"] == 1


def test_damaged_iaprtc12_files_are_refused(tmp_path, run):
    segmented = write_iapr(tmp_path / "raw")
    options = ["--raw", tmp_path / "raw", "--allow-partial", "--output", tmp_path / "out"]
    labels = segmented / "00/labels.txt"
    labels.write_text("25 1 7\n25 1 8000\n")
    assert "labels.txt, line 2: unknown label 8000" in run(iaprtc12, *options)[1]
    labels.write_text("25 sky\n")
    assert "line 1: expected the numbers of a picture" in run(iaprtc12, *options)[1]
    (segmented / "wlist.txt").unlink()
    code, printed = run(iaprtc12, *options)
    assert code == 2
    assert "wlist.txt not there" in printed
    assert not (tmp_path / "out").exists()


def test_lists_name_their_own_labels_if_the_protocol_does_not(tmp_path, run):
    """The columns of all_labels.txt may come in any order; each gets the name that matches it."""
    lists = tmp_path / "lists"
    lists.mkdir()
    for row in range(4):
        put_picture(tmp_path / f"images/{row}.jpg", row)
    (lists / "all_imgs.txt").write_text("images/0.jpg\nimages/1.jpg\nimages/2.jpg\nimages/3.jpg\n")
    (lists / "all_txts.txt").write_text("a; b\n\nc;\nd\n")
    (lists / "all_labels.txt").write_text("0 1 1\n1 0 0\n0 0 1\n0 0 0\n")
    (lists / "labels_annotation.txt").write_text("ape,cat\nbee\ncat\n\n")
    options = ["--lists", lists, "--images", tmp_path, "--allow-partial", "--output", tmp_path / "out"]
    code, printed = run(iaprtc12, *options)
    assert code == 0, printed
    data = read_dataset(tmp_path / "out")
    assert data.label_names == ["bee", "ape", "cat"]
    assert data.label_texts == ["ape cat", "bee", "cat"]
    assert data.captions == ["a; b", "", "c"]
    (lists / "labels_annotation.txt").write_text("ape,cat\nbee\ncat,bee\n\n")
    assert "names other labels" in run(iaprtc12, *options)[1]

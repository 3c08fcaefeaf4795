"""Numbered tar files, and tar files in a real S3 server."""

import io
import tarfile

import pytest
from PIL import Image

from math_hash.cli import main
from math_hash.data import read_dataset
from math_hash.data.building.custom import main as make_custom
from math_hash.data.collection import read_collection
from math_hash.data.records import Columns
from math_hash.data.remote import expand_ranges, is_remote
from math_hash.errors import InputError
from math_hash.retrieval import shards
from math_hash.retrieval.codes_folder import CodesFolder


def write_tar(path, names):
    with tarfile.open(path, "w") as archive:
        for name in names:
            image = io.BytesIO()
            Image.new("RGB", (20, 10), (hash_of(name), 90, 200 - hash_of(name))).save(image, "PNG")
            for ending, content in (("png", image.getvalue()), ("txt", f"text {name}".encode()), ("cls", b"red, big")):
                member = tarfile.TarInfo(f"{name}.{ending}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def hash_of(name):
    return int(name) * 37 % 200


@pytest.fixture(scope="module")
def tars(tmp_path_factory):
    """shards/a/000.tar ... shards/b/002.tar with two samples each, numbered in order."""
    root = tmp_path_factory.mktemp("tars") / "shards"
    for place, name in enumerate(f"{folder}/{number:03}" for folder in (1, 2) for number in range(3)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        write_tar(root / f"{name}.tar", [f"{place * 2:04}", f"{place * 2 + 1:04}"])
    return root


def encode(run, source, output, *flags):
    return main(["encode", str(run), str(source), "--output", str(output), "--num-workers", "0", *flags])


def refused(capsys, message, code):
    assert code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert message in error, error


def test_ranges_expand_as_in_a_shell():
    assert list(expand_ranges("x{08..11}-{1..2}.tar")) == [
        f"x{a}-{b}.tar" for a in ("08", "09", "10", "11") for b in "12"
    ]
    assert list(expand_ranges("{9..11}")) == ["9", "10", "11"]
    assert list(expand_ranges("{a,b}.tar")) == ["{a,b}.tar"]
    with pytest.raises(InputError, match="smaller number stands first"):
        list(expand_ranges("{3..1}"))


@pytest.mark.parametrize(
    "url",
    ["pipe:cat x.tar", "pipe://cat x.tar", "simplecache::s3://b/x.tar", "s3://b::file:///etc/x.tar", "ssh://h/x.tar",
     "local:///etc/x.tar", "memory://x.tar"],
)  # fmt: skip
def test_urls_that_run_commands_or_lead_elsewhere_are_refused(url, trained_run, tmp_path, capsys):
    with pytest.raises(InputError, match="runs commands and is refused" if url.startswith("pipe") else "are not read"):
        is_remote(url)
    refused(capsys, url, encode(trained_run, url, tmp_path / "codes"))


def test_numbered_tars_are_read_in_order_and_a_missing_one_is_named(tars, trained_run, tmp_path, capsys):
    root, records = read_collection(f"{tars}/{{1..2}}/{{000..002}}.tar", Columns())
    records = list(records)
    assert root == tars
    assert [record.id for record in records] == [f"{number:04}" for number in range(12)]
    assert records[5].image == "1/002.tar/0005.png"
    assert encode(trained_run, f"{tars}/2/{{000..002}}.tar", tmp_path / "braces") == 0
    assert encode(trained_run, tars / "2", tmp_path / "folder") == 0
    for name in ("codes.npy", "rows.jsonl"):
        assert (tmp_path / "braces" / name).read_bytes() == (tmp_path / "folder" / name).read_bytes()
    refused(capsys, "1/003.tar: is not there", encode(trained_run, f"{tars}/1/{{000..010}}.tar", tmp_path / "none"))
    assert make_custom([f"{tars}/{{1..2}}/{{000..002}}.tar", "--output", str(tmp_path / "mine")]) == 0
    assert read_dataset(tmp_path / "mine").image_path(11).name == "0011.png"


@pytest.fixture(scope="module")
def s3(tars):
    """A bucket `photos` with the tars in a server on this machine; what starts it again or stops it."""
    moto = pytest.importorskip("moto.server")
    boto3, s3fs = pytest.importorskip("boto3"), pytest.importorskip("s3fs")
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "fake",
            "AWS_SECRET_ACCESS_KEY": "fake",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_MAX_ATTEMPTS": "1",
        }.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        client = boto3.client("s3")
        client.create_bucket(Bucket="photos")
        for path in sorted(tars.rglob("*.tar")):
            client.upload_file(str(path), "photos", f"shards/{path.relative_to(tars)}")
        yield client
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.mark.server
def test_tars_in_an_object_store_give_the_codes_of_the_files(s3, tars, trained_run, tmp_path):
    for modality, source, folder in (("image", "1", "1"), ("text", "2/{000..002}.tar", "2")):
        remote, local = tmp_path / f"{modality}.remote", tmp_path / f"{modality}.local"
        assert encode(trained_run, f"s3://photos/shards/{source}", remote, "--modality", modality) == 0
        assert encode(trained_run, tars / folder, local, "--modality", modality) == 0
        assert (remote / "codes.npy").read_bytes() == (local / "codes.npy").read_bytes()
        rows, local_rows = (list(CodesFolder.open(codes).rows()) for codes in (remote, local))
        assert [name for name, _ in rows] == [name for name, _ in local_rows]
        for (_, metadata), (_, local_metadata) in zip(rows, local_rows, strict=True):
            assert metadata["image"] == f"s3://photos/shards/{folder}/{local_metadata['image']}"
            assert metadata["text"] == local_metadata["text"]
    assert make_custom(["s3://photos/shards/1", "--output", str(tmp_path / "mine")]) == 0
    assert read_dataset(tmp_path / "mine").captions == [f"text {number:04}" for number in range(6)]


@pytest.mark.server
def test_errors_of_an_object_store_are_one_line_and_the_run_resumes(
    s3, tars, trained_run, tmp_path, capsys, monkeypatch, shards_written
):
    monkeypatch.setattr(shards, "SHARD_ROWS", 2)
    pattern, output = "s3://photos/shards/1/{000..003}.tar", tmp_path / "codes"
    refused(capsys, "s3://photos/shards/1/003.tar: is not there", encode(trained_run, pattern, output))
    refused(capsys, "s3://nowhere/x: is not there", encode(trained_run, "s3://nowhere/x", tmp_path / "none"))
    assert not output.exists()
    before = shards_written.count
    s3.upload_file(str(tars / "2/000.tar"), "photos", "shards/1/003.tar")
    assert encode(trained_run, pattern, output) == 0
    assert shards_written.count == before + 1  # three of four shards were kept
    assert CodesFolder.open(output).config["count"] == 8
    s3.put_object(Bucket="photos", Key="shards/1/003.tar", Body=b"no tar file")
    assert encode(trained_run, pattern, tmp_path / "damaged") == 0
    assert "003.tar\tcannot be read as an uncompressed tar" in (tmp_path / "damaged/rejected.tsv").read_text()
    s3.delete_object(Bucket="photos", Key="shards/1/003.tar")


@pytest.mark.server
def test_a_server_that_does_not_answer_is_one_line(s3, trained_run, tmp_path, capsys, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    s3fs.S3FileSystem.clear_instance_cache()
    refused(capsys, "cannot be read", encode(trained_run, "s3://photos/shards/1/000.tar", tmp_path / "codes"))
    s3fs.S3FileSystem.clear_instance_cache()

"""Datasets of Hugging Face: as the library writes them to a disk, and repositories' layouts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from pipeline.config import Config
from pipeline.errors import UsageError
from pipeline.inputs import hubs
from pipeline.inputs.containers import parquet
from pipeline.inputs.difference import compare
from pipeline.outputs.layout import Layout
from pipeline.reading import Reading
from pipeline.store import objects
from tests.support.listings import listed, uris

ROWS = 7


@pytest.fixture(scope="module")
def dataset() -> Any:
    """Of `ROWS` images, which are their own numbers."""
    images = [{"bytes": b"%d" % number, "path": None} for number in range(ROWS)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    columns = {"image": images, "label": list(range(ROWS))}
    return datasets.Dataset.from_dict(columns, features=features)


@pytest.fixture(autouse=True)
def quiet() -> None:
    datasets.disable_progress_bars()


def contents(tmp_path: Path, **options: Any) -> list[str]:
    """What the images of an input hold, each read as a run does it."""
    table, _ = listed(tmp_path, **options)
    found = []
    for row in table.to_pylist():
        row_group, number = row["source_place"]
        column = options.get("bytes_column")
        read = parquet.image(row["source_uri"], row_group, number, column, Reading())
        assert isinstance(read, bytes)
        found.append(read.decode())
    return found


def test_saved_to_disk(s3: Any, bucket: str, dataset: Any, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    datasets.DatasetDict(train=dataset, test=dataset.select([2, 0])).save_to_disk(
        folder, num_shards={"train": 2, "test": 1}
    )
    numbers = [str(number) for number in range(ROWS)]
    assert contents(tmp_path, input=str(folder)) == [*numbers, "2", "0"]
    table, found = listed(tmp_path, input=f"{folder}/train/", carry=["label"])
    assert table["label"].to_pylist() == list(range(ROWS)) and found.columns == ["label"]
    assert table["image_uri"].to_pylist()[-1] == f"{folder}/train/data-00001-of-00002.arrow#2"
    assert contents(tmp_path, input=f"{folder}/train", bytes_column="image") == numbers
    for path in filter(Path.is_file, folder.rglob("*")):
        key = f"saved/{path.relative_to(folder)}"
        s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    assert contents(tmp_path, input=f"s3://{bucket}/saved/test") == ["2", "0"]
    config = Config(input=str(folder), output=str(tmp_path / "out"))
    with pytest.raises(UsageError, match="--refresh cannot tell"):
        compare(config, Layout.of(config.output), found, tmp_path)
    with pytest.raises(UsageError, match="exclude is for a listing"):
        listed(tmp_path, input=str(folder), exclude=["*"])


def test_a_folder_with_notes_of_other_programs(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jpg").write_bytes(b"1")
    for content in ("[1]", "no JSON", "{}"):
        (tmp_path / "in" / "state.json").write_text(content)
        (tmp_path / "in" / "dataset_dict.json").write_text(content)
        assert uris(tmp_path, input=str(tmp_path / "in")) == ["in/a.jpg"]


def test_both_forms_of_arrow(dataset: Any, tmp_path: Path) -> None:
    table = dataset.data.table.replace_schema_metadata(None)
    feather.write_feather(table, tmp_path / "a.feather", chunksize=3)
    with pa.ipc.new_stream(str(tmp_path / "b.arrow"), table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    numbers = [str(number) for number in range(ROWS)]
    for name in ("a.feather", "b.arrow"):
        assert contents(tmp_path, input=str(tmp_path / name)) == numbers
    feather.write_feather(table[:2], tmp_path / "new")
    (tmp_path / "new").replace(tmp_path / "a.feather")
    assert listed(tmp_path, input=str(tmp_path / "a.feather"))[0].num_rows == 2
    data = (tmp_path / "b.arrow").read_bytes()
    (tmp_path / "cut.arrow").write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match=r"cannot read .*cut\.arrow"):
        listed(tmp_path, input=str(tmp_path / "cut.arrow"))


def test_a_file_whose_images_are_texts(dataset: Any, tmp_path: Path) -> None:
    """Each file has its own types, of which a listing sees those of the first."""
    texts = pa.table(
        {"image": [{"bytes": "x"}], "label": [1]}, metadata=dataset.data.schema.metadata
    )
    pq.write_table(texts, tmp_path / "a.parquet")
    with pytest.raises(pa.ArrowTypeError, match=r"column 'image' of .*a\.parquet holds string"):
        parquet.image(str(tmp_path / "a.parquet"), 0, 0, None, Reading())


def test_offsets_that_lead_out_of_a_file(tmp_path: Path) -> None:
    """Arrow trusts them; to read such a value may end the process."""
    table = pa.table({"image": [b"x" * 0x1234]})
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as stream:
        stream.write_table(table)
    data = (tmp_path / "a.arrow").read_bytes()
    # the last such place: before it is what tells the length of the values
    start, _, end = data.rpartition(b"\0\0\0\0\x34\x12\0\0")
    (tmp_path / "a.arrow").write_bytes(start + b"\0\0\0\0\xff\xff\xff\x7f" + end)
    with pytest.raises(pa.ArrowInvalid):
        parquet.image(str(tmp_path / "a.arrow"), 0, 0, "image", Reading())


def test_a_downloaded_repository(dataset: Any, tmp_path: Path) -> None:
    root = tmp_path / "hub" / "datasets--me--cells" / "snapshots" / "0123abc"
    for split, number in (("train", 0), ("train", 1), ("test", 0)):
        total = 2 if split == "train" else 1
        path = root / "data" / f"{split}-{number:05d}-of-{total:05d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.shard(total, number).to_parquet(path)
    numbers = [str(number) for number in range(ROWS)]
    assert contents(tmp_path, input=str(root)) == [*numbers, *numbers]
    assert contents(tmp_path, input=f"{root}/test") == numbers
    assert contents(tmp_path, input=f"{root}/default/train") == numbers
    assert contents(tmp_path, input=f"{root}/data/test-*.parquet") == numbers
    os.unlink(root / "data" / "train-00000-of-00002.parquet")
    with pytest.raises(UsageError, match="only 1 of 2 files of split 'train' of .* are there"):
        listed(tmp_path, input=str(root))


def test_which_column(tmp_path: Path) -> None:
    def complaint(columns: dict[str, Any]) -> str:
        pq.write_table(pa.table(columns), tmp_path / "t.parquet")
        with pytest.raises(UsageError) as error:
            listed(tmp_path, input=str(tmp_path / "t.parquet"))
        return str(error.value)

    pair = [{"bytes": b"1", "path": "a.jpg"}]
    assert "several columns of images (a, b); choose one" in complaint({"a": pair, "b": pair})
    assert "no column named image_uri" in complaint({"a": [b"1"], "label": [1]})
    # a column of URIs means what it has always meant
    pq.write_table(pa.table({"a": pair, "url": ["/x.jpg"]}), tmp_path / "t.parquet")
    assert uris(tmp_path, input=str(tmp_path / "t.parquet")) == ["/x.jpg"]


CARD = """---
license: mit
configs:
- config_name: small
  data_files:
  - split: train
    path: small/train-*
  - split: test
    path: [small/a.parquet, small/b*.parquet]
- config_name: large
  data_dir: big
  data_files: "**/*.parquet"
---
# A dataset
"""
SMALL = ["small/train-00000-of-00001.parquet", "small/a.parquet", "small/b1.parquet"]


@pytest.mark.parametrize(
    "files, card, expected",
    [
        (
            [*SMALL, "big/x/1.parquet", "other.parquet"],
            CARD,
            {
                "small": {"train": SMALL[:1], "test": SMALL[1:]},
                "large": {"train": ["big/x/1.parquet"]},
            },
        ),
        (
            ["data/train-00000-of-00001-0aa209b277f9bf03.parquet", "test.parquet"],
            "---\nconfigs: no list\n---",
            {
                "default": {
                    "train": ["data/train-00000-of-00001-0aa209b277f9bf03.parquet"],
                    "test": ["test.parquet"],
                }
            },
        ),
        (
            ["a/train/0000.parquet", "a/train/0001.parquet", "b/test/0000.parquet"],
            "no front matter",
            {
                "a": {"train": ["a/train/0000.parquet", "a/train/0001.parquet"]},
                "b": {"test": ["b/test/0000.parquet"]},
            },
        ),
    ],
)
def test_subsets(files: list[str], card: str, expected: hubs.Subsets) -> None:
    assert hubs.subsets(files, card) == expected


def test_several_subsets(dataset: Any, tmp_path: Path) -> None:
    root = tmp_path / "datasets--me--cells" / "snapshots" / "0123abc"
    for name in ("a/train/0.parquet", "b/test/0.parquet"):
        (root / name).parent.mkdir(parents=True)
        dataset.to_parquet(root / name)
    for part in ("", "/train"):
        with pytest.raises(UsageError, match=f"several subsets; choose one: {root}/a, {root}/b"):
            listed(tmp_path, input=f"{root}{part}")
    assert len(contents(tmp_path, input=f"{root}/b")) == ROWS


def test_the_subset_that_the_card_calls_the_default(dataset: Any, tmp_path: Path) -> None:
    root = tmp_path / "datasets--me--cells" / "snapshots" / "0123abc"
    for name, rows in (("a/1.parquet", [1]), ("b/2.parquet", [2]), ("b/3.parquet", [3])):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        dataset.select(rows).to_parquet(root / name)
    card = (
        "---\nconfigs:\n- config_name: default\n  data_files: a/*\n- config_name: b\n"
        "  default: true\n  data_files: {train: 'b/2*', test: ['b/3*']}\n---\n"
    )
    (root / "README.md").write_text(card)
    assert contents(tmp_path, input=str(root)) == ["2", "3"]
    assert contents(tmp_path, input=f"{root}/test") == ["3"]
    assert contents(tmp_path, input=f"{root}/default") == ["1"]
    (root / "README.md").write_text(card.replace("default: true", "default: false"))
    assert contents(tmp_path, input=str(root)) == ["1"]


def test_without_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's own switch; the line says what to give instead."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(objects, "FIRST_ATTEMPTS", 1)
    with pytest.raises(UsageError, match="offline mode is enabled.*without a network, give the"):
        listed(tmp_path, input="hf://datasets/me/cells")

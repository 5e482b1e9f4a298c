"""What a hostile table, checkpoint or configuration cannot do."""

from __future__ import annotations

import contextlib
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from pipeline import Config, UsageError, run
from pipeline.config import from_yaml
from pipeline.inputs import enumeration
from pipeline.labels.verify import verify
from pipeline.network.weights import resolve
from pipeline.outputs.layout import Layout
from pipeline.store import objects
from tests.support.engines import PixelEngine
from tests.support.exploits import Exploit
from tests.support.fetching import fetched
from tests.support.outputs import files


@pytest.mark.parametrize("name", ["evil.pth", "evil.pt", "evil.safetensors", "evil"])
@pytest.mark.parametrize("form", ["zip", "legacy", "bare", "tar"])
def test_code_in_weights(form: str, name: str, tmp_path: Path) -> None:
    path, owned = tmp_path / name, tmp_path / "owned"
    content = {"model": Exploit(owned), "roi_heads.box_predictor.cls_score.weight": torch.zeros(1)}
    if form == "zip":
        torch.save(content, path)
        assert zipfile.is_zipfile(path)
    elif form == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    elif form == "bare":
        path.write_bytes(pickle.dumps(content))
    else:  # as torch before 0.1.10 saved
        import io
        import tarfile

        with tarfile.open(path, "w") as tar:
            for part in ("storages", "tensors", "pickle"):
                data = pickle.dumps(content)
                entry = tarfile.TarInfo(part)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    with pytest.raises(UsageError, match="could execute code|cannot be loaded"):
        resolve(Config(input="in", output="out", weights=str(path)), objects.read)
    assert not owned.exists()
    if form == "bare":  # the trap works
        pickle.loads(path.read_bytes())
        assert owned.exists()


@pytest.fixture
def pickled(tmp_path: Path) -> Iterator[pa.Array]:
    """A column of Ray's type for Python objects, whose values are unpickled when looked at."""
    import ray.data  # noqa: F401 - which registers the type
    from ray.data._internal.object_extensions.arrow import ArrowPythonObjectType

    evil = pa.array([pickle.dumps(Exploit(tmp_path / "owned"))], pa.large_binary())
    column = pa.ExtensionArray.from_storage(ArrowPythonObjectType(), evil)
    yield column
    assert not (tmp_path / "owned").exists()
    column.to_pylist()  # the trap works
    assert (tmp_path / "owned").exists()


def test_pickles_in_a_table(cluster: None, pickled: pa.Array, tmp_path: Path) -> None:
    def counted(table: dict[str, Any], **options: Any) -> int:
        pq.write_table(pa.table(table), tmp_path / "t.parquet")
        config = Config(input=str(tmp_path / "t.parquet"), output=str(tmp_path / "o"), **options)
        return enumeration.count(config).rows

    struct = pa.StructArray.from_arrays([pickled], ["bytes"])
    for column in (pickled, struct, pa.array([[1]])):
        with pytest.raises(UsageError, match="not URIs"):
            counted({"uri": column})
        with pytest.raises(UsageError, match="not image bytes"):
            counted({"uri": column}, bytes_column="uri")
    for column in (pickled, struct, pa.ListArray.from_arrays([0, 1], pickled)):
        with pytest.raises(UsageError, match="cannot be carried: it is of an extension type"):
            counted({"uri": ["/a"], "x": column}, carry=["x"])
    assert counted({"uri": ["/a"], "x": pickled}) == 1


def test_pickles_in_the_second_table(cluster: None, pickled: pa.Array, tmp_path: Path) -> None:
    Image.new("RGB", (40, 40), "white").save(tmp_path / "a.png")
    image = (tmp_path / "a.png").read_bytes()
    good = {"uri": ["/a"], "image": [image], "x": pa.array([b"1"], pa.large_binary())}
    for number, name in enumerate(("uri", "image", "x")):
        folder = tmp_path / str(number)
        folder.mkdir()
        pq.write_table(pa.table(good), folder / "0.parquet")
        pq.write_table(pa.table(good | {name: pickled}), folder / "1.parquet")
    source: dict[str, Any] = {"output": str(tmp_path / "o"), "input": f"{tmp_path}/0/*.parquet"}
    with pytest.raises(UsageError, match="cannot read"):
        enumeration.count(Config(**source))
    source["input"] = f"{tmp_path}/2/*.parquet"
    for options in cast(list[dict[str, Any]], [{}, {"bytes_column": "image"}]):
        with pytest.raises(UsageError, match="column 'x' holds extension"):
            enumeration.count(Config(**source, carry=("x",), **options))
    found = fetched(tmp_path / "o", f"{tmp_path}/1/*.parquet", bytes_column="image")
    assert [row["error_code"] for row in found] == [None, "read_failed"]


@pytest.mark.parametrize(
    "kind",
    [
        "arrow.py_extension_type",
        "pandas.period",
        "pandas.interval",
        "ray.data.arrow_tensor",
        "ray.data.arrow_tensor_v2",
        "ray.data.arrow_variable_shaped_tensor",
        "ray.data.arrow_pickled_object",
        "arrow.fixed_shape_tensor",
        "datasets.features.features.Array2DExtensionType",
    ],
)
def test_pickles_in_metadata(cluster: None, kind: str, tmp_path: Path) -> None:
    """Extension types, of which old versions unpickle the parameters; pandas' metadata."""
    import datasets  # noqa: F401 - whose types are registered by it
    import ray.data  # noqa: F401

    evil = pickle.dumps(Exploit(tmp_path / "owned"))
    extension = {"ARROW:extension:name": kind, "ARROW:extension:metadata": evil}
    pandas = {"pandas": b'{"columns": [{"name": "x", "metadata": {"pickle": 1}}]}', "PANDAS": evil}
    for storage_type in (pa.binary(), pa.list_(pa.int64()), pa.int64()):
        schema = pa.schema(
            [pa.field("uri", pa.string()), pa.field("x", storage_type, metadata=extension)], pandas
        )
        path = tmp_path / "t.parquet"
        # as a hostile program writes it: Arrow's own schema, whose types nobody has seen
        pq.write_table(pa.table({"uri": ["/a"], "x": pa.nulls(1, storage_type)}, schema), path)
        for options in ({}, {"carry": ["x"]}, {"uri_column": "x"}, {"bytes_column": "x"}):
            with contextlib.suppress(UsageError):
                config = Config(input=str(path), output=str(tmp_path / "o"), **options)
                layout = Layout.of(config.output)
                enumeration.write(config, layout, "").read_part(layout, 0).to_pylist()
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch {}']",
        "input: !!python/object/apply:os.system ['touch {}']",
        "model: {{min_size: !!python/object/new:os.system ['touch {}']}}",
        "? !!python/object/apply:os.system ['touch {}']\n: 1",
        "input: !!python/name:os.system",
    ],
)
def test_code_in_a_configuration(text: str, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(text.format(tmp_path / "owned"))
    with pytest.raises(UsageError, match="cannot read --config .* could not determine a constr"):
        from_yaml(str(tmp_path / "run.yaml"))
    assert not (tmp_path / "owned").exists()


def test_nothing_is_written_beside_the_output(
    cluster: None, s3: Any, bucket: str, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (40, 40), "white").save(tmp_path / "in" / "a.png")
    uris = [
        "a.png",
        "../in/a.png",
        "../../x.png",
        f"{tmp_path}/out/../../../evil",
        "/../../etc/x",
        "status=ok/../../x",
        "..%2f..%2fx",
        "\\..\\..\\x",
        "%00",
        "_SUCCESS",
        "a\n../b",
        f"{tmp_path}/out/_run/run.json",
        "x" * 5000,
    ]
    pq.write_table(
        pa.table({"uri": uris, "../../carried": uris, "status": uris}), tmp_path / "in/t.parquet"
    )
    before = files(str(tmp_path))
    options: dict[str, Any] = {
        "input": str(tmp_path / "in/t.parquet"),
        "weights": "random:0",
        "carry": ["../../carried"],
        "max_error_rate": 1.0,
    }
    run(Config(output=f"{tmp_path}/in/../deep/../out", **options), PixelEngine)
    after = files(str(tmp_path))
    new = {name for name in after if name not in before}
    assert {name: after[name] for name in before} == before
    assert all(
        name.startswith(("out/detections/status=", "out/_run/", "out/_SUCCESS")) for name in new
    )
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}
    assert not verify(str(tmp_path / "out")).breaches
    # a bucket has no folders: two dots are a part of a name, which this store does not take
    with pytest.raises((UsageError, RuntimeError), match="Invalid Request"):
        run(Config(output=f"s3://{bucket}/labels/../../other/out", **options), PixelEngine)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)

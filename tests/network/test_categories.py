"""Every way to name the classes of a network, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import Config, UsageError
from pipeline.network.categories import parse
from pipeline.network.weights import resolve
from pipeline.store import objects

CELLS = {1: "WBC", 2: "RBC", 3: "Platelets"}
ROOT = {"id": 0, "name": "cells", "supercategory": "none"}


def entries(
    first: int, *more: dict[str, Any], names: tuple[str, ...] = tuple(CELLS.values())
) -> Any:
    numbered = enumerate(names, start=first)
    return [*more, *({"id": k, "name": name, "supercategory": "cells"} for k, name in numbered)]


TEXTS = {
    "text": "WBC\nRBC\nPlatelets\n",
    "no line end": "WBC\nRBC\nPlatelets",
    "CRLF": "WBC\r\nRBC\r\nPlatelets\r\n",
    "empty lines and spaces": "\n WBC \n\n\tRBC\nPlatelets\n\n",
    "comments": "# of blood\nWBC\nRBC\n# small\nPlatelets\n",
    "background first": "__background__\nWBC\nRBC\nPlatelets\n",
    "YAML list": "- WBC\n- RBC\n- Platelets\n",
    "YAML list with a comment": "---\n# of blood\n- WBC  # white\n- 'RBC'\n- Platelets\n",
    "YAML flow list": "[WBC, RBC, Platelets]",
    "data.yaml, list": "train: a\nnc: 3\nnames: [WBC, RBC, Platelets]\n",
    "data.yaml, block": "path: ..\nnames:\n- WBC\n- RBC\n- Platelets\n",
    "data.yaml, map": "path: ..\nnames:\n  0: WBC\n  1: RBC\n  2: Platelets\n",
    "map from 0": "0: WBC\n1: RBC\n2: Platelets\n",
    "map from 1": "1: WBC\n2: RBC\n3: Platelets\n",
    "CSV": "1,WBC\n2,RBC\n3,Platelets\n",
    "CSV from 0": "0,WBC\n1,RBC\n2,Platelets\n",
    "CSV with a head": "id,name\n1,WBC\n2,RBC\n3,Platelets\n",
    "CSV, name first": "label;index\nWBC;1\nRBC;2\nPlatelets;3\n",
    "CSV, more columns": "id,supercategory,name\n1,cell,WBC\n2,cell,RBC\n3,cell,Platelets\n",
    "TSV, quoted": '1\t"WBC"\n2\tRBC\n3\tPlatelets\n',
    "JSON list": json.dumps(list(CELLS.values())),
    "JSON list, indented": json.dumps(list(CELLS.values()), indent=1),
    "JSON map": json.dumps({"0": "WBC", "1": "RBC", "2": "Platelets"}),
    "id2label": json.dumps({"id2label": {"0": "WBC", "1": "RBC", "2": "Platelets"}, "x": 1}),
    "id2label of DETR": json.dumps({"id2label": {0: "N/A", **CELLS}}),
    "label2id": json.dumps({"label2id": {"WBC": 0, "RBC": 1, "Platelets": 2}}),
    "names": json.dumps({"names": list(CELLS.values())}),
    "COCO": json.dumps({"images": [], "categories": entries(1)}),
    "COCO from 0": json.dumps({"categories": entries(0)}),
    "COCO, ids as text": json.dumps({"categories": [e | {"id": f"{e['id']}"} for e in entries(1)]}),
    "COCO's categories alone": json.dumps(entries(1)),
    "Roboflow": json.dumps({"categories": entries(1, ROOT)}),
    "Roboflow, root called as a class": json.dumps(
        {"categories": entries(1, ROOT | {"name": "RBC"}), "annotations": [{"category_id": 2}]}
    ),
}


def read(text: str | bytes, name: str = "names.txt", classes: int = 4) -> dict[int, str]:
    data = text.encode() if isinstance(text, str) else text
    return parse(data, f"/a/{name}", "w.pth", classes)


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_what_is_plainly_meant(form: str, encoding: str) -> None:
    assert read(TEXTS[form].encode(encoding)) == CELLS


@pytest.mark.parametrize(
    "form,name",
    [
        ("COCO", "names.JSON"),
        ("id2label", "config.json"),
        ("data.yaml, map", "data.yaml"),
        ("YAML list", "classes.YML"),
        ("text", "names.yaml"),
        ("CSV", "names.csv"),
        ("text", "names.csv"),
        ("text", "obj.names"),
        ("COCO", "names.json?X-Amz-Signature=0"),
    ],
)
def test_whatever_it_is_called(form: str, name: str) -> None:
    assert read(TEXTS[form], name) == CELLS


@pytest.mark.parametrize(
    "text,name,classes,expected",
    [
        ("name\nWBC\n", "a.csv", 2, {1: "WBC"}),  # a head, but only in CSV
        ("name\nWBC\n", "a.txt", 3, {1: "name", 2: "WBC"}),
        ('"cup, large"\nmug\n', "a.csv", 3, {1: "cup, large", 2: "mug"}),
        ("cup, large\nmug, small\n", "a.txt", 3, {1: "cup, large", 2: "mug, small"}),
        ("no\nyes\n1.5\n", "a.txt", 4, {1: "no", 2: "yes", 3: "1.5"}),
        ("- no\n- yes\n- 07\n", "a.yaml", 4, {1: "no", 2: "yes", 3: "07"}),
        ("[no, 1, x]", "a.txt", 4, {1: "no", 2: "1", 3: "x"}),
        ('{"0": "0", "1": "1"}', "a.json", 3, {1: "0", 2: "1"}),
        ("a-b\n-c\n", "a.txt", 3, {1: "a-b", 2: "-c"}),
        ("N/A\na\nN/A\nb\n", "a.txt", 5, {1: "N/A", 2: "a", 3: "N/A", 4: "b"}),
        (json.dumps([{"id": 1, "name": "a"}, {"id": 3, "name": "c"}]), "a", 4, {1: "a", 3: "c"}),
        (json.dumps([{"id": 0, "name": "a"}, {"id": 2, "name": "c"}]), "a", 4, {1: "a", 3: "c"}),
        # a root that the count takes for a class is one
        (json.dumps(entries(1, ROOT, names=("a",))), "a", 3, {1: "cells", 2: "a"}),
    ],
)
def test_what_could_be_taken_for_something_else(
    text: str, name: str, classes: int, expected: dict[int, str]
) -> None:
    assert read(text, name, classes) == expected


@pytest.mark.parametrize(
    "text,complaint",
    [
        ("WBC\nRBC\n", "name 2 classes .* have 3 beside the background"),
        ("a\nb\nc\nd\n", "name 4 classes with ids up to 4, but weights w.pth have 3"),
        ("1,a\n2,b\n", "name 2 classes with ids up to 2"),
        ("2,a\n3,b\n4,c\n", "name 3 classes with ids up to 4"),
        (json.dumps(entries(0, names=("a", "b", "c", "d"))), "name 4 classes"),
        (
            json.dumps({"categories": entries(1, ROOT), "annotations": [{"category_id": 0}]}),
            "name 4 classes with ids up to 3",
        ),
        ("WBC\nRBC\nWBC\n", "has the name 'WBC' twice"),
        ('{"1": "a", "2": "a", "3": "b"}', "has the name 'a' twice"),
        ("1,a\n1,b\n3,c\n", "has the id 1 twice"),
        (json.dumps({"categories": [*entries(1), entries(1)[0]]}), "has the id 1 twice"),
        ("- WBC\nRBC\n- Platelets\n", "some of its lines begin with '- ' and some do not"),
        ("", "it is empty"),
        ("# nothing\n", "it is empty"),
        ("{}", "is not one of text with one name per line"),
        ("[]", "is not one of text with one name per line"),
        ('{"a": "b"}', "is not one of text with one name per line"),
        ('["a", null, "c"]', "None is not the name of a class"),
        ('["a", "", "c"]', "'' is not the name of a class"),
        ('{"categories": [{"id": null, "name": "a"}]}', "whose id is not a whole number"),
        ('{"categories": [{"id": 1}]}', "None is not the name of a class"),
        ("names: [a", "it is not valid YAML"),
        ("WBC\nRBC\nPlättchen\n".encode("cp1252"), "it is not text in UTF-8; save it as UTF-8"),
        ("WBC\nRBC\n".encode("utf-16-le"), "it is not text, or not in UTF-8"),
        (b"PK\x03\x04\x00", "it is not text, or not in UTF-8"),
    ],
)
def test_what_is_refused(text: str | bytes, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        read(text)
    assert "\n" not in str(caught.value) and "/a/names.txt" in str(caught.value)


def test_json_that_is_none() -> None:
    with pytest.raises(
        UsageError, match="cannot read categories /a/names.json: it is not valid JSON"
    ):
        read("WBC\nRBC\nPlatelets\n", "names.json")
    with pytest.raises(UsageError, match="its columns are not an id and a name"):
        read("WBC,x\nRBC,y\nPlatelets,z\n", "names.csv")
    with pytest.raises(UsageError, match="it has a header line but no names"):
        parse(b"name\n", "/a/names.csv", "w.pth", None)


def test_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "names.yaml").write_text("\ufeff- WBC\n- RBC\n- Platelets\n")
    config = Config(
        input="in",
        output="out",
        weights="random:0",
        model={"num_classes": 4},
        categories=str(tmp_path / "names.yaml"),
    )
    assert resolve(config, objects.read).categories == CELLS

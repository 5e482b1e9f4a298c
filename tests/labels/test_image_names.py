"""An image is found by its name however that is written, and never for another one."""

from __future__ import annotations

import unicodedata

import pytest

from pipeline.errors import UsageError
from pipeline.labels.image_names import ImageNames

COMPOSED, APART = (unicodedata.normalize(form, "zellen/übung é.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    "name,uri",
    [
        ("im%200.jpg", "/data/im 0.jpg"),
        ("im 0.jpg", "https://host/im%200.jpg?X-Amz-Signature=0"),
        ("IM%2b.jpg", "/data/IM+.jpg"),
        ("a%2Fb.jpg", "s3://bucket/a/b.jpg"),
        ("im%20.jpg", "https://host/im%2520.jpg"),
        ("100%.jpg", "/data/100%.jpg"),
        ("100%25.jpg", "/data/100%.jpg"),
        (COMPOSED, f"/data/{APART}"),
        (APART, f"/data/{COMPOSED}"),
        ("zellen/%C3%BCbung%20%C3%A9.jpg", f"s3://bucket/{APART}"),
        ("cam1\\0.jpg", "/data/cam1/0.jpg"),
        ("cam1/0.jpg", "/data/cam1\\0.jpg"),
        ("./cam1/0.jpg", "/data/cam1/0.jpg"),
        ("/data/0.jpg", "/data/0.jpg"),
        ("s3://bucket/0.jpg", "s3://bucket/0.jpg"),
        ("https://host/0.jpg?X-Amz-Signature=1", "https://host/0.jpg?X-Amz-Signature=2"),
    ],
)
def test_one_name_in_two_spellings(name: str, uri: str) -> None:
    assert ImageNames(["other.jpg", name]).place(uri) == (1, True)


@pytest.mark.parametrize(
    "name,uri",
    [
        ("C:\\work\\im%200.jpg", "/data/im 0.jpg"),
        ("train/im%200.jpg", "/data/val/im 0.jpg"),
        (f"train/{COMPOSED}", f"/data/val/{APART.rpartition('/')[2]}"),
    ],
)
def test_in_another_folder(name: str, uri: str) -> None:
    assert ImageNames(["other.jpg", name]).place(uri) == (1, False)


@pytest.mark.parametrize(
    "name,uri",
    [
        ("A.jpg", "/data/a.jpg"),
        ("%ff.jpg", "/data/%fe.jpg"),
        ("a.jpeg", "/data/a.jpg"),
    ],
)
def test_another_name(name: str, uri: str) -> None:
    assert ImageNames([name]).place(uri) is None


@pytest.mark.parametrize(
    "names",
    [("im 0.jpg", "im%200.jpg"), (COMPOSED, APART), ("a/b.jpg", "a\\b.jpg")],
)
@pytest.mark.parametrize("turned", [False, True])
def test_an_exact_match_goes_first(names: tuple[str, str], turned: bool) -> None:
    known = ImageNames(names[::-1] if turned else names)
    for place, name in enumerate(known.names):
        assert known.place(f"/data/{name}") == (place, True)


def test_an_exact_match_goes_first_in_other_folders() -> None:
    known = ImageNames(["a/im 0.jpg", "b/im%200.jpg"])
    assert known.place("/data/im 0.jpg") == (0, False)
    assert known.place("/data/im%200.jpg") == (1, False)
    assert ImageNames(["a/im%200.jpg", "b/im%200.jpg"]).place("/data/im 0.jpg") is None


def test_the_longest_name_goes_first() -> None:
    names = ["1.jpg", "b%20c/1.jpg", "a/b c/1.jpg"]
    known = ImageNames(names)
    assert [known.place(f"/x/{uri}") for uri in ("1.jpg", "b c/1.jpg", "a/b c/1.jpg")] == [
        (0, True),
        (1, True),
        (2, True),
    ]


@pytest.mark.parametrize(
    "names,uri",
    [
        (["im%200.jpg", "im%20%30.jpg"], "/data/im 0.jpg"),
        (["im%200.jpg", "./im%200.jpg"], "/data/im 0.jpg"),
        (["0.jpg", "0.jpg"], "/data/0.jpg"),
        (["0.jpg", "/0.jpg"], "/data/0.jpg"),
    ],
)
def test_two_images_of_one_name(names: list[str], uri: str) -> None:
    known = ImageNames([*names, "else.jpg"])
    with pytest.raises(UsageError, match="two images, .* that both match"):
        known.place(uri)
    assert known.place("/data/else.jpg") == (2, True)  # and the others are found

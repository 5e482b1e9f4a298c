"""The page of a comparison in a real browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from jobs import diff
from pipeline.labels.diff.pairing import KINDS
from tests.support import changed, pages, photographed


@pytest.fixture(scope="session")
def html(tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, bytes]) -> Path:
    base = tmp_path_factory.mktemp("diff")
    output = photographed.write(base, photographs)
    other = changed.write(base / "other", output)
    assert diff.main([str(output), str(other), "--to", str(base / "diff.html")]) == 0
    return base / "diff.html"


@pytest.fixture
def opened(browser: Browser, html: Path) -> Iterator[Page]:
    with pages.opened(browser, html) as tab:
        yield tab


def test_what_is_said_of_each_picture_is_drawn(opened: Page) -> None:
    assert opened.title() == "out and other: comparison"
    cards = opened.locator("#changed .card").all()
    drawn = [card for card in cards if card.locator(".box").count()]
    assert len(cards) == 8 and len(drawn) == 7  # one has changed since the run
    for card in drawn:
        said = card.locator("[data-found]").inner_text()
        counts = {title: int(n) for n, title in re.findall(r"(\d+) ([a-z]+(?: [AB])?)", said)}
        for kind in KINDS:
            title = kind.replace("_a", " A").replace("_b", " B")
            sides = 1 if kind in ("only_a", "only_b") else 2
            solid = card.locator(f".box.k-{kind}:not(.dashed)").count()
            dashed = card.locator(f".box.k-{kind}.dashed").count()
            number = counts.get(title, 0)
            assert solid + dashed == sides * number, (said, kind)
            assert kind != "only_b" or solid == 0
            labels = card.locator(f".label.k-{kind}").count()
            assert labels == (0 if kind == "same" else number)


def test_the_most_changed_come_first(opened: Page) -> None:
    counts = []
    for said in opened.locator("#changed [data-found]").all_inner_texts():
        numbers = {kind: int(n) for n, kind in re.findall(r"(\d+) (\w+)", said)}
        counts.append(sum(numbers.values()) - numbers.get("same", 0))
    assert counts[0] == max(counts) > counts[-1]


def test_labels_say_both_sides(opened: Page) -> None:
    words = opened.locator(".label.k-relabelled text").all_text_contents()
    assert words and all(re.match(r".+ → .+ 0\.\d\d", text) for text in words)
    fell = opened.locator(".label.k-fell text").all_text_contents()
    assert fell
    for text in fell:
        before, after = map(float, re.findall(r"\d\.\d\d", text))
        assert before >= 0.5 > after


def test_lines_of_two_styles(opened: Page) -> None:
    def dashes(selector: str) -> str:
        node = opened.locator(f"#changed {selector} .line").first
        return str(node.evaluate("node => getComputedStyle(node).strokeDasharray"))

    assert dashes(".box.k-moved:not(.dashed)") == "none" != dashes(".box.k-moved.dashed")


def test_a_picture_is_enlarged(opened: Page) -> None:
    card = opened.locator("#changed .card", has_text="plain.jpg")
    card.locator(".canvas").click()
    assert opened.locator("dialog .line:visible").count() == card.locator(".line").count()
    caption = opened.locator("dialog .caption").inner_text()
    assert caption.endswith(f"plain.jpg: {card.locator('[data-found]').inner_text()}")
    opened.keyboard.press("ArrowRight")
    assert opened.locator("dialog .caption").inner_text() != caption
    opened.keyboard.press("Escape")


def test_without_scripts(browser: Browser, html: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(html.as_uri())
    assert tab.locator("#changed .label:visible").count() > 10
    assert tab.locator("#changed .line:visible").count() > 50
    assert tab.locator(".numbers:visible").count() == 3
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_telephone(browser: Browser, html: Path, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": 375, "height": 700},
        is_mobile=True,
        color_scheme="dark" if scheme == "dark" else "light",
    )
    tab = context.new_page()
    tab.goto(html.as_uri())
    assert tab.evaluate("document.documentElement.scrollWidth") == 375
    colour = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", colour)[:3])) < 200) == (scheme == "dark")
    context.close()

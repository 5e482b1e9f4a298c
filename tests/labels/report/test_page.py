"""The report in a real browser: what it shows, with scripts and without, unhurt by any name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser, Page

from jobs import report
from pipeline.labels.report import drawing
from tests.support import outputs, pages, photographed
from tests.support.photographed import CATEGORIES, NAMES


@pytest.fixture(scope="session")
def output(tmp_path_factory: pytest.TempPathFactory, photographs: dict[str, bytes]) -> Path:
    return photographed.write(tmp_path_factory.mktemp("report"), photographs)


@pytest.fixture(scope="session")
def html(output: Path) -> Path:
    target = output.parent / "new/folder/report.html"
    assert report.main([str(output), "--to", str(target), "--pictures", "20"]) == 0
    return target


@pytest.fixture
def opened(browser: Browser, html: Path) -> Iterator[Page]:
    with pages.opened(browser, html) as tab:
        yield tab


def boxes_of(output: Path) -> list[tuple[str, float]]:
    rows = outputs.rows(str(output))
    return [(b["label"], b["score"]) for row in rows for b in row["detections"] or ()]


def visible(tab: Page, selector: str) -> int:
    return tab.locator(f"{selector}:visible").count()


def drawn(output: Path) -> list[float]:
    """Scores of the boxes in one gallery of all pictures, those not drawn left out."""
    rows = [row for row in outputs.rows(str(output)) if row["detections"]]
    rows = [row for row in rows if not row["image_uri"].endswith(("gone.jpg", "changed.jpg"))]
    return [box["score"] for row in rows for box in row["detections"]]


def slide(tab: Page, hundredths: int) -> None:
    tab.locator("#threshold").fill(str(hundredths))


def test_hostile_names_are_shown_and_do_nothing(opened: Page) -> None:
    assert opened.title() == "out: detection report"
    policy = opened.locator("meta[http-equiv]").get_attribute("content") or ""
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    assert opened.locator("script").count() == 2
    assert opened.locator("img").count() == 0
    names = opened.locator("#random .name").all_inner_texts()
    for name in NAMES:
        last = name.rsplit("/", 1)[-1].replace("\n", "\ufffd").replace("\u202e", "\ufffd")
        shown = [n for n in names if n == last or "…" in n and n[-20:] == last[-20:]]
        assert shown, name
    assert len(max(names, key=len)) <= 80
    assert max(map(len, opened.content().split("data:image/webp")[0].split("\n"))) < 200_000
    categories = opened.locator("#boxes tbody th").all_inner_texts()
    assert sorted(categories) == sorted(CATEGORIES.values())


def test_what_is_said_first(opened: Page, output: Path) -> None:
    assert "UNTRAINED NETWORK" in opened.locator(".alarm").inner_text()
    tiles = " ".join(opened.locator(".tiles").inner_text().split())
    scores = [score for _, score in boxes_of(output)]
    assert f"{sum(s >= 0.5 for s in scores)} boxes at or over 0.50, {len(scores)} in all" in tiles
    assert "13 images" in tiles and "3 images failed, 23 %" in tiles
    failures = opened.locator("#failures").inner_text()
    for words in ("truncated", "too_thin", "not_found", "<script>alert('message')"):
        assert words in failures
    throughput = opened.locator("#throughput").inner_text()
    assert "this output is a copy" in " ".join(throughput.split())


def test_cards_say_why_there_is_no_picture(opened: Page) -> None:
    def card(gallery: str, name: str) -> str:
        return opened.locator(f"#{gallery} .card", has_text=name).inner_text()

    assert "cannot be read now: FileNotFoundError" in card("random", "gone.jpg")
    assert "no picture" in card("random", "gone.jpg")
    assert "has changed since the run: it was 641 × 427" in card("random", "changed.jpg")
    assert "cannot be decoded" in card("failed", "cut.jpg")
    assert "too_thin: thin" in card("failed", "thin.jpg")
    assert opened.locator("#failed .card", has_text="thin.jpg").locator("image").count() == 1
    assert opened.locator("#random .card", has_text="changed.jpg").locator(".box").count() == 0
    assert "0 boxes" in card("empty", "break")


def test_more_boxes_than_are_drawn(
    browser: Browser, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drawing, "MOST_BOXES", 5)
    flags = ["--to", str(tmp_path / "report.html"), "--score-threshold", "0"]
    assert report.main([str(output), *flags]) == 0
    with pages.opened(browser, tmp_path / "report.html") as tab:
        card = tab.locator("#random .card", has_text="plain.jpg")
        assert "5 boxes or more" in card.inner_text()
        assert "best 5 of 9 drawn" in card.inner_text()
        slide(tab, 100)
        assert "0 boxes" in card.inner_text() and "or more" not in card.inner_text()


def test_boxes_stand_where_they_were_found(opened: Page, output: Path) -> None:
    row = next(r for r in outputs.rows(str(output)) if r["image_uri"].endswith("/plain.jpg"))
    card = opened.locator("#random .card", has_text="plain.jpg")
    picture = card.locator("svg").bounding_box()
    lines = card.locator(".line")
    assert picture and lines.count() == len(row["detections"]) == 9
    scale = min(picture["width"] / row["width"], picture["height"] / row["height"])
    left = picture["x"] + (picture["width"] - scale * row["width"]) / 2
    for line, box in zip(lines.all(), row["detections"][::-1], strict=True):
        if box["score"] < 0.5:
            assert not line.is_visible()
            continue
        shown = line.bounding_box()
        assert shown
        # the box of a stroke of two pixels
        assert shown["x"] == pytest.approx(left + scale * box["xmin"], abs=2.5)
        assert shown["width"] == pytest.approx(scale * (box["xmax"] - box["xmin"]), abs=4)


def test_labels_are_legible_and_inside(opened: Page) -> None:
    heights, outside, overlaps = opened.evaluate("""() => {
      const rect = (node) => node.getBoundingClientRect();
      const heights = [];
      let outside = 0, overlaps = 0;
      for (const picture of document.querySelectorAll(".picture")) {
        const around = rect(picture.querySelector("image"));
        const labels = [...picture.querySelectorAll(".label")].map(rect).filter((r) => r.height);
        labels.forEach((a, i) => {
          heights.push(a.height);
          outside += a.left < around.left - 1 || a.right > around.right + 1;
          outside += a.top < around.top - 1 || a.bottom > around.bottom + 1;
          overlaps += labels.slice(0, i).some((b) => a.left < b.right - 1 && b.left < a.right - 1
            && a.top < b.bottom - 1 && b.top < a.bottom - 1);
        });
      }
      return [heights, outside, overlaps];
    }""")
    assert len(heights) > 30 and min(heights) >= 16 and max(heights) < 19
    assert (outside, overlaps) == (0, 0)


def test_threshold_moves_boxes_and_numbers(opened: Page, output: Path) -> None:
    scores = [score for _, score in boxes_of(output)]
    for hundredths in (50, 80, 6, 100):
        slide(opened, hundredths)
        at = hundredths / 100
        assert visible(opened, "#random .line") == sum(s >= at for s in drawn(output))
        assert opened.locator('[data-text="shown"]').inner_text() == str(
            sum(s >= at for s in scores)
        )
        assert opened.locator("output").inner_text() == f"{at:.2f}"
        bars = opened.locator("#sizes .bar rect").evaluate_all(
            "all => all.map(r => +r.getAttribute('height'))"
        )
        assert (max(bars) > 0) == any(s >= at for s in scores)
    slide(opened, 80)
    plain = opened.locator("#random .card", has_text="plain.jpg")
    count = visible(opened, '#random .card:has-text("plain.jpg") .line')
    assert plain.locator("[data-found]").inner_text() in (f"{count} boxes", f"{count} box")


def test_category_filters(opened: Page, output: Path) -> None:
    slide(opened, 6)
    opened.locator("#category").select_option(label="Zähne 歯 & Co")
    kept = opened.locator("#random .box:visible title").evaluate_all(
        "all => all.map(t => t.textContent)"
    )
    assert kept and all(words.startswith("Zähne 歯 & Co 0.") for words in kept)
    cards, away = visible(opened, "#random .card"), opened.locator("#random .card.away").count()
    assert away and cards
    note = opened.locator("#random [data-in-view]").inner_text()
    assert note == f"{cards} of these {cards + away} pictures show Zähne 歯 & Co."
    bars = opened.locator("#scores .bar title").evaluate_all("all => all.map(t => t.textContent)")
    wanted = sum(label == CATEGORIES[7] for label, _ in boxes_of(output))
    assert sum(int(title.rpartition(": ")[2]) for title in bars) == wanted
    opened.locator("#category").select_option(label="all")
    assert visible(opened, "#random .card") == cards + away


def test_a_picture_is_enlarged_by_mouse_and_by_keyboard(opened: Page) -> None:
    card = opened.locator("#random .card", has_text="plain.jpg")
    small = card.locator(".picture").bounding_box()
    card.locator(".canvas").click()
    large = opened.locator("dialog .picture").bounding_box()
    assert small and large and large["width"] > 2 * small["width"]
    assert visible(opened, "dialog .line") == visible(
        card.page, '#random .card:has-text("plain.jpg") .line'
    )
    opened.wait_for_function("document.querySelector('dialog .label:not(.off)').getBBox().height")
    label = opened.locator("dialog .label:visible").first.bounding_box()
    assert label and 16 <= label["height"] <= 19  # no larger than in the card
    caption = opened.locator("dialog .caption").inner_text()
    opened.keyboard.press("ArrowRight")
    assert opened.locator("dialog .caption").inner_text() != caption
    opened.keyboard.press("ArrowLeft")
    assert opened.locator("dialog .caption").inner_text() == caption
    opened.keyboard.press("ArrowRight")
    caption = opened.locator("dialog .caption").inner_text()
    opened.keyboard.press("Escape")
    assert not opened.locator("dialog").is_visible()
    # on the picture that was seen last, once the page has heard of the dialog's end
    opened.wait_for_function(
        "document.querySelector('.card:has(.canvas:focus) .name')?.title.endsWith('plain.jpg')"
        " === false"
    )
    focused = opened.locator(".canvas:focus")
    name = opened.locator(".card:has(.canvas:focus) .name").get_attribute("title")
    assert name and caption.startswith(name) and not name.endswith("plain.jpg")
    assert focused.evaluate("node => getComputedStyle(node).outlineStyle") == "solid"
    opened.keyboard.press("Enter")
    assert opened.locator("dialog").is_visible()
    opened.get_by_role("button", name="Close").click()
    assert not opened.locator("dialog").is_visible()


def test_without_scripts(browser: Browser, html: Path, output: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(html.as_uri())
    assert not tab.locator(".controls").is_visible()
    assert visible(tab, "#random .line") == sum(score >= 0.5 for score in drawn(output))
    assert visible(tab, "#random .label") > 10
    assert visible(tab, "#random image") == len(NAMES) + 1
    for chart in ("scores", "per-image", "sizes", "sides"):
        assert visible(tab, f"#{chart} .bar rect") > 0
    assert not tab.locator("dialog").is_visible()
    context.close()


@pytest.mark.parametrize("scripts", [True, False])
def test_on_a_telephone(browser: Browser, html: Path, scripts: bool) -> None:
    context = browser.new_context(
        viewport={"width": 375, "height": 700}, java_script_enabled=scripts, is_mobile=True
    )
    tab = context.new_page()
    tab.goto(html.as_uri())
    around = tab.locator("html").bounding_box()
    assert around and around["width"] == 375
    # the page may not be wider than the screen, which a phone would show by zooming out
    for part in ("header", ".tile", ".facts", ".panel", ".card", ".scroll", "nav"):
        place = tab.locator(part).last.bounding_box()
        assert place and place["x"] >= 0 and place["x"] + place["width"] <= 375
    if scripts:
        assert tab.evaluate("document.documentElement.scrollWidth") == 375
    context.close()


def test_dark(browser: Browser, html: Path) -> None:
    brightness = {}
    schemes: list[Literal["light", "dark"]] = ["light", "dark"]
    for scheme in schemes:
        tab = browser.new_page(color_scheme=scheme)
        tab.goto(html.as_uri())
        colours = tab.evaluate(
            "['backgroundColor', 'color'].map(k => getComputedStyle(document.body)[k])"
        )
        brightness[scheme] = [sum(map(int, re.findall(r"\d+", c)[:3])) / 3 for c in colours]
        tab.close()
    ground, ink = zip(brightness["light"], brightness["dark"], strict=True)
    assert ground[0] > 200 > 60 > ground[1]
    assert ink[0] < 60 < 200 < ink[1]

"""Which image is held to be the cause of a process's death, and which is not."""

from __future__ import annotations

from pipeline.cluster.ledger import (
    CONDEMNED_IN_A_ROW,
    DEATHS,
    GIVEN_UP,
    IMAGES_IN_A_ROW,
    Ledger,
)


def replica(ledger: Ledger, ids: list[int], poison: set[int]) -> tuple[list[int], list[int]]:
    """Process a batch as a replica does, dying and coming back; (ok, condemned)."""
    for _ in range(100):
        begun = ledger.begin(ids)
        left = [i for i in ids if i not in begun.condemned]
        ok = []
        condemned = list(begun.condemned)
        for image_id in left:
            if begun.suspicious and ledger.begin_alone(image_id, "a", f"{image_id}.png"):
                condemned.append(image_id)
                continue
            if image_id in poison:
                break
            if begun.suspicious:
                ledger.end_alone(image_id, "a")
            ok.append(image_id)
        else:
            ledger.end(ids)
            return ok, sorted(condemned)
        replica.deaths += 1  # type: ignore[attr-defined]
    raise AssertionError("no end")


replica.deaths = 0  # type: ignore[attr-defined]


def test_each_poison_image_is_condemned_and_no_other() -> None:
    ledger = Ledger()
    ids = list(range(100))
    rest = [i for i in ids if i not in (3, 50, 51)]
    assert replica(ledger, ids, {3, 50, 51}) == (rest, [3, 50, 51])
    # one death to become suspicious, then a bounded number for each
    assert replica.deaths == 1 + 3 * DEATHS  # type: ignore[attr-defined]
    assert not ledger.held and not ledger.deaths


def test_a_condemned_image_is_never_touched_again() -> None:
    ledger = Ledger()
    replica(ledger, [1, 2, 3], {2})
    begun = ledger.begin([2, 3])
    assert not begun.suspicious
    assert begun.condemned[2].code == "killed_worker"


def test_a_batch_that_ended_is_not_suspicious() -> None:
    ledger = Ledger()
    assert not ledger.begin([1, 2]).suspicious
    ledger.end([1, 2])
    assert not ledger.begin([1, 2]).suspicious
    assert ledger.begin([2, 3]).suspicious  # 2 is in hand
    ledger.forget()
    assert not ledger.begin([1, 2, 3]).suspicious


def test_the_death_of_a_process_for_another_reason_blames_no_image() -> None:
    ledger = Ledger()
    for _ in range(DEATHS - 1):  # twice with the same image in hand
        ledger.begin([1, 2])
        assert ledger.begin_alone(1, "a", "1.png") is None
    ledger.begin([1, 2])
    assert ledger.begin_alone(1, "a", "1.png") is None
    ledger.end_alone(1, "a")
    assert not ledger.condemned and not ledger.deaths


def test_the_last_words_are_told() -> None:
    ledger = Ledger()
    ledger.begin([1])
    for _ in range(DEATHS):
        assert ledger.begin_alone(1, "a", "1.png") is None
        ledger.last_words(1, "illegal memory access")
    verdict = ledger.begin_alone(1, "a", "1.png")
    assert verdict and "illegal memory access" in verdict.message


def condemn(ledger: Ledger, image_id: int, file: str) -> None:
    for _ in range(DEATHS + 1):
        ledger.begin_alone(image_id, "a", file)


def test_an_actor_that_dies_with_many_files_in_a_row_is_in_doubt() -> None:
    ledger = Ledger()
    for image_id in range(CONDEMNED_IN_A_ROW):
        assert not ledger.in_doubt("a")
        condemn(ledger, image_id, f"{image_id}.png")
    assert ledger.in_doubt("a") and not ledger.in_doubt("b")
    ledger.end_alone(CONDEMNED_IN_A_ROW, "a")
    assert not ledger.in_doubt("a")


def test_one_file_raises_no_doubt_and_its_healthy_images_are_done() -> None:
    ledger = Ledger()
    for image_id in range(IMAGES_IN_A_ROW - 1):
        condemn(ledger, image_id, "rows.parquet")
    assert not ledger.in_doubt("a") and not ledger.begin([999]).condemned


def test_no_actor_dies_for_ever_with_the_images_of_one_file() -> None:
    ledger = Ledger()
    for image_id in range(IMAGES_IN_A_ROW):
        assert not ledger.in_doubt("a")
        condemn(ledger, image_id, "rows.parquet")
        ledger.begin_alone(image_id, "a", "rows.parquet")  # again: its task is repeated
    assert ledger.in_doubt("a") and not ledger.in_doubt("b")


def test_with_a_region_all_of_its_image_is_condemned() -> None:
    ledger = Ledger()
    for _ in range(DEATHS):
        assert ledger.begin_alone(0, "a", "one.tif", "one.tif") is None
    verdict = ledger.begin_alone(0, "a", "one.tif", "one.tif")
    assert verdict and not verdict.message.startswith(GIVEN_UP)
    other = verdict._replace(message=GIVEN_UP + verdict.message)
    assert ledger.begin_alone(0, "a", "one.tif", "one.tif") == verdict
    assert ledger.begin_alone(1, "a", "one.tif", "one.tif") == other
    wholes = ["one.tif", "one.tif", "other.tif"]
    assert ledger.begin([0, 2, 3], wholes).condemned == {0: verdict, 2: other}
    assert ledger.begin_alone(3, "a", "other.tif", "other.tif") is None
    ledger.condemn(4, verdict, "slow.tif")
    assert ledger.begin([4, 5], ["slow.tif"] * 2).condemned == {4: verdict, 5: other}

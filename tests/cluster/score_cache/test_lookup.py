"""What was put into the cache comes out, whatever else lies there, whoever writes and merges meanwhile."""

import itertools
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_rerank.cluster.score_cache import upkeep as cache_upkeep
from ray_rerank.cluster.score_cache.cache_files import GROUP_ROWS, from_table, to_table, write_run
from ray_rerank.cluster.score_cache.lookup import ScoreCache
from ray_rerank.cluster.score_cache.upkeep import check, compact, merged, namespaces, sound

IDENTITY = {"kind": "made up"}


def keys(numbers: np.ndarray, salt: int = 0) -> np.ndarray:
    """Random-looking keys, the same for the same number."""
    mixed = (numbers.astype(np.uint64) + np.uint64(salt)) * np.uint64(0x9E3779B97F4A7C15)
    return np.stack([mixed, mixed ^ np.uint64(12345)], axis=1).astype(">u8").view(np.uint8).reshape(-1, 16)


def add(cache: ScoreCache, numbers: np.ndarray, score: np.ndarray | None = None, each: int = 50) -> str | None:
    score = numbers.astype(np.float32) if score is None else score
    return write_run(cache.folder, to_table(keys(numbers // each), keys(numbers, 7), score), float(len(numbers)))


def get(cache: ScoreCache, numbers: np.ndarray, each: int = 50) -> np.ndarray:
    return cache.lookup(keys(numbers // each), keys(numbers, 7))[0]


@pytest.fixture
def cache(tmp_path: Path) -> ScoreCache:
    return ScoreCache.open(str(tmp_path / "cache"), IDENTITY)


def test_what_was_put_in_comes_out_and_nothing_else(cache: ScoreCache) -> None:
    assert np.isnan(get(cache, np.arange(10))).all()
    for start in range(0, 40_000, 10_000):
        add(cache, np.arange(start, start + 10_000))
    asked = np.array([39_999, 0, 12_345, 40_000, 12_345, 77_777])
    np.testing.assert_array_equal(get(cache, asked), [39_999, 0, 12_345, np.nan, 12_345, np.nan])
    everything = np.arange(40_000)
    np.testing.assert_array_equal(get(cache, everything), everything)
    _, saved = cache.lookup(keys(everything // 50), keys(everything, 7))
    assert saved == pytest.approx(40_000)
    assert cache.lookup(keys(everything[:0]), keys(everything[:0]))[0].shape == (0,)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    runs=st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=40), min_size=1, max_size=5),
    asked=st.lists(st.integers(0, 70), max_size=30),
    each=st.integers(1, 20),
)
def test_a_lookup_equals_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, runs: list[list[int]], asked: list[int], each: int
) -> None:
    cache = ScoreCache.open(str(tmp_path_factory.mktemp("cache")), IDENTITY)
    for run in runs:
        add(cache, np.array(run), each=each)
    known = {number for run in runs for number in run}
    expected = [float(number) if number in known else np.nan for number in asked]
    np.testing.assert_array_equal(get(cache, np.array(asked, dtype=np.int64), each), expected)


def test_nan_and_infinity_never_enter(cache: ScoreCache) -> None:
    score = np.array([1, np.nan, np.inf, -np.inf, 2], dtype=np.float32)
    add(cache, np.arange(5), score)
    np.testing.assert_array_equal(get(cache, np.arange(5)), [1, np.nan, np.nan, np.nan, 2])
    assert add(cache, np.arange(3), np.full(3, np.nan, np.float32)) is None


def test_a_query_whose_entries_span_row_groups_is_found_whole(cache: ScoreCache) -> None:
    count = 3 * GROUP_ROWS + 17
    add(cache, np.arange(count), each=count)
    np.testing.assert_array_equal(get(cache, np.arange(count), each=count), np.arange(count))


def spoil(run: Path, how: str) -> Path:
    """Make a run something that must not be trusted."""
    if how == "truncated":
        run.write_bytes(run.read_bytes()[:-40])
    elif how == "empty":
        run.write_bytes(b"")
    elif how == "not parquet":
        run.write_text("this is a note")
    elif how == "foreign":
        pq.write_table(pa.table({"query": ["a"], "document": ["b"], "score": [1.0]}), run)
        run = run.rename(run.with_name("scores.parquet"))
    elif how == "older":
        run = run.rename(run.with_name(f"{run.name[:32]}.parquet"))
    elif how == "other scorer":
        other = ScoreCache.open(str(run.parents[1]), {"kind": "other"})
        run.unlink()
        own = Path(str(add(other, np.arange(100, 200))))
        run = own.rename(run.with_name(own.name))
        shutil.rmtree(other.folder)
    elif how == "a flipped byte":
        data = bytearray(run.read_bytes())
        data[200] ^= 0xFF
        run.write_bytes(data)
    return run


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("truncated", "not whole"),
        ("empty", "not whole"),
        ("not parquet", "not whole"),
        ("foreign", "not a cache file of format 2"),
        ("older", "not a cache file of format 2"),
        ("other scorer", "made for another scorer"),
        ("a flipped byte", "damaged"),
    ],
)
def test_a_file_that_is_no_sound_run_is_noted_skipped_and_listed(cache: ScoreCache, how: str, told: str) -> None:
    add(cache, np.arange(100))
    spoilt = spoil(Path(str(add(cache, np.arange(100, 200)))), how)
    found = get(cache, np.arange(200))
    np.testing.assert_array_equal(found[:100], np.arange(100))
    assert np.isnan(found[100:]).all()
    assert len(cache.notes) == 1 and told in cache.notes[0] and spoilt.name in cache.notes[0]
    namespace = namespaces(cache.folder.rpartition("/")[0])[0][0]
    assert [(Path(path).name, told in reason) for path, reason in check(namespace)] == [(spoilt.name, True)]
    compact(sound(namespace))
    assert spoilt.exists(), "what is not understood was removed"
    np.testing.assert_array_equal(get(cache, np.arange(100)), np.arange(100))


def test_no_damaged_byte_gives_a_wrong_score_or_ends_the_process(cache: ScoreCache) -> None:
    """In the footer it costs the file, in a page too; what no reader looks at costs nothing."""
    run = Path(str(add(cache, np.arange(300))))
    whole = run.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    for at in [*range(0, footer, 97), *range(footer, len(whole))]:
        data = bytearray(whole)
        data[at] ^= 1 << at % 8
        run.write_bytes(data)
        reader = ScoreCache(cache.folder.rpartition("/")[0], cache.namespace)
        found = get(reader, np.arange(300))
        assert np.isnan(found).all() if reader.notes else (found == np.arange(300)).all()
        assert reader.notes or at < footer, f"byte {at}: a damaged footer was taken"


def test_merged_runs_hold_the_same_entries_and_are_few(cache: ScoreCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_upkeep, "FILE_ROWS", 5_000)
    for start in range(0, 18_000, 1_000):
        add(cache, np.arange(start, start + 1_500))  # neighbours overlap by 500
    before = get(cache, np.arange(20_000))
    namespace = namespaces(cache.folder.rpartition("/")[0])[0][0]
    done = compact(namespace)
    assert (done.runs_before, done.entries_before, done.entries_after) == (18, 27_000, 18_500)
    assert done.runs_after <= 6
    np.testing.assert_array_equal(get(cache, np.arange(20_000)), before)
    again = namespaces(cache.folder.rpartition("/")[0])[0][0]
    assert len(again.runs) == done.runs_after and not check(again)
    assert compact(again).runs_after == done.runs_after
    ranges = sorted((int(run.firsts[0]), run.last) for run in again.runs)
    assert all(one[1] < other[0] for one, other in itertools.pairwise(ranges))
    assert sum(run.seconds for run in again.runs) == pytest.approx(27_000)


def test_of_two_scores_for_one_pair_merging_keeps_the_one_that_a_lookup_found(cache: ScoreCache) -> None:
    add(cache, np.arange(10), np.full(10, 1, np.float32))
    add(cache, np.arange(10), np.full(10, 2, np.float32))
    before = get(cache, np.arange(10))
    compact(namespaces(cache.folder.rpartition("/")[0])[0][0])
    np.testing.assert_array_equal(get(cache, np.arange(10)), before)
    np.testing.assert_array_equal(
        get(ScoreCache(cache.folder.rpartition("/")[0], cache.namespace), np.arange(10)), before
    )


def test_a_reader_that_is_overtaken_by_a_merge_finds_everything(cache: ScoreCache) -> None:
    for start in range(0, 5_000, 1_000):
        add(cache, np.arange(start, start + 1_000))
    get(cache, np.arange(10))  # footers are known now
    compact(namespaces(cache.folder.rpartition("/")[0])[0][0])
    np.testing.assert_array_equal(get(cache, np.arange(5_000)), np.arange(5_000))
    assert not cache.notes


def test_writers_beside_a_merge_lose_nothing(cache: ScoreCache) -> None:
    add(cache, np.arange(1_000))
    add(cache, np.arange(1_000, 2_000))
    seen = namespaces(cache.folder.rpartition("/")[0])[0][0]
    add(cache, np.arange(2_000, 3_000))  # after the merge has listed the runs
    compact(seen)
    np.testing.assert_array_equal(get(cache, np.arange(3_000)), np.arange(3_000))


def test_two_merges_at_once_lose_nothing(cache: ScoreCache) -> None:
    for start in range(0, 4_000, 1_000):
        add(cache, np.arange(start, start + 1_000))
    one, other = (namespaces(cache.folder.rpartition("/")[0])[0][0] for _ in range(2))
    tables = [table for table, _ in merged(other)]  # the second has read all runs when the first removes them
    compact(one)
    for table in tables:
        write_run(cache.folder, table, 0.0)
    np.testing.assert_array_equal(get(cache, np.arange(4_000)), np.arange(4_000))


def test_entries_are_sorted_on_storage_and_readable_by_any_parquet_reader(cache: ScoreCache) -> None:
    run = add(cache, np.arange(1_000))
    query, document, score = from_table(pq.read_table(run))
    joined = np.concatenate([query, document], axis=1).view("S32").ravel()
    assert (joined[1:] > joined[:-1]).all()
    assert sorted(score.tolist()) == list(range(1_000))

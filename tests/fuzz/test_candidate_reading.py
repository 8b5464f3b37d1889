"""Whatever Parquet file is given: every row and candidate is ranked or told of, or the file is refused in plain words.

Two families through the path of the job without Ray: files damaged byte by byte, and whole files of odd schemas and
values, which are held against a second reading of the same rows in plain Python. `FUZZ_EXAMPLES=5000 pytest
tests/operators/test_candidate_fuzz.py` is the long form; a hypothesis seed (`--hypothesis-seed=N`) makes another.
"""

import dataclasses
import datetime
import io
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from ray_rerank.cluster.errors import ClusterError, StorageError
from ray_rerank.jobs.scoring.input import CandidateSource, read_input
from ray_rerank.jobs.scoring.plan import plan_units
from ray_rerank.jobs.scoring.steps import ReadUnit
from ray_rerank.operators.candidates.schema import REJECT_SCHEMA, Columns, Origin
from ray_rerank.operators.errors import UserError
from ray_rerank.operators.formats.rankings import to_ranking
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.ranking.payload import UnitPayload
from ray_rerank.operators.ranking.rerank import StageRule, rerank

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
PLAIN = Columns()


def fuzzing(examples: int) -> settings:
    """Few examples in the suite, FUZZ_EXAMPLES by hand."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    phases = [phase for phase in Phase if phase is not Phase.explain]  # which takes minutes here
    return settings(max_examples=EXAMPLES or examples, suppress_health_check=checks, phases=phases, print_blob=True)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder in memory where there is one: thousands of small files are written and read."""
    shm = Path("/dev/shm")
    path = Path(tempfile.mkdtemp(prefix="candidate-fuzz-", dir=shm if os.access(shm, os.W_OK) else None))
    yield path
    shutil.rmtree(path)


@dataclass(frozen=True)
class Told:
    """What a user would be told of an input.

    Attributes:
        refused: why nothing was begun.
        failed: why a unit could not be done, one a failed unit.
        parcels: of the units that could.
        rows: of all units, failed ones too.
    """

    refused: str | None = None
    failed: list[str] = field(default_factory=list)
    parcels: list[UnitPayload] = field(default_factory=list)
    rows: int = 0
    pairs: int = 0

    @property
    def candidates(self) -> list[dict[str, Any]]:
        return [row for parcel in self.parcels for row in parcel.candidates.to_pylist()]

    @property
    def faults(self) -> list[dict[str, Any]]:
        return [row for parcel in self.parcels for row in parcel.faults.to_pylist()]


def told_of(folder: Path, columns: Columns = PLAIN, extra: tuple[str, ...] = (), target: int = 4) -> Told:
    """Take a folder the way the job does, unit by unit, and check that each unit's books balance.

    What is not a UserError or ClusterError in planning would be a traceback; in reading, a unit fails with it, and
    it has to be a fault of the file, with a message.
    """
    try:
        given = read_input(CandidateSource(str(folder), columns, extra))
        pairs, _ = given.pairs, given.bytes
        units = plan_units(given, columns, target)
    except (UserError, ClusterError) as error:
        assert str(error).strip()
        return Told(refused=str(error))
    read = ReadUnit(columns, extra, given.columns, given.repeated)
    told = Told(rows=sum(unit.stop - unit.start for unit in units), pairs=pairs)
    assert told.rows == given.queries, "the plan does not cover the rows of the footer"
    for unit in units:
        try:
            parcel = UnitPayload.unpack(read(unit))
        except (UserError, ClusterError, OSError) as error:
            assert unit.file in str(error)
            told.failed.append(str(error))
            continue
        if given.shape == "nested":
            assert queries_of(parcel) == unit.stop - unit.start, "a query is lost"
        else:
            assert parcel.pairs == unit.stop - unit.start, "a row is lost"
        assert parcel.faults.schema == REJECT_SCHEMA
        for fault in parcel.faults.to_pylist():
            assert fault["file"] == unit.file and fault["reason"] and unit.start <= fault["row"] < unit.stop
        check_the_rest_of_the_job(parcel, extra)
        told.parcels.append(parcel)
    return told


def check_the_rest_of_the_job(parcel: UnitPayload, extra: tuple[str, ...]) -> None:
    """What was read can be scored, and written as a ranking, with nothing lost."""

    class Even:
        def score(self, pairs: list[tuple[str, str]], work: ScoringStats, parent: np.ndarray) -> np.ndarray:
            assert all(query.strip() and text.strip() for query, text in pairs)
            return np.zeros(len(pairs), np.float32)

    ranked, faults = rerank(parcel.candidates, Even(), StageRule(), Origin("x"), ScoringStats())  # type: ignore[arg-type]
    assert faults.num_rows == 0
    ranking = to_ranking(ranked, True, extra)
    assert len(pc.list_flatten(ranking["ranking"])) == ranked_in(parcel)
    assert ranking["query_id"].equals(parcel.candidates["query_id"])
    pq.write_table(ranking, io.BytesIO())


def ranked_in(parcel: UnitPayload) -> int:
    return len(pc.list_flatten(parcel.candidates["candidates"]))


def is_whole_query(fault: dict[str, Any]) -> bool:
    """A line for a query; a candidate without a doc_id has none either, and says so."""
    return fault["doc_id"] is None and not fault["reason"].startswith("the doc_id")


def queries_of(parcel: UnitPayload) -> int:
    """Queries ranked and queries in the faults; and the candidates' sum is the parcel's own."""
    faults = parcel.faults.to_pylist()
    assert parcel.pairs == ranked_in(parcel) + sum(fault["candidates"] for fault in faults)
    return parcel.candidates.num_rows + sum(map(is_whole_query, faults))


# --- damaged bytes -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Written:
    """How a sound shard is written."""

    shape: str = "nested"
    compression: str = "none"
    use_dictionary: bool = False
    data_page_version: str = "1.0"
    write_page_checksum: bool = False
    write_statistics: bool = True
    store_schema: bool = True
    one_group: bool = False
    write_page_index: bool = False

    def options(self) -> dict[str, Any]:
        own = ("compression", "use_dictionary", "data_page_version", "write_page_checksum", "write_statistics")
        options = {name: getattr(self, name) for name in (*own, "store_schema", "write_page_index")}
        return options | {"row_group_size": None if self.one_group else 5, "data_page_size": 100, "write_batch_size": 4}


QUERIES = [(f"q{number}", f"query number {number}", number % 4 + 1) for number in range(12)]
CANDIDATES = sum(depth for _, _, depth in QUERIES)


@cache
def sound(written: Written) -> bytes:
    """A shard without a fault: 12 queries, 30 candidates."""
    rows = [
        {
            "query_id": q,
            "query": text,
            "doc_id": f"d{q}-{place}",
            "text": f"passage {place} of {q}",
            "score": -1.0 * place,
        }
        for q, text, depth in QUERIES
        for place in range(depth)
    ]
    if written.shape == "flat":
        table = pa.Table.from_pylist(rows)
    else:
        keys = ("doc_id", "text", "score")
        lists = {q: [{key: row[key] for key in keys} for row in rows if row["query_id"] == q] for q, _, _ in QUERIES}
        table = pa.Table.from_pylist([{"query_id": q, "query": t, "candidates": lists[q]} for q, t, _ in QUERIES])
    sink = io.BytesIO()
    pq.write_table(table, sink, **written.options())
    return sink.getvalue()


WRITTEN = st.builds(
    Written,
    shape=st.sampled_from(["nested", "flat"]),
    compression=st.sampled_from(["none", "snappy", "zstd"]),
    use_dictionary=st.booleans(),
    data_page_version=st.sampled_from(["1.0", "2.0"]),
    write_page_checksum=st.booleans(),
    write_statistics=st.booleans(),
    store_schema=st.booleans(),
    one_group=st.booleans(),
    write_page_index=st.booleans(),
)
PLACE = st.tuples(st.sampled_from(["data", "footer", "end"]), st.integers(0, 1 << 16))
MUTATION = st.one_of(
    st.tuples(st.just("flip"), PLACE, st.integers(0, 7)),
    st.tuples(st.just("set"), PLACE, st.integers(0, 255)),
    st.tuples(st.just("add"), PLACE, st.sampled_from([1, 2, 254, 255])),
    st.tuples(st.just("zero"), PLACE, st.integers(1, 64)),
    st.tuples(st.just("cut"), PLACE, st.integers(1, 64)),
    st.tuples(st.just("repeat"), PLACE, st.integers(1, 64)),
    st.tuples(st.just("truncate"), PLACE, st.just(0)),
    st.tuples(st.just("splice"), PLACE, st.integers(1, 64), WRITTEN, PLACE),
)


def position(data: bytes, place: tuple[str, int]) -> int:
    """A drawn place as an offset: anywhere, in the footer, or in the last 64 bytes."""
    part, number = place
    footer = min(int.from_bytes(data[-8:-4], "little") + 8, len(data)) if len(data) > 8 else len(data)
    start = {"data": 0, "footer": len(data) - footer, "end": max(len(data) - 64, 0)}[part]
    return start + number % max(len(data) - start, 1)


def mutated(data: bytes, mutation: tuple[Any, ...]) -> bytes:
    """Bytes with one thing done to them."""
    kind, place, much, *other = mutation
    at = position(data, place)
    value = data[at] if at < len(data) else 0
    match kind:
        case "flip":
            return data[:at] + bytes([value ^ 1 << much]) + data[at + 1 :]
        case "set":
            return data[:at] + bytes([much]) + data[at + 1 :]
        case "add":
            return data[:at] + bytes([(value + much) % 256]) + data[at + 1 :]
        case "zero":
            return data[:at] + bytes(min(much, len(data) - at)) + data[at + much :]
        case "cut":
            return data[:at] + data[at + much :]
        case "repeat":
            return data[: at + much] + data[at:]
        case "truncate":
            return data[:at]
        case _:
            source = sound(other[0])
            begin = position(source, other[1])
            return data[:at] + source[begin : begin + much] + data[at + much :]


def candidates_in_footer(path: Path) -> int:
    """Leaf values of `candidates`, which are candidates and one for each empty list; or rows where it is not there."""
    metadata = pq.read_metadata(path)
    leaves = [metadata.schema.column(index).path.split(".")[0] for index in range(len(metadata.schema))]
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    if "candidates" not in leaves:
        return sum(group.num_rows for group in groups)
    return sum(group.column(leaves.index("candidates")).num_values for group in groups)


@fuzzing(300)
@given(written=WRITTEN, mutations=st.lists(MUTATION, min_size=1, max_size=3), target=st.sampled_from([1, 4, 1000]))
def test_a_damaged_file_is_refused_or_failed_or_read_with_every_row_accounted_for(
    folder: Path, written: Written, mutations: list[tuple[Any, ...]], target: int
) -> None:
    data = sound(written)
    for mutation in mutations:
        data = mutated(data, mutation)
    path = folder / "shard.parquet"
    path.write_bytes(data)
    told = told_of(folder, target=target)
    event("refused" if told.refused else "a unit failed" if told.failed else "read")
    if not told.refused and not told.failed:
        empty = sum(
            is_whole_query(fault) and fault["candidates"] == 0 and not fault["reason"].startswith("no candidate")
            for fault in told.faults
        )
        assert sum(parcel.pairs for parcel in told.parcels) + empty == candidates_in_footer(path)


# --- odd schemas and values ----------------------------------------------------------------------------------------

Text = bytes | None
Id = bytes | int | None
Candidate = tuple[Id, Text, float | None]

WORD = [
    b"",
    b" ",
    "\u3000\u2028".encode(),
    b"a",
    b"b c",
    b"\xff",
    b"ok \xc3\x28",
    b"\xed\xa0\x80",
    b"nul\x00",
    "ö𝔘".encode(),
]
TEXT = st.one_of(
    st.sampled_from([b"a", b"b", b"c"]),
    st.none(),
    st.sampled_from(WORD),
    st.binary(max_size=5),
    st.text().map(str.encode),
)
LONG = st.sampled_from([b"long " * 2_000, b"x" * 7_000 + b"\xff", "ö".encode() * 4_000])
SCORE = st.sampled_from([3.0, 1.0, 2.0, 2.0, -0.0, 0.0, 7.5, 1e300, float("nan"), float("inf"), -float("inf"), None])
INTS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
TEXTS = ["string", "large_string", "dictionary", "large_dictionary", "null"]
NUMBERS = ["float32", "float64", "float16", "int8", "int64", "uint64", "null"]
FOREIGN: dict[str, tuple[pa.DataType, Any]] = {
    "binary": (pa.binary(), b"a"),
    "binary_view": (pa.binary_view(), b"a"),
    "fixed": (pa.binary(2), b"ab"),
    "bool": (pa.bool_(), True),
    "timestamp": (pa.timestamp("us", "UTC"), datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)),
    "date": (pa.date32(), datetime.date(2026, 1, 1)),
    "time": (pa.time64("us"), datetime.time(1)),
    "duration": (pa.duration("s"), datetime.timedelta(1)),
    "decimal": (pa.decimal128(9, 2), Decimal("1.25")),
    "list": (pa.list_(pa.string()), ["a"]),
    "null list": (pa.list_(pa.null()), []),
    "struct": (pa.struct([("doc_id", pa.string())]), {"doc_id": "a"}),
    "map": (pa.map_(pa.string(), pa.string()), [("a", "b")]),
    "uuid": (pa.uuid(), None),
    "json": (pa.json_(), None),
}
FOREIGN_ID = [*FOREIGN, "float64"]
FOREIGN_TEXT = [*FOREIGN_ID, "int64"]
FOREIGN_SCORE = [*FOREIGN, "string"]
PASSED: dict[str, tuple[pa.DataType, Any]] = FOREIGN | {
    "string_view": (pa.string_view(), "v"),
    "float16": (pa.float16(), 1.5),
    "nulls": (pa.null(), None),
    "list_view": (pa.list_view(pa.int8()), [1]),
    "list of views": (pa.list_(pa.string_view()), None),
    "large list": (pa.large_list(pa.struct([("a", pa.int8())])), [{"a": 1}]),
    "fixed list": (pa.list_(pa.int8(), 2), [1, 2]),
    "words": (pa.dictionary(pa.int8(), pa.string()), "w"),
}


def foreign(kind: str, count: int, among: dict[str, tuple[pa.DataType, Any]] = FOREIGN) -> pa.Array:
    """A column of a type that holds no ids, texts or scores."""
    if kind not in among:
        return pa.array(["1" if kind == "string" else 1] * count, pa.type_for_alias(kind))
    type_, value = among[kind]
    return pa.nulls(count, type_) if value is None else pa.array([value] * count, type_)


def strings(values: list[Text], kind: str) -> pa.Array:
    """Bytes as a column of strings without a check, as a faulty writer leaves them."""
    if kind == "null":
        return pa.nulls(len(values))
    if "dictionary" in kind:
        words = list(dict.fromkeys(value for value in values if value is not None))
        places = [None if value is None else words.index(value) for value in values]
        index = pa.array(places, pa.int32() if kind == "large_dictionary" else pa.int16())
        return pa.DictionaryArray.from_arrays(index, strings(list(words), kind.replace("dictionary", "string")))
    raw = pa.array(values, {"string": pa.binary(), "large_string": pa.large_binary()}.get(kind, pa.binary_view()))
    return pa.Array.from_buffers(pa.type_for_alias(kind), len(raw), raw.buffers(), raw.null_count)


def column(values: list[Any], kind: str) -> pa.Array:
    """A column of one of the kinds that are taken."""
    if kind in INTS or kind.startswith("float"):
        return pa.array([None if value is None else np.dtype(kind).type(value) for value in values], kind)
    return strings(values, kind)


def as_kind(value: Any, kind: str) -> Any:
    """A drawn value as one that a column of this kind can hold."""
    if kind == "null" or value is None:
        return None
    if kind in INTS:
        limits = np.iinfo(kind)
        number = sum(value) if isinstance(value, bytes) else value if np.isfinite(value) else 1e30
        return int(min(max(number, limits.min), limits.max))
    with np.errstate(over="ignore"):
        return float(np.dtype(kind).type(value)) if kind.startswith("float") else value


@dataclass
class Case:
    """A drawn file, and what it holds in plain Python.

    Attributes:
        rows: query_id, query and candidates of each row; in the flat shape there is just one candidate.
        kinds: the column type of each role.
        wrong: names of columns that nothing can be read from, as a message would show them.
    """

    shape: str
    rows: list[tuple[Id, Text, list[Candidate | None] | None]]
    kinds: dict[str, str]
    columns: Columns
    wrong: list[str]
    table: pa.Table
    extra: tuple[str, ...]


ODD_NAMES = [
    "q.id",
    ".doc",
    "Frage",
    "ünï",
    "a b",
    "[x]",
    "`t`",
    "0",
    "query.x",
    "candidates.doc_id",
    "row",
    "query_id",
    "text",
]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    shape = draw(st.sampled_from(["nested", "flat"]))
    texts = TEXTS if shape == "nested" else [*TEXTS, "string_view"]  # Arrow cannot write a list of views
    one_of = {"query_id": [*TEXTS, "string_view", *INTS], "query": [*TEXTS, "string_view"], "doc_id": [*texts, *INTS]}
    one_of |= {"text": texts, "score": [*NUMBERS, "absent"]}
    plain = draw(st.booleans())
    kinds = {
        role: "string" if plain and role != "score" else draw(st.sampled_from(some)) for role, some in one_of.items()
    }
    twin = draw(st.integers(0, 9)) == 0  # the query is its own id
    if twin:
        kinds["query_id"] = kinds["query"]
    text = st.one_of(TEXT, TEXT, TEXT, LONG) if draw(st.integers(0, 9)) == 0 else TEXT
    candidate = st.tuples(
        TEXT.map(lambda v: as_kind(v, kinds["doc_id"])),
        text.map(lambda v: as_kind(v, kinds["text"])),
        SCORE.map(lambda v: None if kinds["score"] == "absent" else as_kind(v, kinds["score"])),
    )
    if shape == "nested":
        lists = st.one_of(st.lists(st.one_of(candidate, candidate, st.none()), max_size=5), st.none())
    else:
        lists = candidate.map(lambda only: [only])
    drawn = draw(st.lists(st.tuples(TEXT, text, lists), max_size=8))
    rows = [(as_kind(i, kinds["query_id"]), as_kind(q, kinds["query"]), held) for i, q, held in drawn]
    if shape == "flat" and draw(st.booleans()):  # queries of several rows
        rows = [(*row[:2], again[2]) for row in rows for again in rows[: draw(st.integers(1, 3))]]
    if twin:
        rows = [(query, query, held) for _, query, held in rows]
    if shape == "flat" and draw(st.integers(0, 4)):
        places = {query_id: place for place, (query_id, _, _) in enumerate(rows)}
        rows.sort(key=lambda row: places[row[0]])

    columns = PLAIN
    if draw(st.booleans()):
        names = draw(st.permutations(ODD_NAMES))
        columns = Columns(query_id=names[0], query=names[1], doc_id=names[2], text=names[3], score=names[4])
    columns = columns.model_copy(update={"query_id": columns.query}) if twin else columns
    case = Case(shape, rows, kinds, columns, [], pa.table({}), ())
    case.table = build(draw, case)
    return case


def build(draw: st.DrawFn, case: Case) -> pa.Table:
    """The case's rows as a table, now and then with a column that is of another type, missing or there twice."""
    columns, rows = case.columns, case.rows
    trouble = draw(st.sampled_from([*[None] * 12, "foreign", "foreign", "missing", "twice", "list"]))
    victim = draw(st.sampled_from(["query_id", "query", "doc_id", "text", "score"])) if trouble else None
    held = [candidate for _, _, candidates in rows for candidate in candidates or []]
    values: dict[str, list[Any]] = {"query_id": [row[0] for row in rows], "query": [row[1] for row in rows]}
    values |= {role: [c[place] if c else None for c in held] for place, role in enumerate(("doc_id", "text", "score"))}
    below = case.shape == "nested"
    top: list[tuple[str, pa.Array]] = []
    inner: list[tuple[str, pa.Array]] = []
    for role, own in values.items():
        name, within = getattr(columns, role), below and role in ("doc_id", "text", "score")
        if case.kinds[role] == "absent" or (columns.query_id == columns.query and role == "query_id"):
            continue
        array = column(own, case.kinds[role])
        if role == victim and trouble == "foreign":
            kinds = {"query_id": FOREIGN_ID, "doc_id": FOREIGN_ID, "score": FOREIGN_SCORE}.get(role, FOREIGN_TEXT)
            safe = [kind for kind in kinds if not (within and kind in ("binary_view", "uuid", "json", "fixed"))]
            array = foreign(draw(st.sampled_from(safe)), len(own))
        into = inner if within else top
        shown = f"{columns.candidates}.{name}" if within else name
        if role == victim and trouble != "list" and not (role == "score" and trouble == "missing"):
            case.wrong.append(shown)
        if role == victim and trouble == "missing":
            if role == "score":
                case.rows = [(i, q, cs and [c and (c[0], c[1], None) for c in cs]) for i, q, cs in rows]
            continue
        into += [(name, array)] * (2 if role == victim and trouble == "twice" else 1)
    if below:
        inner += [("more", pa.array(range(len(held)), pa.int32()))] if draw(st.booleans()) else []
        top.append((columns.candidates, candidate_lists(draw, case, draw(st.permutations(inner)), trouble == "list")))
    noise = draw(st.lists(st.sampled_from([f"{columns.query}.x", "more", "more", "doc_id", "score"]), max_size=3))
    here = {name for name, _ in top} | {getattr(columns, role) for role in values if not below or "query" in role}
    top += [(name, pa.array(range(len(rows)))) for name in noise if name not in here]
    if draw(st.booleans()):
        case.extra = ("passed",)
        kind = draw(st.sampled_from(sorted(PASSED)))
        case.wrong += ["passed"] if kind == "list of views" else []
        top.append(("passed", foreign(kind, len(rows), PASSED)))
    if draw(st.integers(0, 9)) == 0 and columns.query == "query":
        case.extra += ("query",)
    if draw(st.integers(0, 19)) == 0:
        case.extra += ("row",)
        case.wrong.append("row")
    top = draw(st.permutations(top))
    arrays = [array for _, array in top]
    fields = [field_of(draw, name, array) for name, array in top]
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields))


def field_of(draw: st.DrawFn, name: str, array: pa.Array) -> pa.Field:
    """Not nullable, now and then, where there is no null."""
    return pa.field(
        name, array.type, nullable=pa.types.is_null(array.type) or array.null_count > 0 or draw(st.booleans())
    )


def candidate_lists(draw: st.DrawFn, case: Case, inner: list[tuple[str, pa.Array]], odd: bool) -> pa.Array:
    """The nested column: null lists, null structs, any order of fields; `odd` is a list of another make."""
    lists = [candidates for _, _, candidates in case.rows]
    held = [candidate for candidates in lists for candidate in candidates or []]
    missing = pa.array([candidate is None for candidate in held], pa.bool_())
    fields = [field_of(draw, name, array) for name, array in inner]
    if inner:
        structs = pa.StructArray.from_arrays([array for _, array in inner], fields=fields, mask=missing)
    else:
        structs = pa.array([None] * len(held), pa.struct([("nothing", pa.int8())]))
    offsets = np.concatenate([[0], np.cumsum([len(candidates or []) for candidates in lists])])
    nothing = pa.array([candidates is None for candidates in lists], pa.bool_())
    large = draw(st.booleans())
    kind = pa.LargeListArray if large else pa.ListArray
    whole = kind.from_arrays(pa.array(offsets, pa.int64() if large else pa.int32()), structs, mask=nothing)
    if not odd:
        return whole
    case.wrong.append(case.columns.candidates)
    other = draw(st.sampled_from(["list_view", *FOREIGN]))
    return pa.nulls(len(lists), pa.list_view(structs.type)) if other == "list_view" else foreign(other, len(lists))


def decoded(value: Id) -> tuple[str | None, bool]:
    """A value as a string, and whether it is broken."""
    if value is None or isinstance(value, int):
        return (None if value is None else str(value)), False
    try:
        return value.decode(), False
    except UnicodeDecodeError:
        return None, True


def fault_in(value: Id, name: str) -> str | None:
    """What is wrong with an id or a text."""
    text, broken = decoded(value)
    if broken:
        return f"the {name} is not valid UTF-8"
    return None if text is not None and text.strip() else f"the {name} is empty"


def again_in_python(case: Case) -> tuple[list[tuple[Any, ...]], Counter[tuple[Any, ...]]]:
    """What `read_candidates` is to say of a case: queries with their ranked candidates, and faults."""
    groups: list[tuple[int, Id, Text, list[tuple[int, Text, Candidate]]]] = []
    for row, (query_id, query, candidates) in enumerate(case.rows):
        own = [(row, query, candidate or (None, None, None)) for candidate in candidates or []]
        if case.shape == "flat" and groups and groups[-1][1] == query_id:
            groups[-1][3].extend(own)
        else:
            groups.append((row, query_id, query, own))
    ranked: list[tuple[Any, ...]] = []
    faults: Counter[tuple[Any, ...]] = Counter()
    before: set[str | None] = set()
    for row, query_id, query, own in groups:
        name = decoded(query_id)[0]
        reason = fault_in(query_id, "query_id") or fault_in(query, "query")
        reason = reason or (None if own else "the candidate list is empty")
        if name in before:
            reason = reason or "the query_id stood in a row before"
        before.add(name)
        if reason:
            faults[row, name, None, reason, len(own)] += 1
            continue
        with np.errstate(over="ignore"):
            scores = [np.float32(np.nan if score is None else score) for _, _, (_, _, score) in own]
        order = sorted(range(len(own)), key=lambda at: -scores[at]) if np.isfinite(scores).all() else range(len(own))
        rank = {at: place for place, at in enumerate(order, start=1)}
        kept: dict[str | None, tuple[int, str | None]] = {}
        for at, (own_row, own_query, (doc_id, text, _)) in enumerate(own):
            document = decoded(doc_id)[0]
            reason = fault_in(doc_id, "doc_id") or fault_in(text, "text")
            if not reason and decoded(own_query)[0] != decoded(query)[0]:
                reason = "this row's query differs from the first row's of the same query_id"
            if not reason and document in kept:
                reason = "the doc_id occurs twice in this query; the first is ranked"
            if reason:
                faults[own_row, name, document, reason, 1] += 1
            else:
                kept[document] = (rank[at], decoded(text)[0])
        if kept:
            documents = sorted((place, document, text) for document, (place, text) in kept.items())
            ranked.append((row, name, decoded(query)[0], documents))
        else:
            faults[row, name, None, "no candidate of this query can be ranked", 0] += 1
    return ranked, faults


def told_apart(case: Case) -> bool:
    """Whether flat rows of one query stand together."""
    seen: set[Id] = set()
    last: Id = None
    for query_id, _, _ in case.rows:
        if query_id is not None and query_id != last and query_id in seen:
            return False
        seen.add(query_id)
        last = query_id
    return True


@fuzzing(150)
@given(
    case=cases(),
    target=st.sampled_from([1, 3, 1000]),
    group=st.sampled_from([1, 3, 1000]),
    written=WRITTEN,
)
def test_any_schema_is_refused_by_column_or_read_just_as_plain_python_reads_the_rows(
    folder: Path, case: Case, target: int, group: int, written: Written
) -> None:
    path = folder / "shard.parquet"
    options = written.options() | {"row_group_size": group}
    options |= {"store_schema": True} if case.wrong or case.extra else {}
    if case.shape == "nested" and any("dictionary" in kind for kind in case.kinds.values()):
        options["data_page_size"] = None  # with small ones Arrow 26 writes a file that it cannot read
    pq.write_table(case.table, path, **options)
    told = told_of(folder, case.columns, case.extra, target)
    apart = case.shape == "nested" or told_apart(case)
    if case.wrong or not apart:
        assert told.refused and "shard.parquet" in told.refused
        assert not case.wrong or any(repr(name) in told.refused for name in case.wrong)
        event("refused")
        return
    event("read")
    assert told.refused is None and not told.failed
    ranked, faults = again_in_python(case)
    names = ("row", "query_id", "doc_id", "reason", "candidates")
    assert Counter(tuple(fault[name] for name in names) for fault in told.faults) == faults
    assert [
        (
            q["row"],
            q["query_id"],
            q["query"],
            [(c["first_stage_rank"], c["doc_id"], c["text"]) for c in q["candidates"]],
        )
        for q in told.candidates
    ] == ranked
    if "passed" in case.extra:
        passed = case.table["passed"].to_pylist()
        assert [q["passed"] for q in told.candidates] == [passed[q["row"]] for q in told.candidates]


# --- what was found so, in small -----------------------------------------------------------------------------------


def nested_table(**other: pa.Array) -> pa.Table:
    """Two queries of two candidates."""
    pair = [{"doc_id": "a", "text": "one"}, {"doc_id": "b", "text": "two"}]
    given = {
        "query_id": pa.array(["q1", "q2"]),
        "query": pa.array(["what", "why"]),
        "candidates": pa.array([pair, pair]),
    }
    return pa.table(given | other)


def flat_table(**other: pa.Array) -> pa.Table:
    """Two queries of two candidates and one."""
    given = {"query_id": ["q1", "q1", "q2"], "query": ["what", "what", "why"], "doc_id": ["a", "b", "a"]}
    return pa.table({name: pa.array(values) for name, values in (given | {"text": ["x", "y", "z"]}).items()} | other)


def told_of_table(folder: Path, table: pa.Table, *given: Any, **options: Any) -> Told:
    pq.write_table(table, folder / "shard.parquet", **options)
    return told_of(folder, *given)


def structs(**fields: list[str]) -> pa.Array:
    """Two lists of two structs."""
    held = pa.StructArray.from_arrays([pa.array(values) for values in fields.values()], names=list(fields))
    return pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), held)


@pytest.mark.parametrize("name", ["query_id", "query", "candidates", "lang"])
def test_a_column_that_is_there_twice_is_refused_by_name(folder: Path, name: str) -> None:
    table = nested_table(lang=pa.array(["en", "de"]))
    told = told_of_table(folder, table.append_column(name, table[name]), PLAIN, ("lang",))
    assert told.refused and f"there are 2 columns {name!r}" in told.refused


def test_a_field_that_is_there_twice_is_refused_by_name(folder: Path) -> None:
    words = pa.array(list("abcd"))
    held = pa.StructArray.from_arrays([words, words, words], names=["doc_id", "text", "text"])
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), held)
    told = told_of_table(folder, nested_table(candidates=lists))
    assert told.refused and "there are 2 columns 'candidates.text'" in told.refused


def test_names_that_look_like_paths_are_read(folder: Path) -> None:
    fields = {".doc": list("abab"), "[0].text": list("wxyz")}
    table = nested_table(candidates=structs(**fields)).rename_columns(["q.id", "q", "q.list"])
    table = table.append_column("q.list.x", pa.array([1, 2]))
    columns = Columns(query_id="q.id", query="q", candidates="q.list", doc_id=".doc", text="[0].text")
    told = told_of_table(folder, table, columns, (), 1)
    assert told.pairs == 4 and not told.refused and not told.failed
    assert [[c["doc_id"] for c in row["candidates"]] for row in told.candidates] == [["a", "b"], ["a", "b"]]


def test_a_field_is_not_looked_for_beside_its_list(folder: Path) -> None:
    table = nested_table(candidates=structs(text=list("wxyz")), **{"candidates.doc_id": pa.array(["a", "b"])})
    told = told_of_table(folder, table)
    assert told.refused and "no column 'candidates.doc_id' (it has candidates.text)" in told.refused


@pytest.mark.parametrize("table", [nested_table(), flat_table()], ids=["nested", "flat"])
def test_a_query_may_be_its_own_id(folder: Path, table: pa.Table) -> None:
    told = told_of_table(folder, table, Columns(query_id="query"))
    assert [row["query_id"] for row in told.candidates] == ["what", "why"]


def test_what_the_ranking_names_itself_is_not_passed_through_from_elsewhere(folder: Path) -> None:
    for name in ("row", "ranking"):
        told = told_of_table(folder, nested_table(**{name: pa.array(["r", "s"])}), PLAIN, (name,))
        assert told.refused and f"column {name!r} cannot be passed through" in told.refused
    table = nested_table(q=pa.array(["other", "words"]))
    told = told_of_table(folder, table, Columns(query="q"), ("query",))  # would be scored in place of `q`
    assert told.refused and "column 'query' cannot be passed through" in told.refused
    told = told_of_table(folder, table, PLAIN, ("query", "q"))
    assert [(row["query"], row["q"]) for row in told.candidates] == [("what", "other"), ("why", "words")]


def test_views_are_passed_through_and_lists_of_views_are_refused(folder: Path) -> None:
    views = pa.array(["en", "de"], pa.string_view())
    told = told_of_table(folder, nested_table(lang=views), PLAIN, ("lang",))
    assert [row["lang"] for row in told.candidates] == ["en", "de"]
    lists = pa.array([["en"], ["de"]], pa.list_(pa.string_view()))
    told = told_of_table(folder, nested_table(lang=lists), PLAIN, ("lang",))
    assert told.refused and "'lang' is list<element: string_view>" in told.refused


@pytest.mark.parametrize("target", [1, 9])
def test_broken_ids_beside_each_other_are_as_many_queries_however_units_are_cut(folder: Path, target: int) -> None:
    table = flat_table(query_id=strings([b"\xfe", b"\xff", None], "string"))
    told = told_of_table(folder, table, PLAIN, (), target)
    assert [(fault["row"], fault["reason"], fault["candidates"]) for fault in told.faults] == [
        (0, "the query_id is not valid UTF-8", 1),
        (1, "the query_id is not valid UTF-8", 1),
        (2, "the query_id is empty", 1),
    ]


def test_of_a_doc_id_that_occurs_twice_the_first_that_can_be_ranked_is_ranked(folder: Path) -> None:
    table = nested_table(candidates=structs(doc_id=list("aabb"), text=["", "x", "y", "z"]))
    told = told_of_table(folder, table)
    assert [[(c["doc_id"], c["text"]) for c in row["candidates"]] for row in told.candidates] == [
        [("a", "x")],
        [("b", "y")],
    ]
    assert [fault["reason"] for fault in told.faults] == [
        "the text is empty",
        "the doc_id occurs twice in this query; the first is ranked",
    ]


def test_a_dictionary_inside_a_list_is_read_over_row_groups_and_where_it_is_broken(folder: Path) -> None:
    texts = strings([b"one", b"two", b"\xff", b"one"], "dictionary")
    held = pa.StructArray.from_arrays([pa.array(list("abab")), texts], names=["doc_id", "text"])
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), held)
    took = pa.array([datetime.timedelta(1), datetime.timedelta(2)])
    told = told_of_table(folder, nested_table(candidates=lists, took=took), PLAIN, ("took",), 1000, row_group_size=1)
    assert [row["took"] for row in told.candidates] == took.to_pylist()
    assert [[c["doc_id"] for c in row["candidates"]] for row in told.candidates] == [["a", "b"], ["b"]]
    assert [fault["reason"] for fault in told.faults] == ["the text is not valid UTF-8"]


def test_a_text_of_megabytes_is_read(folder: Path) -> None:
    told = told_of_table(folder, flat_table(text=pa.array(["word " * 1_000_000, "y", "z"])))
    assert len(told.candidates[0]["candidates"][0]["text"]) == 5_000_000


@pytest.mark.parametrize("shape", ["nested", "flat"])
def test_a_text_that_does_not_fit_its_checksum_is_not_read(folder: Path, shape: str) -> None:
    data = sound(Written(shape, write_page_checksum=True))
    (folder / "shard.parquet").write_bytes(data.replace(b"passage 1 of q3", b"passage 1 of q2"))
    told = told_of(folder, target=1000)
    assert len(told.failed) == 1 and "CRC" in told.failed[0]


def test_damaged_ids_of_flat_rows_are_refused_with_their_file(folder: Path) -> None:
    data = sound(Written("flat", write_page_checksum=True, write_statistics=False))
    (folder / "shard.parquet").write_bytes(data.replace(b"\x02\0\0\0q3", b"\x02\0\0\0q4"))
    told = told_of(folder)
    assert told.refused and "shard.parquet: column 'query_id' cannot be read" in told.refused


@pytest.mark.parametrize(
    ("part", "other", "why"),
    [
        pytest.param(b"\x18", b"\x16", "row groups", id="12 rows become 11"),
        pytest.param(b"\x3c", b"\x3b", "-30 values", id="30 values become minus 30"),
        pytest.param(b"\x25\2", b"\x25\0", "histogram", id="an optional field becomes a required one"),
        pytest.param(b"q", b"\xff", "utf-8", id="names are not UTF-8"),
    ],
)
def test_a_footer_that_contradicts_itself_is_refused(folder: Path, part: bytes, other: bytes, why: str) -> None:
    data = sound(Written(one_group=True, store_schema=False))
    at = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    told = []
    while (at := data.find(part, at + 1)) > 0:
        (folder / "shard.parquet").write_bytes(data[:at] + other + data[at + len(part) :])
        told.append(told_of(folder).refused)
    assert any(refused and why in refused for refused in told)


def test_rows_and_columns_that_went_missing_after_the_plan_are_told(folder: Path) -> None:
    path = folder / "shard.parquet"
    pq.write_table(nested_table(), path)
    given = read_input(CandidateSource(str(folder), PLAIN))
    (unit,) = plan_units(given, PLAIN, 9)
    for now, told in (
        (nested_table().slice(0, 1), "rows 0 to 2: there are only 1"),
        (nested_table().drop_columns("query"), "rows 0 to 2: .*query"),
    ):
        pq.write_table(now, path)
        read = ReadUnit(PLAIN, (), given.columns, given.repeated)
        with pytest.raises(StorageError, match="has changed since the job first looked at it"):
            read(unit)
        with pytest.raises(StorageError, match=told):
            read(dataclasses.replace(unit, size=0, version=""))  # where nothing is known of the file

"""Which files `train` takes for training pairs."""

import gzip
from pathlib import Path

import pytest

from ray_rerank.cluster.errors import StorageError
from ray_rerank.jobs.train.input import load_training_pairs
from ray_rerank.operators.errors import InputError

LINES = b"query\tdocument\tlabel\na kiln\tfires clay\t1\n"


def test_all_files_of_a_folder_but_hidden_ones_packed_or_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pairs.tsv").write_bytes(LINES)
    (tmp_path / "b.tsv.gz").write_bytes(gzip.compress(LINES.replace(b"kiln", b"furnace")))
    (tmp_path / "notes.md").write_text("query,document,label")
    (tmp_path / "empty.tsv").touch()
    (tmp_path / "empty.jsonl").touch()
    for name in ("_errors", ".ipynb_checkpoints"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part-0.parquet").write_bytes(b"no pairs")
    pairs = load_training_pairs(str(tmp_path), None)
    assert pairs.table["query"].to_pylist() == ["a kiln", "a furnace"]
    assert capsys.readouterr().out == f"note: {tmp_path}: not read: notes.md\n"
    assert load_training_pairs(str(tmp_path / "b.tsv.gz"), None).table.num_rows == 1
    (tmp_path / "more.avro").write_text("query,document,label")
    with pytest.raises(InputError, match=r"also holds more\.avro: data, it seems, that cannot be read here"):
        load_training_pairs(str(tmp_path), None)


def test_nothing_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        load_training_pairs(str(tmp_path / "absent"), None)
    (tmp_path / "pairs.avro").write_text("query,document,label")
    for path in (tmp_path, tmp_path / "pairs.avro"):
        with pytest.raises(InputError, match="holds no"):
            load_training_pairs(str(path), None)

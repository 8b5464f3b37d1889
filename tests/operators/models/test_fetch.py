"""A model at a URI is copied once, again when it is another, and refused where it is none."""

import uuid
from pathlib import Path

import fsspec
import pytest

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.models.fetch import fetched
from ray_rerank.operators.scorers.cross_encoder import CrossEncoderConfig


@pytest.fixture
def uri(cross_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model in a store, with a file that is none of its."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = f"/{uuid.uuid4().hex}/minilm"
    store = fsspec.filesystem("memory")
    for file in cross_encoder.iterdir():
        store.pipe_file(f"{folder}/{file.name}", file.read_bytes())
    store.pipe_file(f"{folder}/pytorch_model.bin", b"a pickle")
    return f"memory:/{folder}"


def copies(folder: Path) -> list[Path]:
    return [path for path in (folder / "ray-rerank" / "models").iterdir() if path.is_dir()]


def test_a_model_at_a_uri_scores_as_the_local_one_and_is_copied_once(
    uri: str, cross_encoder: Path, tmp_path: Path
) -> None:
    pairs = [("how to water a cactus", "the soil should dry out"), ("bread", "yeast")]
    local, remote = (CrossEncoderConfig(model=model, precision="fp32") for model in (str(cross_encoder), uri))
    assert remote.identity() == local.identity()
    assert remote.load().score(pairs).tolist() == local.load().score(pairs).tolist()
    assert CrossEncoderConfig(model=f"{uri}/").checkpoint().folder == remote.checkpoint().folder
    (copy,) = copies(tmp_path)
    assert copy.name.startswith("minilm-")
    assert not (copy / "pytorch_model.bin").exists()


def test_a_model_on_this_disk_is_read_where_it_is(uri: str, cross_encoder: Path, tmp_path: Path) -> None:
    assert fetched(f"file://{cross_encoder}", (".json",)) == cross_encoder
    assert not (tmp_path / "ray-rerank").exists()


def test_a_model_that_was_replaced_is_fetched_again(uri: str, tmp_path: Path) -> None:
    before = fetched(uri, (".json",))
    fsspec.filesystem("memory").pipe_file(f"{uri.removeprefix('memory:/')}/config.json", b'{"other": 1}')
    after = fetched(uri, (".json",))
    assert (after / "config.json").read_bytes() == b'{"other": 1}' != (before / "config.json").read_bytes()
    assert len(copies(tmp_path)) == 2


def test_a_copy_that_broke_off_leaves_nothing(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = type(fsspec.filesystem("memory"))
    with monkeypatch.context() as patch:

        def broken(self: object, path: str, target: str) -> None:
            Path(target).write_bytes(b"half")
            raise OSError("the connection was lost")

        patch.setattr(store, "get_file", broken)
        with pytest.raises(ModelError, match="cannot be fetched: the connection was lost"):
            fetched(uri, (".json",))
    assert copies(tmp_path) == []
    assert (fetched(uri, (".json",)) / "config.json").read_bytes().startswith(b"{")


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("memory://nowhere/minilm", "no such folder"),
        ("nosuch://bucket/minilm", "nosuch://bucket/minilm: cannot be fetched"),
    ],
)
def test_what_cannot_be_fetched_is_told(model: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        CrossEncoderConfig(model=model).checkpoint()


def test_a_file_and_a_pickle_are_no_model(uri: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a file; a model is a folder"):
        fetched(f"{uri}/config.json", (".json",))
    fsspec.filesystem("memory").rm(f"{uri.removeprefix('memory:/')}/model.safetensors")
    with pytest.raises(ModelError, match=r"minilm: holds no \*.safetensors; pytorch_model.bin is pickle"):
        fetched(uri, (".json",))
    assert not (tmp_path / "ray-rerank").exists()

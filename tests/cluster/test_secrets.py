"""What `shown` hides and `has_secret` refuses, for URIs of any scheme with a canary at any place."""

import pytest
from hypothesis import strategies as st

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.secrets import has_secret, shown
from ray_rerank.cluster.storage import filesystem, write_whole
from support.trial import fuzz

CANARY = "geheim"
SCHEMES = (
    "s3",
    "s3a",
    "gs",
    "abfs",
    "hdfs",
    "http",
    "https",
    "ftp",
    "sftp",
    "file",
    "ray",
    "jdbc:postgresql",
    "memory",
)
USERS = (
    "user:geheim", "geheim", "geheim:pw", "user:ge/geheim/im", "user:a@geheim", "user%3Ageheim", "user:a?geheim",
    "user:a#geheim", ":geheim", "geheim:", "user:12/geheim", "a%2540geheim", "us er:ge geheim",
)  # fmt: skip
KEYS = (
    "api_key", "password", "access-token", "X-Amz-Security-Token", "X-Amz-Signature", "x-goog-signature", "sig", "SIG",
    "%73ig", "AWSAccessKeyId", "key", "k", "se%63ret", "versionid%20",
)  # fmt: skip
FORMS = (
    "?{key}=geheim", "?versionId=3&{key}=geheim", "?versionId=3;{key}=geheim", "?geheim", "?{key}&geheim",
    "?{key}=1&{key}=geheim", ";{key}=geheim", "&{key}=geheim", "%3F{key}%3Dgeheim", "%253f{key}=geheim",
    "?versionId=3%26{key}=geheim", "?{key}=%67%65geheim", "#geheim", "#{key}=geheim", "?versionId=3#geheim",
    "%23geheim", "?{key}=(geheim)", "?versionId=/geheim",
)  # fmt: skip


def check_hidden(uri: str, before: str = "", after: str = "") -> None:
    told = shown(f"{before}{uri}{after}")
    assert CANARY not in told, told
    assert shown(told) == told
    assert has_secret(uri)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_user_info_is_hidden_and_refused(scheme: str) -> None:
    for user in USERS:
        uri = f"{scheme}://{user}@host/folder/part.parquet"
        assert has_secret(uri), uri
        if " " not in user:  # in a message a blank ends a URI
            check_hidden(uri, "cannot be read: '", "': no such file")
            check_hidden(uri.replace("%40", "@").replace("://", ":/"), "s3:// ") if scheme == "s3" else None


@pytest.mark.parametrize("scheme", SCHEMES)
def test_queries_parameters_and_fragments_are_hidden_and_refused(scheme: str) -> None:
    for form in FORMS:
        for key in KEYS:
            check_hidden(f"{scheme}://host:80/folder/part.parquet{form.format(key=key)}", "(", "): not found")


@pytest.mark.parametrize(
    "text",
    [
        "user:geheim@host:6379",
        "jdbc:oracle:thin:user/geheim@//host:1521/x",
        "jdbc:sqlserver://host:1433;user=sa;password=geheim",
        "zip://a.parquet::s3://user:geheim@bucket/a.zip",
        "a,https://user:geheim@host/model,b",
        "hf_geheimABCDEFGHIJKLMNOPQRSTUVWXYZ12",
        "https://user:hf_geheimABCDEFGHIJKLMNOPQRSTUVWXYZ12@huggingface.co/org/model",
        "abfs://user:geheim@account.dfs.core.windows.net/x",
    ],
)
def test_so_is_what_is_no_common_uri(text: str) -> None:
    check_hidden(text)


@pytest.mark.parametrize(
    "text",
    [
        "unrecognized arguments: --api-key=geheim --input=s3://user:geheim@bucket",
        "HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: /x?y=geheim (Caused by 'no')",
        "Illegal header value b'Bearer geheim0123456'",
        "'Authorization': 'Basic geheim0123456='",
        "password='geheim', endpoint_url=http://user:geheim@127.0.0.1/",
        "/x/y?token=geheim&z=1",
    ],
)
def test_so_is_what_libraries_say(text: str) -> None:
    assert CANARY not in shown(text)
    assert shown(shown(text)) == shown(text)


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/dt=2024-01-01/R&D/part-*.parquet",
        "https://host:8080/x.parquet?versionId=3.Ab_-&download=true",
        "hf://datasets/org/name@main/x.parquet",
        "s3://bucket/mail@host/x",
        "abfss://container@account.dfs.core.windows.net/folder/x",
        "ray://head:10001",
        "memory:///bucket/a",
        "cross-encoder/ms-marco-MiniLM-L12-v2",
        "/data/a?b#c@d=e;f&g:h@i",
        "./a:b@c",
        "a@b/c#d?e=f",
        "hf_models/small",
        "query: {query} @ document: {document}",
        "",
    ],
)
def test_what_is_harmless_is_left_as_it_is(text: str) -> None:
    assert shown(text) == text
    assert not has_secret(text)


def test_the_hidden_part_of_a_path_leaves_the_sentence_around_it() -> None:
    told = "s3://key:geheim@bucket/in.parquet: cannot be read (see 'https://host/x?sig=geheim')."
    assert shown(told) == "s3://***@bucket/in.parquet: cannot be read (see 'https://host/x?***')."


SIGNS = st.text(st.sampled_from("aZ0/@:?#;&=%+.~!$'()*,-_[]ü"), max_size=6)
NAME = st.text(st.sampled_from("aZ0%+.~!$'()*,-_=ü"), max_size=6)
HOST = st.from_regex(r"[a-z][a-z0-9-]{0,8}(:[0-9]{1,4})?", fullmatch=True)
PATH = st.from_regex(r"(/[A-Za-z0-9=+~!',*._-]{1,6}){1,3}", fullmatch=True)
HARMLESS = st.builds(
    "{}://{}{}{}".format, st.sampled_from(SCHEMES), HOST, PATH, st.sampled_from(("", "?versionId=a.1"))
)
SECRET = st.one_of(
    st.builds("{}://{}geheim{}@{}{}".format, st.sampled_from(SCHEMES), NAME, NAME, HOST, PATH),
    st.builds("{}://{}:{}geheim{}@{}{}".format, st.sampled_from(SCHEMES), NAME, SIGNS, SIGNS, HOST, PATH),
    st.builds(
        "{}{}{}{}geheim{}".format, HARMLESS.filter(lambda uri: "?" not in uri), st.sampled_from("?#;"), SIGNS,
        st.sampled_from(("", "=", "%3D")), SIGNS,
    ),
)  # fmt: skip


def test_any_uri_with_a_secret_is_hidden_and_refused() -> None:
    around = st.sampled_from((("", ""), ("'", "': no"), ("--input=", " --x"), ("a: ", ", b"), ("<", ">")))
    fuzz(st.tuples(SECRET, around), lambda drawn: check_hidden(drawn[0], *drawn[1]), 200)


def test_any_harmless_uri_is_left_as_it_is() -> None:
    def check(uri: str) -> None:
        assert shown(uri) == uri
        assert not has_secret(uri)

    fuzz(HARMLESS, check, 200)


def test_any_local_path_may_be_used() -> None:
    def check(path: str) -> None:
        assert "://" in path or not has_secret(path)

    fuzz(st.builds("{}{}".format, st.sampled_from(("/", "./", "~/", "../")), SIGNS), check, 200)


def test_any_text_is_hidden_once() -> None:
    def check(text: str) -> None:
        assert shown(shown(text)) == shown(text)

    pieces = st.sampled_from(
        ("s3://", "user", ":", "@", "?", "token=", "hf_" + "a" * 24, "***", " ", "'", "%40", "url: /")
    )
    fuzz(st.lists(pieces | SIGNS, max_size=9).map("".join), check, 200)


@pytest.mark.parametrize("sign", ["a:", "@:", "s3://", "?&a", "=a:", "token=a", "%25", "(", "url: /"])
def test_long_texts_take_no_longer_by_the_square(sign: str) -> None:
    """By the square these would take hours, and the suite's time limit would end them."""
    text = f"s3://h/{sign * 100_000}@?x"
    assert len(shown(text)) <= len(text) + 10
    assert has_secret(text)


def test_storage_hides_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for uri in ("nosuch://user:geheim@bucket/x", "zip://a::s3://geheim@bucket"):
        with pytest.raises(StorageError) as told:
            filesystem(uri)
        assert CANARY not in str(told.value)
        assert "***" in str(told.value)

    def fails(*_: object, **__: object) -> None:
        raise PermissionError("http://user:geheim@127.0.0.1/bucket?X-Amz-Signature=geheim: 403")

    monkeypatch.setattr("fsspec.implementations.memory.MemoryFileSystem.pipe_file", fails)
    with pytest.raises(StorageError, match=r"127.0.0.1/bucket\?\*\*\*: 403") as told:
        write_whole("memory://bucket/x", b"")
    assert CANARY not in str(told.value)

"""One folder of copies for one study, whatever the spelling of its address."""

from __future__ import annotations

import pytest
import s3
from pyarrow import fs

from launcher import copies

SAME = [
    "s3://bucket/studies/first",
    "s3://bucket/studies/first/",
    "s3://KEY:SECRET@bucket/studies/first",
    "s3://bucket/studies/first?region=eu-central-1",
    "s3://KEY:SECRET@bucket/studies/first/?allow_bucket_creation=true&region=us-east-1",
    "s3://bucket/studies/fir%73t",
]
OTHERS = [
    "s3://bucket/studies/second",
    "s3://bucket/studies",
    "s3://another/studies/first",
    "s3://bucket/studies/First",
    "s3://bucket/studies/first?endpoint_override=localhost:9000",
    "gs://bucket/studies/first",
]


def test_all_spellings_of_an_address_have_one_folder() -> None:
    assert {copies.cache_folder(uri) for uri in SAME} == {copies.cache_folder(SAME[0])}
    assert copies.cache_folder(SAME[0]).name.startswith("first-")


def test_other_folders_and_servers_have_folders_of_their_own() -> None:
    assert len({copies.cache_folder(uri) for uri in [SAME[0], *OTHERS]}) == 1 + len(OTHERS)


def test_a_server_that_the_environment_names_has_folders_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    amazon = copies.cache_folder(SAME[0])
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://10.0.0.9:9000")
    assert copies.cache_folder(SAME[0]) != amazon
    with s3.bucket() as bucket:
        bucket.write("x", b"there")
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{bucket.port}")
        system, base = fs.FileSystem.from_uri(f"s3://{bucket.name}?region=us-east-1")
        with system.open_input_stream(f"{base}/x") as found:
            assert found.read() == b"there"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("gs://bucket/x", "gcs://anonymous@bucket/x?project_id=p"),
        ("hdfs://name:8020/x", "hdfs://me@name:8020/x?replication=2"),
        ("abfs://container@account.dfs.core.windows.net/x", "abfss://container:KEY@account.dfs.core.windows.net/x"),
    ],
)
def test_other_file_systems_too(one: str, other: str) -> None:
    assert copies.identity(one) == copies.identity(other)
    assert "KEY" not in copies.identity(other)


def test_the_container_of_azure_tells_folders_apart() -> None:
    one, other = (f"abfs://{name}@account.dfs.core.windows.net/x" for name in ("one", "other"))
    assert copies.identity(one) != copies.identity(other)


def test_addresses_are_alike_where_pyarrow_reaches_the_same_object() -> None:
    with s3.bucket() as bucket:
        bucket.write("studies/first/x", b"there")
        options = bucket.uri("").partition("?")[2]
        for uri in SAME:
            address, _, more = uri.partition("?")
            name = address.replace("bucket/", f"{bucket.name}/", 1)
            given = f"{name}?{options}" + "".join(f"&{one}" for one in more.split("&") if "region" not in one and one)
            system, base = fs.FileSystem.from_uri(given)
            with system.open_input_stream(f"{base.rstrip('/')}/x") as found:
                assert found.read() == b"there", given

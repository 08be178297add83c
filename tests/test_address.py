"""Addresses: which are URLs, and which have room for what must not be stored or shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from flows.cli import main
from fute.address import has_room_for_a_secret, is_url, store_fault
from fute.errors import ConfigError, StoreError
from fute.load_study import study_from_mapping
from storage.store import Store

POOL = {"sources": [{"data": {"files": "p.csv"}}]}
SECRET = "hush-hush"
WITH_SECRETS = [
    f"s3://KEY:{SECRET}@bucket/store",
    f"S3://KEY:{SECRET}@bucket/store",
    f"s3://{SECRET}@bucket",
    f"s3://KEY:a/{SECRET}@bucket",
    f"s3:/KEY:{SECRET}@bucket",
    f"s3:KEY:{SECRET}@bucket",
    f"s3:///KEY:{SECRET}@bucket",
    f"s3://KEY%3A{SECRET}%40bucket",
    f"s3://KEY%253A{SECRET}%2540bucket",
    f"s3://bucket/store?secret={SECRET}",
    f"s3://bucket/store%3Fsecret={SECRET}",
    f"s3://bucket/store#{SECRET}",
    f"simplecache::s3://KEY:{SECRET}@bucket",
    f"filecache::s3://bucket?secret={SECRET}",
    f"zip://a.zip::https://me:{SECRET}@host/b.zip",
    f"sftp://me:{SECRET}@host/x",
    f"https://{SECRET}@host/x",
    f"abfs://container:{SECRET}@account/x",
    f"abfs://a@{SECRET}:b@account/x",
]
PLAIN = ["s3://bucket/prefix", "gs://bucket", "s3://bucket/team@home/v1.2+x", "abfs://container@account.dfs.host/x",
         "sftp://me@host/path", "memory://store", "s3://bucket/a%20b"]  # fmt: skip


@pytest.mark.parametrize("address", WITH_SECRETS)
def test_a_secret_in_a_stores_address_is_refused_and_neither_shown_nor_stored(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FUTE_MIRROR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    told = []
    with pytest.raises(StoreError) as refused:
        Store(address)
    told.append(str(refused.value))
    with pytest.raises(ConfigError) as wrong:
        study_from_mapping({"name": "s", "store": address, "pool": POOL}, tmp_path)
    told.append(str(wrong.value))
    for command in (["ls"], ["doctor"], ["sql", "SELECT 1"], ["atlas"]):
        result = CliRunner().invoke(main, [*command, "--store", address])
        assert result.exit_code == 1, (command, result.output)
        told.append(result.output)
    assert SECRET not in "\n".join(told)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", PLAIN)
def test_other_urls_are_taken(address: str) -> None:
    assert is_url(address)
    assert not has_room_for_a_secret(address)
    assert store_fault(address) is None


@pytest.mark.parametrize("folder", ["store", "/a/b:c@d", "./a:b", "~/x", "a b/#1?", "/data/team@home", "../x%40y"])
def test_folders_are_no_urls(folder: str) -> None:
    assert not is_url(folder)


@pytest.mark.parametrize("field", ["base_url", "uri"])
def test_other_addresses_hold_no_password_either(tmp_path: Path, field: str) -> None:
    for address in (f"http://me:{SECRET}@host/v1", f"http://me%3A{SECRET}%40host/v1", f"http://h/v1?key={SECRET}"):
        study = {"name": "s", "pool": POOL}
        if field == "uri":
            study["tracking"] = {"uri": address}
        else:
            study["endpoints"] = [{"id": "e", "model": "m", "base_url": address}]
        with pytest.raises(ConfigError) as wrong:
            study_from_mapping(study, tmp_path)
        assert SECRET not in str(wrong.value)

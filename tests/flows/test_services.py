from __future__ import annotations

import socket

import pytest

from flows.services import Ports, ServiceError, services


def test_a_port_that_another_server_has_is_refused_before_anything_starts(tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServiceError, match=f"port {port} is taken.*--port"),
            services(tmp_path, tmp_path / "store", Ports(prefect=port)),
        ):
            pass
    assert not (tmp_path / "store").exists()

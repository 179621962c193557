"""The suite itself has no network, so whatever passes here needs none."""

import socket
import subprocess
import sys

import pytest


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_no_test_can_open_an_internet_socket(family):
    with pytest.raises(RuntimeError, match="no network"):
        socket.socket(family)


def test_no_test_can_look_up_a_name():
    with pytest.raises(RuntimeError, match="no network"):
        socket.getaddrinfo("localhost", 80)


def test_a_window_can_talk_to_its_screen():
    with socket.socket(socket.AF_UNIX) as local:
        assert local.fileno() > 0


def test_a_child_process_has_no_network_either():
    code = "import socket; socket.create_connection(('127.0.0.1', 9), timeout=1)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "tests have no network" in done.stderr

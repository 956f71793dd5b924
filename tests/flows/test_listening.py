"""The addresses of workers and schedulers, and who is refused. Whoever reaches one can run programs on it."""

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask
import pytest

from captchabench.errors import InputError
from flows import ROOT, run, scheduler, worker
from flows.address import check_address, local_interface
from flows.connection import accepted_certificates
from flows.workers import Workers
from tests.flows import certificates, listening

OWN = listening.own_address()
V6 = pytest.param("[::1]", marks=pytest.mark.skipif(not listening.has("::1"), reason="no IPv6 on this machine"))
SCRATCH = ".dvc/tmp/dask-scratch-space"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Folders with our certificates and with those of a foreign CA."""
    folder = tmp_path_factory.mktemp("certificates")
    return certificates.make(folder / "ours"), certificates.make(folder / "foreign")


@pytest.fixture(scope="module")
def ours(folders: tuple[Path, Path]) -> dict[str, str]:
    return certificates.settings(folders[0], folders[0])


@pytest.fixture(scope="module")
def encrypted(ours: dict[str, str]) -> Iterator[str]:
    """The address of a scheduler with our certificates."""
    environment = {**os.environ, **certificates.environment(ours)}
    with listening.scheduler("tls://127.0.0.1:0", environment=environment) as (_, address):
        yield address


@pytest.fixture(scope="module")
def plain() -> Iterator[str]:
    """The address of a scheduler without TLS."""
    with listening.scheduler("tcp://127.0.0.1:0") as (_, address):
        yield address


@pytest.fixture
def clone(pipeline: Any) -> Path:
    """A repository in which a worker can run."""
    pipeline.call("git", "add", "-A")
    pipeline.call("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "a commit")
    return Path(pipeline.folder)


@pytest.mark.parametrize("host", ["127.0.0.1", OWN, V6])
def test_each_listens_on_one_port_of_one_interface(host: str, ours: dict[str, str], clone: Path) -> None:
    environment = {**os.environ, **certificates.environment(ours), "PYTHONPATH": str(ROOT)}
    with listening.scheduler(f"tls://{host}:0", environment=environment) as (central, address):
        assert listening.listened(central.process.pid) == [host.strip("[]")]
        assert listening.scratch(central.process.pid) == {ROOT / SCRATCH}
        with listening.started("flows.worker", address, folder=clone, environment=environment) as other:
            assert other.said(r" at (\S+) \(Ctrl-C").startswith(f"tls://{host}:")
            assert listening.listened(other.process.pid) == [host.strip("[]")]
            assert listening.scratch(other.process.pid) == {clone / SCRATCH}


def test_a_run_that_connects_listens_nowhere(encrypted: str, ours: dict[str, str]) -> None:
    before = listening.listened(os.getpid())
    with dask.config.set(ours):
        workers = Workers(encrypted, "0" * 40, patience=0)
        with pytest.raises(InputError, match="no worker"):
            workers.await_one()
        assert listening.listened(os.getpid()) == before
        workers.close()


@pytest.mark.parametrize("command", [scheduler, worker, run])
def test_without_tls_only_this_machine_is_reached(command: Any) -> None:
    words = ["--workers"] if command is run else []
    with pytest.raises(InputError, match=r"^tcp://203\.0\.113\.1:8786: without TLS .*--insecure"):
        command.main([*words, "tcp://203.0.113.1:8786"])


def test_insecure_says_that_it_is_meant() -> None:
    with listening.scheduler(f"tcp://{OWN}:0", "--insecure") as (_, address):
        accepted_certificates(address, "worker")


@pytest.mark.parametrize(
    "address",
    [
        "tcp://0.0.0.0:8786",
        "tcp://[::]:8786",
        "tcp://192.168.0.1:8786",
        # Host names, even if some resolve to loopback.
        "tcp://127.0.0.1.example.org:8786",
        "tcp://localhost.example.org:8786",
        "tcp://127.1:8786",
        "tcp://2130706433:8786",
        "tcp://[::ffff:10.0.0.1]:8786",
    ],
)
def test_addresses_that_may_be_of_other_machines_need_tls(address: str) -> None:
    with pytest.raises(InputError, match="without TLS"):
        check_address(address, False)
    check_address(address, True)
    check_address(address.replace("tcp", "tls"), False)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:8786", "tcp://localhost:1", "tcp://[::1]:8786"])
def test_loopback_needs_no_tls(address: str) -> None:
    check_address(address, False)


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1:8786",
        "tls://10.0.0.1",
        "tls://:8786",
        "ws://127.0.0.1:8786",
        "inproc://127.0.0.1:8786",
        "tcp://127.0.0.1:8786@10.0.0.1:8786",
        "tcp://10.0.0.1:1#@127.0.0.1:8786",
        "tcp://127.0.0.1:8786\n",
        "tcp://127.0.0.1:123456",
        "tls://a..b:8786",
        f"tls://{'a' * 64}:8786",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="not the address of a scheduler; give tls://HOST:8786"):
        check_address(address, True)


@pytest.mark.parametrize("host", ["127.0.0.1", OWN, V6])
def test_the_interface_that_faces_the_scheduler(host: str) -> None:
    assert local_interface(f"tls://{host}:1") == host.strip("[]")


def test_what_cannot_be_reached_has_none() -> None:
    with pytest.raises(InputError, match="cannot be reached"):
        local_interface("tls://nowhere.invalid:8786")


def refused(address: str, told: Mapping[str, object]) -> list[str]:
    """The error messages of a worker and of a run at an address."""
    with dask.config.set(told):
        with pytest.raises(InputError) as one:
            accepted_certificates(address, "worker")
        with pytest.raises(InputError) as other:
            Workers(address, "0" * 40).await_one()
    heard = [str(one.value), str(other.value)]
    assert not any("\n" in line for line in heard)
    return heard


def test_certificates_of_another_ca_are_refused(encrypted: str, folders: tuple[Path, Path]) -> None:
    trusted, foreign = folders
    for line in refused(encrypted, certificates.settings(foreign, foreign)):
        assert line.startswith(f"{encrypted}: its certificate is refused (self")
    for line in refused(encrypted, certificates.settings(trusted, foreign)):
        assert line.startswith(f"{encrypted}: it refuses this machine's certificate; all machines need")


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs OpenSSL")
def test_the_documented_commands_make_certificates_that_work(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "docs/machines.md").read_text(), re.DOTALL)
    make, configure = (next(block for block in blocks if part in block) for part in ("openssl req", "<<END"))
    environment = {**os.environ, "HOME": str(tmp_path)}
    for block in (make, configure):
        subprocess.run(["bash", "-e"], input=block, env=environment, text=True, check=True, capture_output=True)
    machines = tmp_path / "certificates"
    assert (machines / "gpu1/key.pem").stat().st_mode & 0o077 == 0
    shutil.copytree(machines / "coordinator", tmp_path / ".config/captchabench")
    with listening.scheduler("tls://127.0.0.1:0", environment=environment) as (_, address):
        with dask.config.set(certificates.settings(machines / "gpu1", machines / "gpu1")):
            accepted_certificates(address, "worker")
        refused(address, certificates.settings(machines / "gpu1", folders[1]))


def test_plain_and_tls_do_not_connect(encrypted: str, plain: str, ours: dict[str, str]) -> None:
    for line in refused(encrypted.replace("tls", "tcp"), {}):
        assert line.endswith("it closes the connection; give its tls:// address if it has one")
    for line in refused(plain.replace("tcp", "tls"), ours):
        assert line.endswith("it does not use TLS; start the scheduler with this address")
    for line in refused(plain, {"distributed.comm.require-encryption": True}):
        assert line.endswith("Dask's configuration requires encryption; give a tls:// address")


def test_missing_certificates_are_reported(encrypted: str, ours: dict[str, str]) -> None:
    nothing = dict.fromkeys(ours)
    for line in refused(encrypted, nothing):
        assert "names no certificates (distributed.comm.tls: ca-file, " in line
    for line in refused(encrypted, {**ours, "distributed.comm.tls.ca-file": "/nowhere/ca.pem"}):
        assert line.startswith("/nowhere/ca.pem, ")
    for line in refused(encrypted, {**ours, "distributed.comm.tls.min-version": 1.9}):
        assert line.startswith("Dask's configuration: distributed.comm.tls.min-version=1.9 is not supported")


@pytest.mark.parametrize("word", [b"", b"SSH-2.0-OpenSSH_9.2\r\n"])
def test_another_service_is_no_scheduler(word: bytes, ours: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flows.connection._CONNECT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as service:
        threading.Thread(target=answer, args=(service, word), daemon=True).start()
        number = service.getsockname()[1]
        for line in refused(f"tcp://127.0.0.1:{number}", {}):
            assert line.endswith(
                f"no scheduler answers; start it there: python -m flows.scheduler tcp://127.0.0.1:{number}"
            )
        refused(f"tls://127.0.0.1:{number}", ours)


def answer(service: socket.socket, word: bytes) -> None:
    """Send `word` to each connection and read nothing."""
    heard = []
    with suppress(OSError):
        while True:
            heard.append(service.accept()[0])
            heard[-1].sendall(word)


def test_a_worker_of_a_stranger_ends_in_one_line(encrypted: str, folders: tuple[Path, Path], clone: Path) -> None:
    told = certificates.environment(certificates.settings(folders[1], folders[1]))
    done = subprocess.run(
        [sys.executable, "-m", "flows.worker", encrypted],
        cwd=clone,
        env={**os.environ, **told, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"error: {encrypted}: its certificate is refused")
    assert "Traceback" not in done.stderr


def test_a_port_in_use_is_reported(plain: str) -> None:
    with listening.started("flows.scheduler", plain) as other:
        assert other.process.wait(300) == 1
        assert other.errors().splitlines()[-1].startswith(f"error: {plain}: Address already in use; give")
        assert "Traceback" not in other.errors()

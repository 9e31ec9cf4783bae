"""The run-time directory: ours alone or an error; its sockets: a living one is never taken, a dead one never in the way.

Over 300 lines: one list of what a directory or a socket can be.
"""

import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from drain._runtime_dir import MOST_PATH, held_socket_path, new_socket_path, runtime_dir
from drain.errors import ConfigurationError

LONG_AGO = 1_000_000_000


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory whose sockets have short names, as in production: pytest's own are long."""
    return runtime_dir({"DRAIN_RUNTIME_DIR": str(tmp_path / "d")})


@pytest.fixture
def pid_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in every container."""
    monkeypatch.setattr(os, "getpid", lambda: 1)


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    yield made
    for each in made:
        each.close()


def bound(path: Path, sockets: list[socket.socket], *, listening: bool) -> socket.socket:
    made = socket.socket(socket.AF_UNIX)
    sockets.append(made)
    made.bind(os.fspath(path))
    if listening:
        made.listen()
    return made


def dead(path: Path, *, old: bool = True) -> Path:
    """A socket file whose process was killed."""
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(os.fspath(path))
    if old:
        os.utime(path, (LONG_AGO, LONG_AGO))
    return path


def refusal(environ: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        runtime_dir(environ)
    assert "DRAIN_RUNTIME_DIR" in str(caught.value), "the remedy is named"
    return str(caught.value)


# -- the directory ---------------------------------------------------------------------------------------------------


def test_the_variable_comes_first_then_the_session_then_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    everything = {"DRAIN_RUNTIME_DIR": str(tmp_path / "own"), "XDG_RUNTIME_DIR": str(tmp_path / "xdg")}
    assert runtime_dir(everything) == tmp_path / "own"
    assert runtime_dir({"XDG_RUNTIME_DIR": str(tmp_path / "xdg")}) == tmp_path / "xdg" / "drain"
    assert runtime_dir({}) == tmp_path / "tmp" / f"drain-{os.geteuid()}"
    assert runtime_dir({"DRAIN_RUNTIME_DIR": "", "XDG_RUNTIME_DIR": ""}) == tmp_path / "tmp" / f"drain-{os.geteuid()}"


def test_it_is_made_for_us_alone_and_found_again(tmp_path: Path) -> None:
    environ = {"DRAIN_RUNTIME_DIR": str(tmp_path / "a" / "b")}
    path = runtime_dir(environ)
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert runtime_dir(environ) == path


def test_a_relative_path_means_the_same_after_a_chdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert runtime_dir({"DRAIN_RUNTIME_DIR": "d"}) == tmp_path / "d"


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o750, 0o755])
def test_a_directory_that_lets_others_in_is_refused_and_left_as_it_is(tmp_path: Path, mode: int) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(mode)
    assert f"mode {mode:04o} lets others in" in refusal({"DRAIN_RUNTIME_DIR": str(tmp_path / "d")})
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == mode


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o2777, 0o2770])
def test_a_volume_is_a_place_for_ours(tmp_path: Path, mode: int) -> None:
    """As kubelet mounts an emptyDir: root's, mode 0777, with an fsGroup setgid. It is left as it is, and ours is in it."""
    volume = tmp_path / "d"
    volume.mkdir()
    if os.geteuid() == 0:  # else it stays ours, as it is for a container that runs as root
        os.chown(volume, 65532, 65532)
    volume.chmod(mode)
    found = runtime_dir({"DRAIN_RUNTIME_DIR": str(volume)})
    assert found == volume / f"drain-{os.geteuid()}"
    assert (found.stat().st_mode & 0o777, found.stat().st_uid) == (0o700, os.geteuid())
    assert runtime_dir({"DRAIN_RUNTIME_DIR": str(volume)}) == found, "a restarted container finds it again"
    assert stat.S_IMODE(volume.stat().st_mode) == mode


def test_what_others_put_into_a_volume_is_not_ours(tmp_path: Path) -> None:
    """Whoever may write there may have been quicker."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o777)
    (tmp_path / "theirs").mkdir(mode=0o700)
    (tmp_path / "d" / f"drain-{os.geteuid()}").symlink_to(tmp_path / "theirs")
    assert "is a link or a file" in refusal({"DRAIN_RUNTIME_DIR": str(tmp_path / "d")})


def test_a_link_to_a_volume_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "d")
    assert "is a link or a file" in refusal({"DRAIN_RUNTIME_DIR": str(tmp_path / "link")})


def test_no_place_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only root file system with no volume: the error says what to mount."""
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/proc/none"])
    assert "Mount an emptyDir at /tmp" in refusal({})


def test_a_directory_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    owner = (tmp_path / "d").stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    assert f"belongs to user {owner}, not to us ({owner + 1})" in refusal({"DRAIN_RUNTIME_DIR": str(tmp_path / "d")})


def test_a_link_is_refused_though_it_leads_to_a_good_directory(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "d")
    assert "is a link or a file" in refusal({"DRAIN_RUNTIME_DIR": str(tmp_path / "link")})


def test_a_dangling_link_is_refused_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "d")
    refusal({"DRAIN_RUNTIME_DIR": str(tmp_path / "link")})
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_in_its_place_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("theirs")
    refusal({"DRAIN_RUNTIME_DIR": str(tmp_path / place)})
    assert (tmp_path / "file").read_text() == "theirs"


def test_a_place_that_cannot_be_written_is_refused() -> None:
    assert "/proc/drain" in refusal({"DRAIN_RUNTIME_DIR": "/proc/drain"})


# -- names -----------------------------------------------------------------------------------------------------------


def test_the_name_says_what_and_whose(home: Path) -> None:
    assert new_socket_path("xds", home) == home / f"xds-{os.getpid()}.sock"
    assert not (home / f"xds-{os.getpid()}.sock").exists(), "choosing does not make it"


@pytest.mark.parametrize("excess", [0, 1])
def test_a_path_too_long_for_a_socket_is_refused_by_name(excess: int, pid_1: None) -> None:
    directory = Path("/" + "d" * (MOST_PATH - len("/" + "/xds-1.sock") + excess))
    if not excess:
        assert len(os.fsencode(new_socket_path("xds", directory))) == MOST_PATH
        return
    with pytest.raises(ConfigurationError, match=f"longer than {MOST_PATH} characters.*DRAIN_RUNTIME_DIR"):
        new_socket_path("xds", directory)


def test_a_full_directory_is_an_error(home: Path, pid_1: None) -> None:
    for suffix in ("", *(f"-{number}" for number in range(1, 100))):
        (home / f"xds-1{suffix}.sock").write_text("planted")
    with pytest.raises(ConfigurationError, match="full of xds sockets"):
        new_socket_path("xds", home)


def test_a_living_socket_of_another_pid_1_is_not_stolen(home: Path, pid_1: None, sockets: list[socket.socket]) -> None:
    first = new_socket_path("xds", home)
    listener = bound(first, sockets, listening=True)
    os.utime(first, (LONG_AGO, LONG_AGO))
    assert new_socket_path("xds", home) == home / "xds-1-1.sock"
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(os.fspath(first))
    assert listener.accept(), "it is still the first one's"


def test_a_living_socket_whose_queue_is_full_is_not_stolen(
    home: Path, pid_1: None, sockets: list[socket.socket]
) -> None:
    listener = bound(home / "xds-1.sock", sockets, listening=False)
    listener.listen(0)
    os.utime(home / "xds-1.sock", (LONG_AGO, LONG_AGO))
    for _ in range(3):
        caller = socket.socket(socket.AF_UNIX)
        sockets.append(caller)
        caller.setblocking(False)
        caller.connect_ex(os.fspath(home / "xds-1.sock"))
    assert new_socket_path("xds", home) == home / "xds-1-1.sock"


def test_a_socket_that_is_about_to_listen_is_not_stolen(home: Path, pid_1: None, sockets: list[socket.socket]) -> None:
    bound(home / "xds-1.sock", sockets, listening=False)
    assert new_socket_path("xds", home) == home / "xds-1-1.sock"


def test_a_dead_socket_of_our_name_is_replaced(home: Path, pid_1: None) -> None:
    path = dead(home / "xds-1.sock")
    assert new_socket_path("xds", home) == path
    assert not path.exists()


def test_dead_sockets_of_others_are_swept_and_nothing_else(home: Path, sockets: list[socket.socket]) -> None:
    gone = dead(home / "xds-7.sock")
    kept = [dead(home / "admin-7.sock"), dead(home / "xds-8.sock", old=False), home / "xds-9.sock"]
    bound(kept[-1], sockets, listening=True)
    os.utime(kept[-1], (LONG_AGO, LONG_AGO))
    new_socket_path("xds", home)
    assert not gone.exists()
    assert all(path.exists() for path in kept)


def test_a_planted_file_is_left_alone(home: Path, pid_1: None) -> None:
    (home / "xds-1.sock").write_text("planted")
    os.utime(home / "xds-1.sock", (LONG_AGO, LONG_AGO))
    assert new_socket_path("xds", home) == home / "xds-1-1.sock"
    assert (home / "xds-1.sock").read_text() == "planted"


@pytest.mark.parametrize("target", ["file", "dead.sock", "nothing"])
def test_a_planted_link_is_left_alone_and_not_followed(home: Path, tmp_path: Path, pid_1: None, target: str) -> None:
    (tmp_path / "file").write_text("precious")
    dead(tmp_path / "dead.sock")
    (home / "xds-1.sock").symlink_to(tmp_path / target)
    os.utime(home / "xds-1.sock", (LONG_AGO, LONG_AGO), follow_symlinks=False)
    with held_socket_path("xds", home) as path:
        assert path == home / "xds-1-1.sock"
    assert (home / "xds-1.sock").is_symlink()
    assert (tmp_path / "file").read_text() == "precious"
    assert (tmp_path / "dead.sock").exists()
    assert not (tmp_path / "nothing").exists()


# -- holding a name --------------------------------------------------------------------------------------------------


def test_a_held_name_is_not_given_to_anybody_else(home: Path, pid_1: None) -> None:
    with held_socket_path("xds", home) as first, held_socket_path("xds", home) as second:
        os.utime(first, (LONG_AGO, LONG_AGO))
        assert new_socket_path("xds", home) == home / "xds-1-2.sock"
        assert (first, second) == (home / "xds-1.sock", home / "xds-1-1.sock")


def test_who_replaces_the_holder_keeps_the_name(home: Path, pid_1: None, sockets: list[socket.socket]) -> None:
    """As grpc does: it removes the socket that it finds, and binds its own."""
    with held_socket_path("xds", home) as path:
        path.unlink()
        listener = bound(path, sockets, listening=True)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.connect(os.fspath(path))
    assert listener.accept()


def test_a_name_taken_between_choosing_and_binding_is_not_shared(
    home: Path, pid_1: None, sockets: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose_late(kind: str, directory: Path) -> Path:
        path = new_socket_path(kind, directory)
        if not sockets:
            bound(path, sockets, listening=True)
        return path

    monkeypatch.setattr("drain._runtime_dir.new_socket_path", choose_late)
    with held_socket_path("xds", home) as path:
        assert path == home / "xds-1-1.sock"


def test_of_many_at_once_each_has_its_own(home: Path, pid_1: None) -> None:
    start, over, paths = threading.Barrier(16), threading.Barrier(16), list[Path]()

    def contend() -> None:
        start.wait()
        with held_socket_path("xds", home) as path:
            paths.append(path)
            over.wait()

    threads = [threading.Thread(target=contend) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 16


def test_a_directory_that_is_gone_is_an_error_with_the_remedy(home: Path) -> None:
    home.rmdir()
    with pytest.raises(ConfigurationError, match="DRAIN_RUNTIME_DIR"), held_socket_path("xds", home):
        pass

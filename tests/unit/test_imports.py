"""`import drain` is cheap and complete: nothing heavy comes with it, and every public name is there."""

import json
import subprocess
import sys

import pytest

HEAVY = ("grpc", "kubernetes", "structlog", "rich", "click", "google.protobuf", "asyncio", "grpc_health")


def python(program: str) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout


def loaded_after(program: str) -> set[str]:
    """Modules in a fresh interpreter after running the program."""
    return set(json.loads(python(f"import sys, json\n{program}\nprint(json.dumps(sorted(sys.modules)))")))


def test_import_drain_loads_nothing_heavy() -> None:
    """The environment guard must come before grpc, and the preStop hook must be quick."""
    loaded = loaded_after("import drain")
    assert not loaded & set(HEAVY)
    assert {name for name in loaded if name.startswith("drain")} == {"drain", "drain._guard"}


@pytest.mark.parametrize("name", ["DrainPolicy", "ServerKeepalive", "State", "DrainReport", "DrainError"])
def test_settings_and_errors_do_not_load_grpc(name: str) -> None:
    """Configuration can be checked where there is no grpc."""
    assert not loaded_after(f"import drain; drain.{name}") & {"grpc", "structlog", "kubernetes", "rich", "click"}


def test_servers_do_not_load_what_only_others_need() -> None:
    """kubernetes costs half a second; the CLI's libraries are not even installed everywhere.

    rich is not among them: structlog itself imports it, where it is installed.
    """
    loaded = loaded_after("import drain; drain.server, drain.aio")
    assert not {name.partition(".")[0] for name in loaded} & {"kubernetes", "click", "envoy", "xds"}


def test_every_public_name_resolves() -> None:
    """`__all__`, `dir()` and attribute access agree, with and without the import of a submodule."""
    program = "import json, drain; print(json.dumps({name: repr(getattr(drain, name)) for name in drain.__all__}))"
    names = json.loads(python(program))
    assert {"server", "Server", "aio", "run", "DrainPolicy", "ServerKeepalive", "State", "DrainReport"} <= names.keys()
    assert json.loads(python("import json, drain; print(json.dumps([sorted(drain.__all__), dir(drain)]))")) == [
        sorted(names),
        sorted(names),
    ]
    assert python("from drain import *; print(server.__module__)") == "drain._server\n"


def test_aio_has_the_same_names() -> None:
    """The twins: Server, run, server, ..."""
    program = "import drain.aio; print(*(getattr(drain.aio, name).__name__ for name in drain.aio.__all__))"
    assert python(program).split() == [
        "Server",
        "connection_age_left",
        "draining",
        "insecure_channel",
        "run",
        "secure_channel",
        "server",
    ]


def test_unknown_names_are_told() -> None:
    """As any module does."""
    program = "import drain\ntry: drain.serve\nexcept AttributeError as error: print(error)"
    assert python(program) == "module 'drain' has no attribute 'serve'\n"

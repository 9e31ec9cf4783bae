"""One container: what it runs, what it is told, and whether it serves gRPC, or is made with drain."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from drain._doctor import command, words
from drain._doctor.fields import Object, Path, get, mapping, mappings, text, texts, whole

if TYPE_CHECKING:
    from drain._doctor.model import Workload


@dataclass(frozen=True)
class Container:
    """One container of a workload."""

    workload: "Workload"
    path: Path
    body: Object

    @property
    def name(self) -> str:
        """As the pod calls it."""
        return text(self.body, "name")

    @property
    def argv(self) -> list[str]:
        """Command and arguments as far as the manifest has them: without `command` the image's own comes first."""
        return [*texts(self.body, "command"), *texts(self.body, "args")]

    @functools.cached_property
    def environ(self) -> dict[str, str]:
        """Variables whose values are written out."""
        return {text(each, "name"): text(each, "value") for _, each in self.variables if "value" in each}

    @property
    def variables(self) -> Iterable[tuple[int, Object]]:
        """All variables."""
        return mappings(self.body, "env")

    def variable_path(self, name: str) -> Path:
        """Where a variable's value is; where variables are, if it is not there."""
        for index, each in self.variables:
            if text(each, "name") == name:
                return (*self.path, "env", index, "value")
        return (*self.path, "env")

    @functools.cached_property
    def prestop(self) -> command.PreStop | None:
        """Its preStop hook."""
        return command.prestop(get(self.body, "lifecycle", "preStop"))

    @property
    def prestop_path(self) -> Path:
        """Where the hook is."""
        return (*self.path, "lifecycle", "preStop")

    @functools.cached_property
    def drains(self) -> bool:
        """Whether something says that it is made with drain: one of drain's variables, or its hook (not for other servers)."""
        named = {text(each, "name") for _, each in self.variables}
        return bool(named & words.SERVER_VARIABLES) or (self.prestop is not None and self.prestop.asks_drain)

    @functools.cached_property
    def serves_grpc(self) -> bool:
        """Whether something says so: a port's name or number, a service, a probe, drain itself."""
        if self.drains or any("grpc" in mapping(self.body, probe) for probe in words.PROBES):
            return True
        if any("grpc_health_probe" in " ".join(texts(self.body, probe, "exec", "command")) for probe in words.PROBES):
            return True
        return any(
            words.is_grpc(text(each, "name"), whole(each, "containerPort"), "") for _, each in self.ports
        ) or any(
            self.has_port(get(port, "targetPort") or get(port, "port"))
            for service in self.workload.services
            for _, port in mappings(service.body, "spec", "ports")
            if words.is_grpc(text(port, "name"), whole(port, "port"), text(port, "appProtocol"))
        )

    @property
    def ports(self) -> Iterable[tuple[int, Object]]:
        """Those it declares."""
        return mappings(self.body, "ports")

    def has_port(self, wanted: Any) -> bool:
        """By name or number. A number need not be declared: a lone container has all of them."""
        if isinstance(wanted, int):
            numbers = [whole(each, "containerPort") for _, each in self.ports]
            return wanted in numbers or (not numbers and len(self.workload.containers) == 1)
        return any(text(each, "name") == wanted for _, each in self.ports)

    @property
    def first_port(self) -> int:
        """The number to write where one is wanted."""
        return next((number for _, each in self.ports if (number := whole(each, "containerPort"))), words.PORT)

    @functools.cached_property
    def targets(self) -> tuple[str, ...]:
        """Targets of drain's own channels that its arguments and variables name."""
        return tuple(found for each in (*self.argv, *self.environ.values()) for found in words.TARGET.findall(each))

    @property
    def follows(self) -> bool:
        """Whether it has a drain channel's target."""
        return bool(self.targets)

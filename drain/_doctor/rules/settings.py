"""drain's own variables, as a container sets them."""

import difflib
from collections.abc import Iterator

from drain._doctor.container import Container
from drain._doctor.fields import text
from drain._doctor.finding import Severity
from drain._doctor.model import Workload
from drain._doctor.rule import Trip, rule
from drain._doctor.rules._sources import A9, POD_TERMINATION
from drain._doctor.rules.budget import policy
from drain._doctor.words import CLIENT_PREFIX, SERVICE_LINK, VARIABLES
from drain._settings import Settings
from drain._settings import text as seconds_text
from drain.config import ClientPolicy, DrainPolicy, ServerKeepalive
from drain.errors import ConfigurationError


def refused(container: Container) -> Iterator[tuple[str, ConfigurationError]]:
    """What the settings' classes refuse: the variable that is at fault, and their own words."""
    environ = container.environ
    classes: list[type[Settings]] = [ServerKeepalive, DrainPolicy, ClientPolicy]
    for each in classes:
        try:
            each().overridden_by(environ)
        except ConfigurationError as error:
            mine = [setting.variable for setting in each.settings() if setting.variable in environ]
            named = [variable for variable in mine if variable in str(error).partition(" (environment)")[0]]
            nested = [variable for variable in environ if variable.startswith("DRAIN_") and variable in str(error)]
            yield next(iter([*named, *nested, *mine]), ""), error


@rule(
    "bad-setting",
    Workload,
    Severity.ERROR,
    why="drain refuses a value that cannot hold when the server, or the channel, is made: the container does not "
    "start.",
    source=POD_TERMINATION,
)
def bad_setting(workload: Workload) -> Iterator[Trip]:
    """A variable of drain's whose value is refused, or values that contradict each other."""
    for each in workload.containers:
        for variable, error in refused(each):
            yield Trip(f'container "{each.name}": {error}', each.variable_path(variable))


@rule(
    "unknown-setting",
    Workload,
    Severity.WARNING,
    why="A variable that is no setting's is passed over, so that the setting which was meant stays as it is.",
    source=POD_TERMINATION,
)
def unknown_setting(workload: Workload) -> Iterator[Trip]:
    """A variable that begins like drain's own and is none."""
    for each in workload.containers:
        if not (each.drains or any(name.startswith(CLIENT_PREFIX) for name in each.environ)):
            continue
        for index, variable in each.variables:
            name = text(variable, "name")
            if not name.startswith("DRAIN_") or name in VARIABLES or SERVICE_LINK.fullmatch(name):
                continue
            close = difflib.get_close_matches(name, sorted(VARIABLES), 1)
            what = f'container "{each.name}" sets {name}, which drain does not know{f": {close[0]}?" if close else "."}'
            yield Trip(what, (*each.path, "env", index, "name"), f"name: {close[0]}" if close else "")


@rule(
    "age-grace-cuts",
    Workload,
    Severity.WARNING,
    why="A connection that has reached max_connection_age is closed after max_connection_age_grace, and the calls on "
    "it fail with UNAVAILABLE: every few minutes, with no pod leaving.",
    source=A9,
)
def age_grace_cuts(workload: Workload) -> Iterator[Trip]:
    """Calls get less time when a connection is old than when the server leaves."""
    for each in workload.servers:
        made = policy(each) if each.drains else None
        if made is None:
            continue
        try:
            keepalive = ServerKeepalive().overridden_by(each.environ)
        except ConfigurationError:
            continue
        grace = keepalive.max_connection_age_grace
        if grace is not None and grace < made.finishing_time:
            what = (
                f'container "{each.name}" gives calls {seconds_text(grace)} when their connection is old '
                f"(max_connection_age_grace), and {seconds_text(made.finishing_time)} when the server leaves."
            )
            variable = "DRAIN_MAX_CONNECTION_AGE_GRACE"
            yield Trip(what, each.variable_path(variable), f'value: "{made.finishing_time:g}"  # or none: no limit')

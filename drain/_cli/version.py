"""`drain --version`: what is installed, and what it can do. Needs neither click nor rich, and starts no probe."""

import platform

from drain._demo.about import version


def text() -> str:
    """A few lines; the first is for scripts: "drain 0.1.0"."""
    import grpc  # noqa: PLC0415 - after drain's guard, which the import above has run

    from drain._grpc.capability import KNOWN, Needs  # noqa: PLC0415
    from drain._xds.ads import MOST_STREAMS  # noqa: PLC0415

    lines = [f"drain {version('grpc-drain')}", f"grpcio {grpc.__version__}, Python {platform.python_version()}"]
    for flavour, known in KNOWN.items():
        needs = known.get(grpc.__version__)
        can = {
            None: "not known: a server that starts finds out by a probe",
            Needs.NEWER: "no, use a newer grpcio",
            Needs.CURE: "yes, where drain is imported before grpc",
            Needs.NOTHING: "yes",
        }[needs]
        lines.append(f"lossless GOAWAY, {flavour}: {can}")
    return "\n".join([*lines, f"at most {MOST_STREAMS} servers and channels of drain's in a process"])

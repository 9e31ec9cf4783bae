"""CoreDNS, built with the few plugins that a node of tests needs."""

from pathlib import Path

from tests._parts import golang
from tests._parts.making import Say

VERSION = "1.14.7"
PLUGINS = ("bind", "errors", "cache", "kubernetes")

_MAIN = """package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
{imports}
)

func init() {{ dnsserver.Directives = []string{{{names}}} }}
func main() {{ coremain.Run() }}
"""


def ready(say: Say) -> Path:
    """Raises PartMissingError."""
    main = _MAIN.format(
        imports="\n".join(f'\t_ "github.com/coredns/coredns/plugin/{each}"' for each in PLUGINS),
        names=", ".join(f'"{each}"' for each in PLUGINS),
    )
    module = f"module dnstool\n\ngo 1.25.0\n\nrequire github.com/coredns/coredns v{VERSION}\n"
    return golang.program("coredns", {"go.mod": module, "main.go": main}, ".", say, version=VERSION)

"""The process that holds a pod's namespaces, as an image needs one: it waits, and ends when it is told to."""

from pathlib import Path

from tests._parts import golang
from tests._parts.making import Say

_MAIN = """package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGINT, syscall.SIGTERM)
	<-told
}
"""


def ready(say: Say) -> Path:
    """Raises PartMissingError."""
    return golang.program("pause", {"go.mod": "module pause\n\ngo 1.24\n", "main.go": _MAIN}, ".", say, version="1")

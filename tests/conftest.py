"""For all tests."""

import signal

# A shell without job control starts what it puts in the background with SIGINT ignored, and children inherit that: the tests
# of Ctrl-C would then test nothing. A handler of our own is reset to the default where a child is executed.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# nohup has SIGHUP ignored, and a parent of workers respects that: the tests of a replacement would wait in
# vain. As above, a handler; one that does nothing, so that the run itself goes on when its terminal has gone.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

"""For all tests."""

import signal

# A shell without job control starts what it puts in the background with SIGINT ignored, and children inherit that: the tests
# of Ctrl-C would then test nothing. A handler of our own is reset to the default where a child is executed.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# nohup has SIGHUP ignored, and a parent of workers respects that: the tests of a replacement would wait for none. As above, a
# handler, which a child that is executed does not inherit; whoever hangs up still ends only what he started.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

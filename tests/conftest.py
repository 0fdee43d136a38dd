"""What holds for all tests."""

import signal

# A shell has what it runs in the background ignore an interrupt, and so would whatever the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

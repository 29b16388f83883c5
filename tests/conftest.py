"""For all tests."""

import signal

# A shell starts what it runs in the background with Ctrl-C ignored, and programs that tests start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

import os
import subprocess
import sys

PAGES = """
import resource, torch
from orchestrator.training.process import prepare_process
prepare_process(2)
assert torch.get_num_threads() == 2 and torch.get_num_interop_threads() == 1
prepare_process(1)
assert torch.get_num_threads() == 1
assert not torch.backends.cudnn.allow_tf32
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.zeros(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults())
"""


def test_a_prepared_process_keeps_its_memory_and_threads() -> None:
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, "-c", PAGES], capture_output=True, text=True, check=True, env=environment, timeout=120
    )
    pages_of_a_tensor = 4 * 2**24 // os.sysconf("SC_PAGE_SIZE")
    assert int(done.stdout) < pages_of_a_tensor / 4 or not sys.platform.startswith("linux")

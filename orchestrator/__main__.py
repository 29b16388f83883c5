"""The console script and `python -m orchestrator`."""

import sys


def main() -> None:
    """Run a command; an interruption while it still loads ends quietly."""
    try:
        from orchestrator.cli import main as command_line
    except KeyboardInterrupt:
        sys.exit(130)
    command_line()


if __name__ == "__main__":
    main()

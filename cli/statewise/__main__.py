"""Runs the command by `python -m statewise`. No program imports this file, which lies beside the packages."""

from statewise.cli import main

if __name__ == "__main__":
    main()

"""`python -m carlib`: the command line, where its program is not on the PATH."""

from carlib.cli import main

if __name__ == "__main__":
    main()

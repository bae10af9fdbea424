"""`python -m fastserve` is `fastserve`."""

from fastserve.cli import main

if __name__ == "__main__":
    main()

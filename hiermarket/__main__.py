"""``python -m hiermarket`` is ``hiermarket``."""

from hiermarket.cli import main

if __name__ == "__main__":
    main()

"""``python -m engram_cli``: the same as the script ``engram``."""

from engram_cli.main import main

if __name__ == "__main__":
    main()

"""The main job, as a file to run from a clone: the same as `jaxdigits train`."""

from jaxdigits.console import main

if __name__ == "__main__":
    main("train")

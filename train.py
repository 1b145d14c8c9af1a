"""The main job, as a file to run from a clone: the same as `jaxdigits train`."""

import sys

from jaxdigits.__main__ import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])

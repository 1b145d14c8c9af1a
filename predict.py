"""Reading pictures, as a file to run from a clone: the same as `jaxdigits predict`."""

import sys

from jaxdigits.__main__ import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])

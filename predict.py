"""Reading pictures, as a file to run from a clone: the same as `jaxdigits predict`."""

from jaxdigits.console import main

if __name__ == "__main__":
    main("predict")

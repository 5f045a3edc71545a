"""`python -m dpbeam`: the command where no `dpbeam` is on the path."""

from dpbeam.pipelines.cli.main import main

if __name__ == "__main__":
    main()

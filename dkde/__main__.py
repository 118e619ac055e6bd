"""``python -m dkde``: the command ``dkde``, where its script is not on the path."""

from dkde_cli.main import main

if __name__ == "__main__":
    main()

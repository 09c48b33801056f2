"""``python -m skood.serving FOLDER`` serves a monitor that was saved."""

from ._command import main

if __name__ == "__main__":
    main()

"""lossgrid from a checkout: `python launch.py --grid losses`. The installed command is `lossgrid`."""

from launcher.cli import main

if __name__ == "__main__":
    main()

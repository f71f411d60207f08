"""The command ``grape-verified``; its dependencies come with the extra ``verify``."""


def main() -> None:
    """Run the command line, or name the missing package in one line."""
    try:
        from grape_verified.cli import app
    except ModuleNotFoundError as missing:
        raise SystemExit(
            f"grape-verified: the package {missing.name} is not installed: run pip install 'grape-verified[verify]'"
        ) from None
    app()


if __name__ == "__main__":
    main()

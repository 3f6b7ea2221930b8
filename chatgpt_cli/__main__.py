"""`python -m chatgpt_cli` is the `chatgpt` command."""

from chatgpt_cli.cli.main import run

if __name__ == "__main__":
    run()

"""``python -m llm.sandbox``: what this machine offers to keep programs in."""

from llm.sandbox.isolation import probe, table

if __name__ == "__main__":
    print(table(probe()))

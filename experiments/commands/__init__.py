"""The subcommands of `ra3`: each a frozen dataclass with ``run(registry) -> exit code``."""

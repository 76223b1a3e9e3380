"""The evaluation model: how its cases are made, how it is trained, and how well it does."""

"""The engine behind its slots: the one door to its wire, and the supervisor that makes what runs match the rows."""

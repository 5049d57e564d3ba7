"""The command line: `captum-apex fit`, `explain` and `events`."""

"""One study per file: `study(configuration) -> Study`. The only place where launcher and trainables meet."""

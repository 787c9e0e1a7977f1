"""One model per file: `build` (and what must be known of it before it is built)."""

//! Logging: levels, text or JSON lines, console and file.

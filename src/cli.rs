//! The command line: flags, subcommands, completion, exit codes.

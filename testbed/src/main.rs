//! The program `testbed`.

fn main() {}

//! The program `anchore-k8s-inventory`.

fn main() {}

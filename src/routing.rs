//! Namespaces to accounts. Pure.

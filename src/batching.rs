//! A report becomes several within limits. Pure.

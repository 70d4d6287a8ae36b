//! The state against a model, and over real sockets.

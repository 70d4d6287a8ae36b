//! The state against a model, the parts by themselves, and all of it against an API server.

mod frames;
mod history;
mod objects;
mod picture;
mod source;
mod store;

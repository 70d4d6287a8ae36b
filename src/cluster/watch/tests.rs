//! The state against a model, the parts by themselves, and all of it against an API server.

mod following;
mod frames;
mod history;
mod objects;
mod picture;
mod rights;
mod scene;
mod source;
mod store;

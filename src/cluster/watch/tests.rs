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

/// The carried pods that are not routed yet, with their namespaces.
fn unrouted(picture: &super::Picture) -> impl Iterator<Item = (u64, crate::cluster::strings::Symbol)> {
    picture.carried().filter(|(_, _, owed_to)| owed_to.is_none()).map(|(id, namespace, _)| (id, namespace))
}

//! Uids, container ids and digests that follow from names.

use uuid::Uuid;

/// The uid of an object: of a pod `uid("pods", "shop", "web-0")`, of a node `uid("nodes", "", "n1")`.
pub fn uid(resource: &str, namespace: &str, name: &str) -> String {
    hash(&format!("{resource}/{namespace}/{name}")).to_string()
}

/// The id of a container, as containerd gives it.
pub fn container_id(namespace: &str, pod: &str, container: &str) -> String {
    format!("containerd://{}", hex64(&format!("{namespace}/{pod}/{container}")))
}

/// The digest of an image: its own when it is pinned, else one that follows from its name.
pub fn digest(image: &str) -> String {
    match image.split_once('@') {
        Some((_, digest)) => digest.to_owned(),
        None => format!("sha256:{}", hex64(image)),
    }
}

/// The `imageID` that containerd gives for an image: its full repository, and its digest.
pub fn image_id(image: &str) -> String {
    let name = image.split_once('@').map_or(image, |(name, _)| name);
    // A colon before the last slash belongs to a registry's port.
    let tag = name.rfind(':').filter(|at| name.rfind('/').is_none_or(|slash| *at > slash));
    let repository = &name[..tag.unwrap_or(name.len())];
    let full = match repository.split_once('/') {
        None => format!("docker.io/library/{repository}"),
        Some((first, _)) if first.contains(['.', ':']) || first == "localhost" => repository.to_owned(),
        Some(_) => format!("docker.io/{repository}"),
    };
    format!("{full}@{}", digest(image))
}

/// 64 hexadecimal digits that follow from a text.
pub fn hex64(text: &str) -> String {
    format!("{}{}", hash(text).simple(), hash(&format!("{text} again")).simple())
}

fn hash(text: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, text.as_bytes())
}

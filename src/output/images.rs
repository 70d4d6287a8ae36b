//! The list of images, one a line, as other programs take them: `name:tag@digest`, `name@digest` where the tag would be
//! made up, `name:tag` where the digest is not known.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::pods;
use crate::inventory::image::Image;
use crate::inventory::report::Report;

/// Writes each image that the pods of `reports` use, in containers or volumes, once and sorted.
pub fn write_images(reports: &[Report], out: &mut impl Write) -> io::Result<()> {
    let mut images = BTreeSet::new();
    for (inventory, _, pod) in pods(reports) {
        images.extend(inventory.containers(&pod).map(|container| container.image.as_pulled()));
        images.extend(inventory.image_volumes(&pod).map(Image::as_pulled));
    }
    let mut lines: Vec<String> = images.into_iter().map(line_of).collect();
    // In the order of the whole lines, which is not that of their parts.
    lines.sort_unstable();
    lines.iter().try_for_each(|line| writeln!(out, "{line}"))
}

fn line_of((image, digest): (&str, &str)) -> String {
    if digest.is_empty() { image.to_owned() } else { format!("{image}@{digest}") }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::inventory::fixtures::{HEX, cluster, container, pod};

    /// One report per namespace list, all of one cluster.
    fn reports() -> Vec<Report> {
        let known = format!("docker.io/library/nginx@sha256:{HEX}");
        let inventory = cluster()
            .namespace("a")
            .namespace("b")
            .pod(
                pod("a", "web")
                    .container(container("web", "nginx:1.25").image_id(&known))
                    .container(container("same", "nginx:1.25").image_id(&known))
                    .container(container("local", "built-here").image_id("sha256:local")),
            )
            .pod(pod("b", "py").container(container("py", &format!("python@sha256:{HEX}"))).image_volume("data:1"))
            .pod(pod("b", "odd").image_volume("No Reference"))
            .inventory();
        [vec![0, 1], vec![1]].map(|namespaces| Report::new(Arc::clone(&inventory), namespaces, Vec::new())).into()
    }

    #[test]
    fn each_image_is_one_line_that_can_be_pulled() {
        let mut out = Vec::new();
        write_images(&reports(), &mut out).expect("written");
        let expected = format!("built-here:latest\ndata:1\nnginx:1.25@sha256:{HEX}\npython@sha256:{HEX}\n");
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
    }

    #[test]
    fn nothing_to_report_is_no_line() {
        let mut out = Vec::new();
        write_images(&[], &mut out).expect("written");
        assert_eq!(out, b"");
    }
}

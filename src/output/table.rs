//! The table of images: where each is used, and how often.

use std::collections::BTreeMap;
use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::pods;
use crate::inventory::report::Report;

/// How many hexadecimal digits of a digest are shown: as many as container tools do.
const SHORT_DIGEST: usize = 12;

/// How often an image is used.
#[derive(Debug, Default)]
struct Uses {
    containers: usize,
    pods: Distinct,
    namespaces: Distinct,
}

/// Counts distinct numbers that arrive in ascending order.
#[derive(Debug, Default)]
struct Distinct {
    count: usize,
    last: Option<u32>,
}

/// Writes a row for each image that the pods of `reports` use, in containers or volumes.
pub fn write_table(reports: &[Report], out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["IMAGE", "DIGEST", "CONTAINERS", "PODS", "NAMESPACES"]);
    for ((image, digest), uses) in uses_by_image(reports) {
        let counts = [uses.containers, uses.pods.count, uses.namespaces.count].map(|count| count.to_string());
        let [containers, pods, namespaces] = counts;
        table.add_row([image.to_owned(), shortened(digest), containers, pods, namespaces]);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        column.set_cell_alignment(if index < 2 { CellAlignment::Left } else { CellAlignment::Right });
    }
    writeln!(out, "{}", table.trim_fmt())
}

fn uses_by_image(reports: &[Report]) -> BTreeMap<(&str, &str), Uses> {
    let mut by_image = BTreeMap::<_, Uses>::new();
    for (inventory, namespace, pod) in pods(reports) {
        let of_containers = inventory.containers(&pod).map(|container| (container.image, 1));
        let of_volumes = inventory.image_volumes(&pod).map(|image| (image, 0));
        for (image, containers) in of_containers.chain(of_volumes) {
            let uses = by_image.entry(image.as_pulled()).or_default();
            uses.containers += containers;
            uses.pods.add(pod.index);
            uses.namespaces.add(namespace);
        }
    }
    by_image
}

impl Distinct {
    fn add(&mut self, number: u32) {
        if self.last != Some(number) {
            self.count += 1;
            self.last = Some(number);
        }
    }
}

/// The algorithm and the first digits of a digest; a dash when it is not known.
fn shortened(digest: &str) -> String {
    match digest.split_once(':') {
        Some((algorithm, hex)) => format!("{algorithm}:{hex:.SHORT_DIGEST$}"),
        None => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::inventory::fixtures::{HEX, cluster, container, pod};

    /// One report with all namespaces, and one with the second again, as a second account may get it.
    fn reports() -> Vec<Report> {
        let known = format!("docker.io/library/nginx@sha256:{HEX}");
        let nginx = |name: &str| container(name, "nginx:1.25").image_id(&known);
        let inventory = cluster()
            .namespace("a")
            .namespace("b")
            .pod(pod("a", "web").container(nginx("web")).container(nginx("side")).image_volume("built-here:7"))
            .pod(pod("a", "web-2").container(nginx("web")))
            .pod(pod("b", "py").container(nginx("proxy")).container(container("py", &format!("python@sha256:{HEX}"))))
            .inventory();
        [vec![0, 1], vec![1]].map(|namespaces| Report::new(Arc::clone(&inventory), namespaces, Vec::new())).into()
    }

    #[test]
    fn each_image_is_a_row_with_its_uses() {
        let mut out = Vec::new();
        write_table(&reports(), &mut out).expect("written");
        let expected = "\
IMAGE         DIGEST               CONTAINERS  PODS  NAMESPACES
built-here:7  -                             0     1           1
nginx:1.25    sha256:76049887f07a           4     3           2
python        sha256:76049887f07a           1     1           1
";
        assert_eq!(String::from_utf8(out).expect("UTF-8"), expected);
    }
}

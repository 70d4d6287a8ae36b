//! What a person sees on standard output: reports, the table of images, the list of images. Together with
//! [`crate::cli`] the only writer of standard output, though everything here takes any writer.
//!
//! A reader that has seen enough (`| head`) is no error: writing ends there, quietly. Any other failure to write is the
//! caller's to report. Nothing is buffered here.

pub mod images;
pub mod json;
pub mod progress;
pub mod table;

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};

use crate::inventory::report::Report;
use crate::inventory::{Inventory, ReportedPod};

/// `--output`: what is printed instead of sending anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum OutputFormat {
    /// The reports, as they would be sent, one JSON document after another.
    Json,
    /// A table of the images in use, for people.
    Table,
    /// The images in use, one a line, for scripts.
    Images,
}

/// Writes `reports`, all of one inventory, in `format` to standard output. A closed pipe is no error.
pub fn print(format: OutputFormat, reports: &[Report]) -> io::Result<()> {
    let mut out = BufWriter::new(io::stdout().lock());
    write(format, reports, &mut out)?;
    until_closed(out.flush())
}

/// Writes `reports`, all of one inventory, in `format`. A closed pipe is no error.
pub fn write(format: OutputFormat, reports: &[Report], out: &mut impl Write) -> io::Result<()> {
    until_closed(match format {
        OutputFormat::Json => reports.iter().try_for_each(|report| json::write_report(report, out)),
        OutputFormat::Table => table::write_table(reports, out),
        OutputFormat::Images => images::write_images(reports, out),
    })
}

/// Takes a closed pipe for the end of what was wanted.
fn until_closed(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// The pods of all `reports`, with their inventory and namespace: each once, however many accounts get it, by namespace
/// and name. All reports are of one inventory.
fn pods(reports: &[Report]) -> impl Iterator<Item = (&Inventory, u32, ReportedPod<'_>)> {
    let namespaces: BTreeMap<u32, &Inventory> = reports
        .iter()
        .flat_map(|report| report.namespaces().iter().map(move |&namespace| (namespace, report.inventory())))
        .collect();
    namespaces
        .into_iter()
        .flat_map(|(namespace, inventory)| inventory.pods(namespace).map(move |pod| (inventory, namespace, pod)))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::inventory::fixtures::{cluster, container, pod};

    /// Fails every write in one way.
    struct Failing(io::ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[rstest]
    fn a_closed_pipe_ends_quietly_and_a_full_disk_does_not(
        #[values(OutputFormat::Json, OutputFormat::Table, OutputFormat::Images)] format: OutputFormat,
    ) {
        let inventory =
            cluster().namespace("shop").pod(pod("shop", "web").container(container("c", "nginx"))).inventory();
        let reports = [Report::new(inventory, vec![0], Vec::new())];
        assert!(write(format, &reports, &mut Failing(io::ErrorKind::BrokenPipe)).is_ok());
        let error = write(format, &reports, &mut Failing(io::ErrorKind::StorageFull)).expect_err("no space");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}

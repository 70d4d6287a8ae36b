//! What a person sees on standard output: reports, the table of images, the list of images. Together with
//! [`crate::cli`] the only writer of standard output, though everything here takes any writer.
//!
//! A reader that has seen enough (`| head`) is no error: writing ends there, quietly. Any other failure to write is the
//! caller's to report.

pub mod images;
pub mod json;
pub mod table;

use std::collections::BTreeMap;
use std::io;

use crate::inventory::report::Report;
use crate::inventory::{Inventory, ReportedPod};

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

/// Takes a closed pipe for the end of what was wanted.
fn until_closed(written: io::Result<()>) -> io::Result<()> {
    written.or_else(|error| if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) })
}

#[cfg(test)]
pub(crate) mod writers {
    //! Writers that fail.

    use std::io;

    /// Fails every write in one way.
    pub(crate) struct Failing(pub(crate) io::ErrorKind);

    impl io::Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
}

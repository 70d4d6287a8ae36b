//! Reports as a person reads them: JSON indented by two spaces, one document after the other. The same documents that
//! are sent, field by field, written as a stream.

use std::io::{self, BufWriter, Write};

use super::until_closed;
use crate::inventory::report::Report;

/// Bytes that are written at once.
const BUFFER: usize = 64 * 1024;

/// Writes one report and a line end.
pub fn write_report(report: &Report, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    let written = serde_json::to_writer_pretty(&mut out, report).map_err(io::Error::from);
    until_closed(written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::inventory::fixtures::{cluster, uid_of};
    use crate::output::writers::Failing;

    fn report() -> Report {
        let inventory = cluster().namespace("shop").inventory();
        Report::new(Arc::clone(&inventory), vec![0], Vec::new())
    }

    #[test]
    fn reports_are_indented_by_two_and_end_in_a_line_end() {
        let mut out = Vec::new();
        write_report(&report(), &mut out).expect("written");
        write_report(&report(), &mut out).expect("written");
        let one = format!(
            r#"{{
  "cluster_name": "edge-7",
  "containers": [],
  "namespaces": [
    {{
      "name": "shop",
      "uid": "{}"
    }}
  ],
  "timestamp": "2026-03-04T05:06:07Z"
}}
"#,
            uid_of("namespace/shop")
        );
        assert_eq!(String::from_utf8(out).expect("UTF-8"), one.repeat(2));
    }

    #[test]
    fn a_closed_pipe_ends_quietly_and_a_full_disk_does_not() {
        assert!(write_report(&report(), Failing(io::ErrorKind::BrokenPipe)).is_ok());
        let error = write_report(&report(), Failing(io::ErrorKind::StorageFull)).expect_err("no space");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}

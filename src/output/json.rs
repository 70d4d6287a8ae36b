//! Reports as a person reads them: JSON indented by two spaces, one document after the other. The same documents that
//! are sent, field by field, written as a stream.

use std::io::{self, Write};

use crate::inventory::report::Report;

/// Writes one report and a line end, in many small writes.
pub fn write_report(report: &Report, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, report)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pretty_assertions::assert_eq;

    use super::*;
    use crate::inventory::fixtures::{cluster, uid_of};

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
}

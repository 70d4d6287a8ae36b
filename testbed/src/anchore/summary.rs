//! What was accepted, added up per account: as a document, and as a table for people.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::AcceptedReport;

/// The sums of an account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Accepted reports.
    pub reports: usize,
    /// Namespaces in them.
    pub namespaces: usize,
    /// Pods in them.
    pub pods: usize,
    /// Containers in them.
    pub containers: usize,
    /// Bytes of their bodies.
    pub bytes: u64,
}

/// The sums by account.
pub fn totals(accepted: &[AcceptedReport]) -> BTreeMap<String, Totals> {
    let mut totals = BTreeMap::<String, Totals>::new();
    for report in accepted {
        let sum = totals.entry(report.account.clone()).or_default();
        sum.reports += 1;
        sum.namespaces += report.namespaces;
        sum.pods += report.pods;
        sum.containers += report.containers;
        sum.bytes += report.bytes;
    }
    totals
}

/// The sums as an aligned table with a heading, one line for each account.
pub fn table(accepted: &[AcceptedReport]) -> String {
    let mut lines = vec![["ACCOUNT", "REPORTS", "NAMESPACES", "PODS", "CONTAINERS", "BYTES"].map(str::to_owned)];
    for (account, sum) in totals(accepted) {
        let counts = [sum.reports, sum.namespaces, sum.pods, sum.containers].map(|count| count.to_string());
        let [reports, namespaces, pods, containers] = counts;
        lines.push([account, reports, namespaces, pods, containers, sum.bytes.to_string()]);
    }
    let width =
        |column: usize| lines.iter().filter_map(|line| line.get(column)).map(String::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..6).map(width).collect();
    let mut table = String::new();
    for line in &lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right. Writing to a string cannot fail.
            let _ = match column {
                0 => write!(table, "{cell:<width$}"),
                _ => write!(table, "  {cell:>width$}"),
            };
        }
        table.push('\n');
    }
    table
}

pub(crate) fn document(accepted: &[AcceptedReport]) -> Value {
    let account = |sum: Totals| {
        let Totals { reports, namespaces, pods, containers, bytes } = sum;
        json!({"reports": reports, "namespaces": namespaces, "pods": pods, "containers": containers, "bytes": bytes})
    };
    let accounts =
        totals(accepted).into_iter().map(|(name, sum)| (name, account(sum))).collect::<serde_json::Map<_, _>>();
    json!({"accounts": accounts})
}

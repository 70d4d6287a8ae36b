//! Gets reports accepted: what an error means, when to try again, what to say when all is done.
//!
//! `attempt` makes one attempt, [`retry`] says what its failure means, [`adhoc`] does with it what a run that ends can
//! do, and [`resident`] what an agent can do that stays: it keeps what is not accepted, in a `store` made of a `spool` on
//! the disk and a `backlog` that knows the order. An account's failure never touches another's, except that a refused user is not tried for any account. A
//! report goes to its own account, or once to the default account when the server does not know its own; never to
//! another for want of a right.

pub mod adhoc;
pub mod outcome;
pub mod recipient;
pub mod resident;
pub mod retry;
pub mod status;
pub mod store;

mod attempt;
mod backlog;
mod record;
mod spool;
mod user_gate;

#[cfg(test)]
mod tests;

use crate::anchore::payload::Payload;
use crate::inventory::report::Report;

/// The reports of an account, to be sent in this order.
#[derive(Debug, Clone)]
pub struct AccountReports {
    /// Name of the account.
    pub account: String,
    /// The report, in as many pieces as the limits make it.
    pub batches: Vec<Batch>,
}

/// One report as it is sent.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its body.
    pub payload: Payload,
    /// How many namespaces it names.
    pub namespaces: usize,
}

impl From<Report> for Batch {
    fn from(report: Report) -> Self {
        let (byte_len, namespaces) = (report.byte_len(), report.namespace_count());
        Self { payload: Payload::json(report, byte_len), namespaces }
    }
}

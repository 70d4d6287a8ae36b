//! What became of the reports of a run: for the summary and the exit code.

/// What became of an account's reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountOutcome {
    /// The account the reports are of.
    pub account: String,
    /// One for each batch, in order.
    pub batches: Vec<BatchOutcome>,
}

impl AccountOutcome {
    /// Whether every batch was accepted, by this account or by the default account in its place.
    pub fn is_accepted(&self) -> bool {
        self.batches.iter().all(|batch| matches!(batch.fate, Fate::Accepted { .. }))
    }
}

/// What became of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOutcome {
    /// How many namespaces it names.
    pub namespaces: usize,
    /// Its length in bytes.
    pub byte_len: u64,
    /// Whether it was accepted.
    pub fate: Fate,
}

/// Whether a batch was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Accepted.
    Accepted {
        /// The account that has it.
        account: String,
        /// The user it was sent as.
        user: String,
        /// When it was accepted by the default account: why not by its own.
        reroute: Option<String>,
    },
    /// Sent or tried to, and not accepted, for this reason.
    Failed(String),
    /// Never sent, because the answer to an earlier batch of the account holds for this one as well: this one.
    NotSent(String),
}

//! Which version of Anchore Enterprise is played, and what differs between them.

use std::str::FromStr;

use http::StatusCode;
use serde_json::{Value, json};

/// A version of Anchore Enterprise, from 4.8 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u16,
    minor: u16,
}

impl Version {
    /// The last version with the first API alone.
    pub const V1_ONLY: Self = Self::new(4, 8);
    /// The version with both APIs.
    pub const BOTH: Self = Self::new(4, 9);
    /// The last version that knows no integrations.
    pub const WITHOUT_INTEGRATIONS: Self = Self::new(5, 10);
    /// The newest version whose contract is known.
    pub const LATEST: Self = Self::new(5, 23);

    /// This version.
    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    pub(crate) fn has_v1(self) -> bool {
        self < Self::new(5, 0)
    }

    pub(crate) fn has_v2(self) -> bool {
        self >= Self::BOTH
    }

    pub(crate) fn has_integrations(self) -> bool {
        self > Self::WITHOUT_INTEGRATIONS
    }

    /// How an accepted report is answered.
    pub(crate) fn report_status(self) -> StatusCode {
        if self.has_integrations() { StatusCode::CREATED } else { StatusCode::NO_CONTENT }
    }

    /// The body of `GET /version`.
    pub(crate) fn document(self) -> Value {
        let Self { major, minor } = self;
        let api = if self >= Self::new(5, 0) { json!({"version": "2"}) } else { json!({}) };
        json!({
            "service": {"version": format!("{major}.{minor}.0")},
            "api": api,
            "db": {"schema_version": format!("{major}{minor}0")},
        })
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('.').and_then(|(major, minor)| {
            let minor = minor.split_once('.').map_or(minor, |(minor, _)| minor);
            Some(Self::new(major.parse().ok()?, minor.parse().ok()?))
        });
        parsed
            .filter(|version| *version >= Self::V1_ONLY)
            .ok_or_else(|| format!("`{text}` is no version of Anchore Enterprise from 4.8 on, such as 5.23"))
    }
}

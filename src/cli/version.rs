//! `version`: which program this is, as JSON. Reads nothing and contacts nobody: charts run it as a probe every few
//! seconds.

use std::env::consts::{ARCH, OS};

use jiff::Timestamp;
use serde::Serialize;

use super::ExitCode;

/// What `version` prints; the keys and their order are an interface.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stamp {
    version: &'static str,
    git_commit: &'static str,
    git_tree_state: &'static str,
    build_date: String,
    rust_version: &'static str,
    platform: String,
    application: &'static str,
}

/// Prints the version on standard output.
pub fn run() -> ExitCode {
    match serde_json::to_string_pretty(&Stamp::of_this_program()) {
        Ok(text) => super::print(&format!("{text}\n")),
        Err(error) => super::fail(ExitCode::Failure, &error),
    }
}

impl Stamp {
    fn of_this_program() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            git_commit: env!("BUILD_GIT_COMMIT"),
            git_tree_state: env!("BUILD_GIT_TREE_STATE"),
            build_date: date(env!("BUILD_EPOCH_SECONDS")),
            rust_version: env!("BUILD_RUST_VERSION"),
            platform: format!("{OS}/{}", architecture(ARCH)),
            application: env!("CARGO_PKG_NAME"),
        }
    }
}

/// RFC 3339 in UTC, whole seconds.
fn date(epoch_seconds: &str) -> String {
    let timestamp = epoch_seconds.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    timestamp.map_or_else(|| "unknown".to_owned(), |timestamp| timestamp.to_string())
}

/// The processor as container images and Kubernetes call it.
fn architecture(rust_name: &'static str) -> &'static str {
    match rust_name {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn a_build_date_is_utc_in_whole_seconds() {
        assert_eq!(date("1795559400"), "2026-11-24T22:30:00Z");
    }

    #[test]
    fn a_build_date_that_is_no_number_is_unknown() {
        assert_eq!(date("yesterday"), "unknown");
    }

    #[test]
    fn processors_have_the_names_that_container_images_use() {
        assert_eq!(["x86_64", "aarch64", "s390x"].map(architecture), ["amd64", "arm64", "s390x"]);
    }
}

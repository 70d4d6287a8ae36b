//! Stamps the program with what it was built from: the commit, whether files were changed since, the compiler, and the
//! time of the build.
//!
//! Needs neither git nor a repository: an archive of the sources builds too and says `unknown`. `SOURCE_DATE_EPOCH`
//! (seconds, as reproducible builds define it) replaces the time, so that the same sources can give the same program.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const UNKNOWN: &str = "unknown";

fn main() {
    stamp("BUILD_GIT_COMMIT", &git(&["rev-parse", "HEAD"]).unwrap_or_else(|| UNKNOWN.to_owned()));
    stamp("BUILD_GIT_TREE_STATE", tree_state());
    stamp("BUILD_RUST_VERSION", &rust_version().unwrap_or_else(|| UNKNOWN.to_owned()));
    stamp("BUILD_EPOCH_SECONDS", &build_seconds());
    watch_sources();
}

fn stamp(variable: &str, value: &str) {
    println!("cargo::rustc-env={variable}={value}");
}

fn tree_state() -> &'static str {
    match git(&["status", "--porcelain"]) {
        Some(changes) if changes.is_empty() => "clean",
        Some(_) => "dirty",
        None => UNKNOWN,
    }
}

/// `rustc 1.95.0 (abc 2026-04-14)` gives `1.95.0`.
fn rust_version() -> Option<String> {
    let said = output(Command::new(env::var_os("RUSTC")?).arg("--version"))?;
    said.split_whitespace().nth(1).map(str::to_owned)
}

fn build_seconds() -> String {
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        since_epoch.as_secs().to_string()
    })
}

/// The stamp is renewed when the program changes and when a commit is made, not at every build: it would make each of
/// them compile the program anew.
fn watch_sources() {
    for path in ["build.rs", "Cargo.toml", "Cargo.lock", "src"] {
        println!("cargo::rerun-if-changed={path}");
    }
    // The log of HEAD grows with each commit and checkout. Watching a file that is not there would rebuild each time.
    let head_log = git(&["rev-parse", "--git-path", "logs/HEAD"]);
    if let Some(log) = head_log.filter(|log| Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
}

/// What a git command says. Without its optional locks: it must not write into the repository that is being built.
/// A parent folder's repository, as of an unpacked archive in somebody's home, is not ours.
fn git(arguments: &[&str]) -> Option<String> {
    let here = env::var_os("CARGO_MANIFEST_DIR")?;
    if !Path::new(&here).join(".git").exists() {
        return None;
    }
    output(Command::new("git").arg("--no-optional-locks").args(arguments).current_dir(here))
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

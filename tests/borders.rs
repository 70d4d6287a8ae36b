//! The borders between modules that docs/ARCHITECTURE.md names, as far as reading the sources can tell.

#![expect(clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules that contact nothing, read no clock and start nothing.
const PURE: [&str; 3] = ["inventory", "routing", "batching"];

/// A source file: its path below `src`, and its lines before the tests.
struct Source {
    path: PathBuf,
    lines: Vec<String>,
}

impl Source {
    /// Whether it is `module.rs` or below `module/`.
    fn is_in(&self, module: &str) -> bool {
        let first = self.path.components().next().map(|part| Path::new(part.as_os_str()).with_extension(""));
        first.is_some_and(|first| first == Path::new(module))
    }

    /// The lines that hold one of `words` and are no comments, with their place.
    fn lines_with(&self, words: &[&str]) -> Vec<String> {
        let code = self.lines.iter().filter(|line| !line.trim_start().starts_with("//"));
        let found = code.filter(|line| words.iter().any(|word| line.contains(word)));
        found.map(|line| format!("src/{}: {}", self.path.display(), line.trim())).collect()
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut folders, mut sources) = (vec![root.clone()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let is_test =
                path.file_stem().is_some_and(|stem| stem == "tests" || stem == "golden" || stem == "fixtures");
            if path.is_dir() && !is_test {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
                let text = fs::read_to_string(&path).expect("a source");
                let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
                let lines = product.lines().map(str::to_owned).collect();
                sources.push(Source { path: path.strip_prefix(&root).expect("below src").to_owned(), lines });
            }
        }
    }
    assert!(sources.len() > 50, "the sources are found");
    sources
}

/// Asserts that `words` stand nowhere but in `modules`, and in each of these.
fn only_in(modules: &[&str], words: &[&str]) {
    let sources = sources();
    let outside = sources.iter().filter(|source| !modules.iter().any(|module| source.is_in(module)));
    let strays: Vec<String> = outside.flat_map(|source| source.lines_with(words)).collect();
    assert!(strays.is_empty(), "{words:?} belong into {modules:?} alone:\n{}", strays.join("\n"));
    for module in modules {
        let used = sources.iter().any(|source| source.is_in(module) && !source.lines_with(words).is_empty());
        assert!(used, "{module} uses none of {words:?} any more: correct this test");
    }
}

#[test]
fn only_cluster_knows_the_kubernetes_client() {
    only_in(&["cluster"], &["use kube::", " kube::", "(kube::", "<kube::"]);
}

#[test]
fn only_anchore_knows_the_http_client() {
    only_in(&["anchore"], &["hyper_util::client", "hyper_rustls::"]);
}

#[test]
fn only_admin_knows_the_http_server() {
    only_in(&["admin"], &["axum::", "hyper::server", "hyper_util::service"]);
    only_in(&["admin", "anchore"], &["hyper::", "hyper_util::"]);
}

#[test]
fn only_metrics_knows_the_library_of_metrics() {
    only_in(&["metrics"], &["prometheus_client::"]);
}

#[test]
fn only_cli_and_output_write_standard_output() {
    only_in(&["cli", "output"], &["io::stdout()", "stdout().lock()"]);
}

#[test]
fn only_config_and_completion_read_the_environment() {
    only_in(&["config", "cli"], &["env::var", "env::vars"]);
}

#[test]
fn the_middle_is_pure() {
    let impure = ["tokio", "std::fs", "std::net", "std::env", "std::time", "Timestamp::now", "Instant::now"];
    let sources = sources();
    let middle = sources.iter().filter(|source| PURE.iter().any(|module| source.is_in(module)));
    let strays: Vec<String> = middle.flat_map(|source| source.lines_with(&impure)).collect();
    assert!(strays.is_empty(), "{}", strays.join("\n"));
}

//! Golden cases: a folder in `tests/golden/` is the state of a cluster, a configuration, and exactly what comes of
//! them.
//!
//! * `cluster.yaml`: namespaces, nodes and pods as the API has them, as far as they matter to the case.
//! * `version.json`: the API server's answer to `/version`, if it answers.
//! * `config.yaml`: the agent's configuration.
//! * `expected/<account>.<batch>.json`: the reports. `images.txt` and `table.txt`: what `-o` prints. `notes.txt`: what
//!   is logged, where there is anything to say.
//!
//! A new case is a new folder. `UPDATE_GOLDEN=1 cargo test --lib golden` writes what comes out as what is expected, to
//! be read before it is committed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fs};

use pretty_assertions::assert_eq;
use serde_json::Value;

use crate::batching::{BatchRules, batches};
use crate::cluster::intake::Tables;
use crate::cluster::snapshot::{ClusterSnapshot, NodeAccess};
use crate::cluster::wire::{Encoding, Wire, decode_item};
use crate::config::{Config, Environment, Overrides, load};
use crate::inventory::omissions::Omissions;
use crate::inventory::{Inventory, InventorySettings};
use crate::output::{images, json, table};
use crate::routing::route;

/// Texts by the name of the file that holds them.
type Files = BTreeMap<String, String>;

#[test]
fn every_case_gives_exactly_what_it_says() {
    let cases = folders(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden"));
    assert!(!cases.is_empty());
    for case in cases {
        println!("{}", case.display());
        let actual = outcome(&case);
        let expected = case.join("expected");
        if env::var_os("UPDATE_GOLDEN").is_some() {
            replace(&expected, &actual);
        }
        assert_eq!(read(&expected), actual, "{}", case.display());
    }
}

/// Everything that comes of a case.
fn outcome(case: &Path) -> Files {
    let config = config(case);
    let inventory = Arc::new(Inventory::new(Arc::new(snapshot(case, &config)), settings(&config)));
    let mut files = Files::new();
    let mut notes = String::new();
    let mut reports = Vec::new();
    if *inventory.omissions() != Omissions::default() {
        writeln!(notes, "{:#?}", inventory.omissions()).expect("written");
    }
    let routing = route(&inventory, &config.routing);
    for warning in routing.warnings {
        writeln!(notes, "{warning}").expect("written");
    }
    for share in routing.shares {
        let rules = BatchRules { limits: config.limits, complete_list: true };
        let batches = batches(&inventory, &share, rules);
        for namespace in batches.oversized {
            writeln!(notes, "{namespace}").expect("written");
        }
        for (number, report) in (1..).zip(&batches.reports) {
            let name = format!("{}.{number}.json", share.account);
            files.insert(name, printed(|out| json::write_report(report, out)));
        }
        reports.extend(batches.reports);
    }
    files.insert("images.txt".to_owned(), printed(|out| images::write_images(&reports, out)));
    files.insert("table.txt".to_owned(), printed(|out| table::write_table(&reports, out)));
    if !notes.is_empty() {
        files.insert("notes.txt".to_owned(), notes);
    }
    files
}

fn config(case: &Path) -> Config {
    let overrides = Overrides { config_file: Some("config.yaml".into()), strict: true, ..Overrides::default() };
    let environment = Environment { working_directory: case.to_owned(), ..Environment::default() };
    load(&overrides, &environment).unwrap_or_else(|error| panic!("{}: {error}", case.display())).config
}

fn settings(config: &Config) -> InventorySettings {
    InventorySettings {
        cluster_name: config.kubeconfig.cluster_name.clone().expect("kubeconfig.cluster"),
        images: config.images.clone(),
        ignore_empty: config.selectors.ignore_empty,
        metadata: config.metadata.clone(),
    }
}

/// The cluster, taken in as from the API, with all its namespaces selected.
fn snapshot(case: &Path, config: &Config) -> ClusterSnapshot {
    let label = config.routing.by_label.as_ref().map(|rule| rule.key.as_str());
    let mut tables = Tables::new(&config.metadata, label);
    let objects = fs::read_to_string(case.join("cluster.yaml")).expect("cluster.yaml");
    let objects: Vec<Value> = serde_saphyr::from_multiple(&objects).expect("YAML");
    let namespaces: Vec<_> = of_kind(&objects, "Namespace").map(|object| tables.namespace(&decoded(object))).collect();
    for namespace in &namespaces {
        tables.select(namespace.name);
    }
    let nodes = of_kind(&objects, "Node").map(|object| tables.node(decoded(object))).collect();
    let pods = of_kind(&objects, "Pod").filter_map(|object| tables.pod(decoded(object)).map(Arc::new)).collect();
    let version = fs::read_to_string(case.join("version.json")).ok();
    ClusterSnapshot {
        taken_at: "2026-03-04T05:06:07.891Z".parse().expect("a timestamp"),
        server_version: version.map(|answer| serde_json::from_str(&answer).expect("version.json")),
        strings: tables.strings.texts().clone(),
        images: tables.images,
        namespaces,
        nodes,
        pods,
        unreadable: Vec::new(),
        node_access: NodeAccess::Read,
    }
    .in_order()
}

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn decoded<T: Wire>(object: &Value) -> T {
    decode_item(object.to_string().into(), Encoding::Json).expect("an object of the API")
}

fn printed(print: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).expect("written");
    String::from_utf8(out).expect("UTF-8")
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

fn read(folder: &Path) -> Files {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let text = |entry: fs::DirEntry| {
        (entry.file_name().into_string().expect("UTF-8"), fs::read_to_string(entry.path()).expect("a text"))
    };
    entries.map(text).collect()
}

fn replace(folder: &Path, files: &Files) {
    if folder.exists() {
        fs::remove_dir_all(folder).expect("removed");
    }
    fs::create_dir_all(folder).expect("created");
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("written");
    }
}

//! Finds and reads the one configuration file.
//!
//! A file that was named, or that exists at one of the places searched, must be readable text of a sensible size:
//! anything else is an error, never a reason to go on without it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::Environment;
use super::problem::{Origin, Position, Problem};

/// Most bytes of a file. A Kubernetes `ConfigMap` holds at most 1 MiB.
const LARGEST: u64 = 2 * 1024 * 1024;

const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// A configuration file.
pub(super) struct ConfigFile {
    /// Its name.
    pub(super) name: FileName,
    /// What it holds.
    pub(super) text: String,
}

/// The name of a configuration file.
#[derive(Clone)]
pub(super) struct FileName {
    /// The file to open.
    pub(super) path: PathBuf,
    /// How it is called in messages.
    pub(super) shown: String,
}

/// Reads the file named on the command line, else the first that exists at the usual places; `None` is no file.
pub(super) fn read(named: Option<&Path>, environment: &Environment) -> Result<Option<ConfigFile>, Box<Problem>> {
    let found = match named {
        Some(path) => Some(FileName::named(path, environment)),
        None => find(environment),
    };
    let Some(name) = found else { return Ok(None) };
    let text = read_text(&name.path, &name.shown)?;
    Ok(Some(ConfigFile { name, text }))
}

/// The places that are searched, in order, without extension. A bare `config.yaml` in the working
/// directory is not one of them: it is too likely to belong to something else.
pub(super) fn stems(environment: &Environment) -> Vec<FileName> {
    let here = &environment.working_directory;
    let local = [".anchore-k8s-inventory", "anchore-k8s-inventory", ".anchore-k8s-inventory/config"];
    let mut stems = local.map(|stem| FileName { path: here.join(stem), shown: format!("./{stem}") }).to_vec();
    let mut add = |path: PathBuf| stems.push(FileName { shown: path.display().to_string(), path });
    if let Some(home) = &environment.home {
        add(home.join(".anchore-k8s-inventory"));
    }
    let config_home = environment.xdg_directory("XDG_CONFIG_HOME");
    let config_home = config_home.or_else(|| environment.home.as_ref().map(|home| home.join(".config")));
    for directory in config_home.into_iter().chain(xdg_config_directories(environment)) {
        add(directory.join("anchore-k8s-inventory/config"));
    }
    stems
}

impl FileName {
    fn named(path: &Path, environment: &Environment) -> Self {
        Self { path: environment.working_directory.join(path), shown: path.display().to_string() }
    }

    /// The stem may begin with a dot, so the extension is appended, not set.
    fn with_extension(&self, extension: &str) -> Self {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{extension}"));
        Self { path: path.into(), shown: format!("{}.{extension}", self.shown) }
    }
}

fn find(environment: &Environment) -> Option<FileName> {
    let stems = stems(environment);
    let mut candidates = stems.iter().flat_map(|stem| EXTENSIONS.map(|extension| stem.with_extension(extension)));
    candidates.find(|name| exists(&name.path))
}

fn xdg_config_directories(environment: &Environment) -> Vec<PathBuf> {
    let listed = environment.variables.get("XDG_CONFIG_DIRS").map(String::as_str).filter(|list| !list.is_empty());
    listed.unwrap_or("/etc/xdg").split(':').map(PathBuf::from).filter(|path| path.is_absolute()).collect()
}

/// A link that leads nowhere exists, and is then an error to read. A folder that may not be entered counts as empty.
fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn read_text(path: &Path, name: &str) -> Result<String, Box<Problem>> {
    let problem = |what: String| Problem::file(name, None, what);
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    if ["toml", "ini", "hcl", "properties", "env"].contains(&extension.to_ascii_lowercase().as_str()) {
        return Err(problem(format!("files of the kind {extension} are not read"))
            .advise("Write it as YAML or JSON")
            .into());
    }
    let bytes = read_bytes(path).map_err(|error| {
        let what = match error.kind() {
            io::ErrorKind::NotFound if exists(path) => {
                "the configuration file is a link to a file that does not exist".to_owned()
            }
            io::ErrorKind::NotFound => "the configuration file does not exist".to_owned(),
            io::ErrorKind::IsADirectory => "the configuration file is a directory".to_owned(),
            _ => format!("the configuration file cannot be read: {error}"),
        };
        problem(what).advise("Name another file with --config, or correct this one")
    })?;
    if bytes.len() as u64 > LARGEST {
        let what = format!("the configuration file is larger than {} MiB", LARGEST >> 20);
        return Err(problem(what).advise("Check that it is the right file").into());
    }
    let text = String::from_utf8(bytes).map_err(|error| not_text(name, error.as_bytes()))?;
    match text.bytes().position(|byte| byte == 0) {
        Some(at) => Err(not_text(name, text.as_bytes().get(..at).unwrap_or_default()).into()),
        None => Ok(text),
    }
}

/// One byte more than allowed, so that the caller can tell.
fn read_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The problem of a file that is no UTF-8 text; the place is the end of what is text.
fn not_text(name: &str, bytes: &[u8]) -> Problem {
    let valid = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            bytes.get(..error.valid_up_to()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
        }
    };
    let line = valid.matches('\n').count() + 1;
    let column = valid.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    let problem = Problem::file(name, None, "the configuration file is not UTF-8 text");
    let origin = Origin::File { file: name.to_owned(), position: Some(Position { line, column }), variable: None };
    Problem { origin, ..problem }.advise("Check that it is the right file, and save it as UTF-8")
}

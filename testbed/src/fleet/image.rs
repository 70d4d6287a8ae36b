//! Image references in all the ways people write them, and the ids that runtimes report for them.

use super::random::Random;

/// An image of a fleet.
#[derive(Debug, Clone)]
pub(super) struct Image {
    /// As in the spec.
    pub(super) reference: String,
    /// Registry and path, complete, without tag and digest.
    repository: String,
    /// Its digest in the registry.
    digest: String,
    /// The digest of its configuration, which runtimes report when they know no other.
    config: String,
    /// Loaded from a file: no registry has it.
    imported: bool,
}

/// A container runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Runtime {
    #[default]
    Containerd,
    Crio,
    Docker,
}

const TEAMS: [&str; 8] = ["payments", "catalog", "search", "identity", "ml", "platform", "mobile", "data"];
const APPS: [&str; 12] = [
    "api",
    "web",
    "worker",
    "gateway",
    "cache",
    "scheduler",
    "indexer",
    "frontend",
    "exporter",
    "migrate",
    "proxy",
    "queue",
];

impl Image {
    /// The `index`th image of a seed.
    pub(super) fn new(seed: u64, index: usize) -> Self {
        let mut random = Random::new(seed, "image", index);
        let path = format!("{}/{}-{index}", random.pick(&TEAMS), random.pick(&APPS));
        let version = format!("{}.{}.{}", random.below(9), random.below(40), random.below(20));
        let digest = format!("sha256:{}", random.hex64());
        let config = random.hex64();
        let imported = random.per_mille(30);
        let (reference, repository) = match random.below(100) {
            0..15 => (format!("app-{index}:{version}"), format!("docker.io/library/app-{index}")),
            15..25 => (format!("{path}:{version}"), format!("docker.io/{path}")),
            25..35 => (format!("registry.local:5000/{path}:{version}"), format!("registry.local:5000/{path}")),
            35..43 => (format!("ghcr.io/{path}@{digest}"), format!("ghcr.io/{path}")),
            43..48 => (format!("quay.io/{path}:{version}@{digest}"), format!("quay.io/{path}")),
            48..55 => (format!("registry.example.com/{path}"), format!("registry.example.com/{path}")),
            _ => (format!("registry.example.com/{path}:{version}"), format!("registry.example.com/{path}")),
        };
        Self { reference, repository, digest, config, imported }
    }

    /// `imageID` as the runtime reports it.
    pub(super) fn id(&self, runtime: Runtime, random: &mut Random) -> String {
        let pulled = format!("{}@{}", self.repository, self.digest);
        match (runtime, self.imported) {
            (Runtime::Docker, false) => format!("docker-pullable://{pulled}"),
            (Runtime::Docker, true) => format!("docker://sha256:{}", self.config),
            (Runtime::Containerd, false) => pulled,
            (Runtime::Containerd, true) => format!("sha256:{}", self.config),
            // After a restart of CRI-O, images are known by their bare id.
            (Runtime::Crio, false) if !random.per_mille(50) => pulled,
            (Runtime::Crio, _) => self.config.clone(),
        }
    }

    /// `image` as the runtime reports it: usually completed, sometimes only an id.
    pub(super) fn status_image(&self) -> String {
        if self.imported {
            return format!("sha256:{}", self.config);
        }
        if self.reference.contains('@') {
            return self.reference.clone();
        }
        // A colon before the last slash belongs to a registry's port.
        let tag = self.reference.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'));
        format!("{}:{}", self.repository, tag.map_or("latest", |(_, tag)| tag))
    }
}

impl Runtime {
    /// The runtime of the `index`th node.
    pub(super) fn of_node(seed: u64, index: usize) -> Self {
        match Random::new(seed, "runtime", index).below(100) {
            0..75 => Self::Containerd,
            75..90 => Self::Crio,
            _ => Self::Docker,
        }
    }

    /// A container's id.
    pub(super) fn container_id(self, random: &mut Random) -> String {
        format!("{}://{}", self.scheme(), random.hex64())
    }

    /// Name and version, as nodes state them.
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::Containerd => "containerd://2.2.0",
            Self::Crio => "cri-o://1.34.1",
            Self::Docker => "docker://28.5.1",
        }
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Crio => "cri-o",
            Self::Docker => "docker",
        }
    }
}

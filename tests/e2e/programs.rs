//! The programs that make a cluster, with their flags and their ports.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use tokio::net::TcpSocket;

/// The programs to start.
pub(super) struct Programs {
    etcd: PathBuf,
    apiserver: PathBuf,
    /// What `kube-apiserver --version` says: `Kubernetes v1.37.2`.
    version: String,
}

impl Programs {
    pub(super) fn find() -> anyhow::Result<Self> {
        let advice = "run `make e2e`, which builds kube-apiserver and etcd with Go, or set KUBEBUILDER_ASSETS to a \
                      folder that holds them";
        let folder = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let folder = folder.with_context(|| format!("KUBEBUILDER_ASSETS is not set: {advice}"))?;
        let program = |name: &str| {
            let path = folder.join(name);
            if path.is_file() { Ok(path) } else { bail!("{} is not there: {advice}", path.display()) }
        };
        let (etcd, apiserver) = (program("etcd")?, program("kube-apiserver")?);
        let version = Command::new(&apiserver).arg("--version").output().context("kube-apiserver cannot be started")?;
        let version = String::from_utf8_lossy(&version.stdout).trim().to_owned();
        Ok(Self { etcd, apiserver, version })
    }

    /// Image volumes are switched on by default from 1.35 on.
    fn has_image_volumes_switched_off(&self) -> bool {
        let minor = self.version.split('.').nth(1).and_then(|minor| minor.parse().ok());
        minor.is_some_and(|minor: u32| minor < 35)
    }
}

/// Three ports of loopback that are ours, each with the socket that keeps it so.
pub(super) struct Ports {
    pub(super) etcd: (u16, TcpSocket),
    etcd_peers: (u16, TcpSocket),
    pub(super) apiserver: (u16, TcpSocket),
}

impl Ports {
    pub(super) fn reserve() -> anyhow::Result<Self> {
        let one = || -> std::io::Result<(u16, TcpSocket)> {
            let socket = TcpSocket::new_v4()?;
            // The servers, which set it too, can listen beside it.
            socket.set_reuseport(true)?;
            socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
            Ok((socket.local_addr()?.port(), socket))
        };
        Ok(Self { etcd: one()?, etcd_peers: one()?, apiserver: one()? })
    }
}

pub(super) fn etcd_command(programs: &Programs, directory: &Path, ports: &Ports) -> Command {
    let (port, peer_port) = (ports.etcd.0, ports.etcd_peers.0);
    let mut command = Command::new(&programs.etcd);
    command
        .args([format!("--data-dir={}", directory.join("etcd").display()), "--socket-reuse-port".to_owned()])
        .args([format!("--listen-client-urls=http://127.0.0.1:{port}")])
        .args([format!("--advertise-client-urls=http://127.0.0.1:{port}")])
        .args([format!("--listen-peer-urls=http://127.0.0.1:{peer_port}")])
        // The default quota of 2 GiB is too small for the largest fleet of the benchmark.
        .args(["--unsafe-no-fsync", "--enable-grpc-gateway", "--quota-backend-bytes=8589934592", "--log-level=warn"]);
    command
}

pub(super) fn apiserver_command(programs: &Programs, directory: &Path, ports: &Ports) -> Command {
    let (etcd_port, port) = (ports.etcd.0, ports.apiserver.0);
    let file = |name: &str| directory.join(name).display().to_string();
    let mut command = Command::new(&programs.apiserver);
    command
        .args([format!("--etcd-servers=http://127.0.0.1:{etcd_port}")])
        .args(["--bind-address=127.0.0.1".to_owned(), format!("--secure-port={port}")])
        .args(["--permit-port-sharing"])
        .args([
            format!("--audit-policy-file={}", file("audit.yaml")),
            format!("--audit-log-path={}", file("audit.log")),
        ])
        .args([
            format!("--tls-cert-file={}", file("server.crt")),
            format!("--tls-private-key-file={}", file("server.key")),
        ])
        .args([format!("--client-ca-file={}", file("ca.crt"))])
        .args([format!("--token-auth-file={}", file("tokens.csv"))])
        .args(["--service-account-issuer=https://kubernetes.default.svc".to_owned()])
        .args([format!("--service-account-key-file={}", file("server.crt"))])
        .args([format!("--service-account-signing-key-file={}", file("server.key"))])
        .args(["--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount"])
        .args(["--service-cluster-ip-range=10.0.0.0/24"]);
    if programs.has_image_volumes_switched_off() {
        command.arg("--feature-gates=ImageVolume=true");
    }
    command
}

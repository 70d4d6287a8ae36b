//! Serving, until told to stop.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use testbed::anchore::{Enterprise, EnterpriseOptions, summary};
use testbed::kubernetes::access::User;
use testbed::kubernetes::{self, KubernetesApi, KubernetesOptions};
use testbed::server::fault::{self, Answer, Requests};
use testbed::server::tls::Authority;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use super::cli::{Fault, Serve};
use super::files::{Folder, agent_configuration};

pub(crate) async fn serve(arguments: Serve) -> anyhow::Result<()> {
    // Installed first, so that no signal is missed.
    let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let folder = Folder::create(&arguments.out)?;
    folder.remove("config.yaml")?;
    let fleet = arguments.fleet.fleet(arguments.accounts.clone());
    let size = format!("{} pods in {} namespaces on {} nodes", fleet.pods, fleet.namespaces, fleet.nodes);
    let objects = tokio::task::spawn_blocking(move || fleet.objects()).await?;

    let user = User::reader("agent");
    let mut kubernetes = KubernetesOptions::default().objects(objects).version(arguments.kubernetes_version);
    let mut enterprise = EnterpriseOptions::default().version(arguments.enterprise_version);
    enterprise = arguments.accounts.iter().fold(enterprise, |enterprise, account| enterprise.account(account));
    if arguments.unchecked {
        enterprise = enterprise.unchecked();
    }
    let user = if arguments.tls {
        let user = user.token(&Uuid::new_v4().to_string());
        let authority = Arc::new(Authority::new("testbed")?);
        folder.write("ca.pem", &authority.certificate())?;
        kubernetes = kubernetes.tls(&authority).user(user.clone());
        enterprise = enterprise.tls(&authority);
        user
    } else {
        user
    };
    let kubernetes = kubernetes.start().await?;
    let enterprise = enterprise.start().await?;
    for &fault in &arguments.faults {
        inject(fault, &kubernetes, &enterprise);
    }
    folder.write("kubeconfig.yaml", &kubernetes.kubeconfig(&user))?;
    folder.write("config.yaml", &agent_configuration(&folder, &enterprise, &arguments))?;
    let mut out = std::io::stdout();
    writeln!(out, "Kubernetes API      {}  ({size})", kubernetes.url())?;
    writeln!(out, "Anchore Enterprise  {}  (user admin, password foobar)", enterprise.url())?;
    writeln!(out, "Now run             anchore-k8s-inventory -c {}", folder.path("config.yaml").display())?;
    out.flush()?;

    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
        () = end_of_stdin(), if arguments.stop_with_stdin => {}
        () = churn(&kubernetes, arguments.churn), if arguments.churn > 0 => {}
    }
    if arguments.summary {
        write!(out, "{}", summary::table(&enterprise.accepted()))?;
    }
    Ok(())
}

fn inject(fault: Fault, kubernetes: &KubernetesApi, enterprise: &Enterprise) {
    let pods = || Requests::to("/api/v1/pods").first(1);
    let reports = || Requests::to("*/kubernetes-inventory").method(Method::POST);
    match fault {
        Fault::KubernetesBusy => kubernetes.inject(pods(), kubernetes::too_many_requests(1)),
        Fault::KubernetesCutsLists => kubernetes.inject(pods(), fault::Fault::cut_after(10_000)),
        Fault::KubernetesForbidsNodes => {
            let forbidden = kubernetes::failure(403, "Forbidden", "nodes is forbidden: the testbed was told so");
            kubernetes.inject(Requests::to("/api/v1/nodes"), forbidden);
        }
        Fault::EnterpriseUnavailable => {
            enterprise.inject(reports().first(1), Answer::status(503).html("503 Service Temporarily Unavailable"));
        }
        Fault::EnterpriseLoginPage => enterprise.inject(reports(), Answer::status(200).html("Sign in")),
        Fault::EnterpriseHangs => enterprise.inject(reports(), fault::Fault::NeverAnswers),
    }
}

/// Replaces random pods, so many a minute, for ever.
async fn churn(kubernetes: &KubernetesApi, pods_per_minute: u32) {
    let mut ticks = tokio::time::interval(Duration::from_mins(1) / pods_per_minute.max(1));
    loop {
        ticks.tick().await;
        let (random, _) = Uuid::new_v4().as_u64_pair();
        kubernetes.replace_pod(usize::try_from(random >> 16).unwrap_or_default());
    }
}

async fn end_of_stdin() {
    let mut buffer = [0; 256];
    let mut stdin = tokio::io::stdin();
    // A failing input has ended as well.
    while stdin.read(&mut buffer).await.is_ok_and(|count| count > 0) {}
}

//! The lives of pods through the API, step by step, as a scheduler and a kubelet would have them.

use anyhow::bail;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::server::{Server, http_client};

/// Where these pods are.
const NAMESPACE: &str = "default";

/// A client of the API server who may do everything.
pub(crate) struct Api {
    client: reqwest::Client,
    url: String,
    token: String,
}

impl Api {
    pub(crate) fn new(server: &Server) -> Self {
        let client = http_client(&server.certificate_authority());
        Self { client, url: server.url.clone(), token: server.admin_token.clone() }
    }

    /// Whether it answers to a request for what it stores.
    pub(crate) async fn answers(&self) -> bool {
        let url = format!("{}/api/v1/namespaces/{NAMESPACE}", self.url);
        let answer = self.client.get(url).bearer_auth(&self.token).send().await;
        answer.is_ok_and(|answer| answer.status().is_success())
    }

    /// A pod that waits to be scheduled.
    pub(crate) async fn create(&self, name: &str) -> anyhow::Result<()> {
        let image = format!("registry.example.com/bench/{name}:1.0");
        let pod = json!({
            "metadata": {"name": name, "labels": {"app": "bench"}},
            "spec": {
                "containers": [{"name": "app", "image": image}],
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 0,
            },
        });
        self.send(Method::POST, "pods", "application/json", &pod).await
    }

    /// Its node.
    pub(crate) async fn bind(&self, name: &str, node: &str) -> anyhow::Result<()> {
        let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": node}});
        self.send(Method::POST, &format!("pods/{name}/binding"), "application/json", &binding).await
    }

    /// Its containers are started: what a kubelet says once the image is there.
    pub(crate) async fn runs(&self, name: &str) -> anyhow::Result<()> {
        let image = format!("registry.example.com/bench/{name}:1.0");
        let (one, other) = (Uuid::new_v5(&Uuid::NAMESPACE_URL, image.as_bytes()), Uuid::new_v4());
        let digest = format!("{}{}", one.simple(), other.simple());
        let status = json!({"status": {"phase": "Running", "containerStatuses": [{
            "name": "app",
            "image": image,
            "imageID": format!("registry.example.com/bench/{name}@sha256:{digest}"),
            "containerID": format!("containerd://{digest}"),
            "ready": true,
            "restartCount": 0,
            "state": {"running": {"startedAt": "2026-03-04T05:06:07Z"}},
        }]}});
        self.send(Method::PATCH, &format!("pods/{name}/status"), "application/merge-patch+json", &status).await
    }

    pub(crate) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.send(Method::DELETE, &format!("pods/{name}"), "application/json", &json!({"gracePeriodSeconds": 0})).await
    }

    async fn send(&self, method: Method, path: &str, media_type: &str, body: &Value) -> anyhow::Result<()> {
        let url = format!("{}/api/v1/namespaces/{NAMESPACE}/{path}", self.url);
        let request = self.client.request(method.clone(), &url).bearer_auth(&self.token);
        let answer = request.header("content-type", media_type).body(body.to_string()).send().await?;
        let status = answer.status();
        if !status.is_success() {
            bail!("{method} {url}: {status} {}", answer.text().await?);
        }
        Ok(())
    }
}

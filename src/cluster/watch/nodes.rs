//! The nodes: listed with a report, and rarely. A watch of them would bring their heartbeats, which nobody asked for.

use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use crate::cluster::intake::Kept;
use crate::cluster::list;
use crate::cluster::request::RequestError;
use crate::cluster::snapshot::NodeAccess;
use crate::cluster::wire;

/// When the nodes were listed last.
#[derive(Debug, Default)]
pub(crate) struct NodeList {
    read: Option<Instant>,
    asked: Option<Instant>,
    /// The last answer was a list, or that there may be none.
    is_settled: bool,
}

impl NodeList {
    /// Lists the nodes if that is due, and asks for the server's version with them. After a failure those of the last
    /// list stay until two more lists would have been due, each a polling interval late.
    pub(crate) async fn refresh(&mut self, shared: &Shared, polling_interval: Duration) {
        let is_recent = |at: Option<Instant>, age: Duration| at.is_some_and(|at| at.elapsed() < age);
        // A tick that comes a little early must not be the one before the next.
        let age = shared.limits.nodes.mul_f64(0.9);
        if is_recent(self.asked, age) && self.is_settled {
            return;
        }
        let began = Instant::now();
        self.asked = Some(began);
        let api = shared.api();
        shared.renew_version(&api).await;
        let mut intake = Kept::new(|node: wire::Node| Some(node));
        let listing = list::list(&api, "/api/v1/nodes", shared.style(), &mut intake);
        let limit = shared.settings.kubernetes.request_timeout;
        let listed = tokio::time::timeout(limit, listing).await.unwrap_or(Err(RequestError::TimedOut(limit)));
        let stays = is_recent(self.read, shared.limits.nodes.saturating_add(polling_interval).saturating_mul(2));
        self.is_settled = matches!(listed, Ok(_) | Err(RequestError::Forbidden(_)));
        match listed {
            Ok(_) => {
                self.read = Some(began);
                shared.store().set_nodes(intake.objects, NodeAccess::Read);
            }
            Err(error) if stays => tracing::warn!("the nodes are those of the last list: {error}"),
            Err(RequestError::Forbidden(_)) => shared.store().set_nodes(Vec::new(), NodeAccess::Forbidden),
            Err(error) => {
                let access = NodeAccess::Failed(error.to_string());
                shared.store().set_nodes(Vec::new(), access);
            }
        }
    }
}

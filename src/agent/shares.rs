//! From a snapshot to what each account gets, the same in every mode.

use std::sync::Arc;

use crate::batching::{self, BatchRules};
use crate::cluster::snapshot::ClusterSnapshot;
use crate::config::Config;
use crate::config::limits::ReportLimits;
use crate::config::routes::RoutingConfig;
use crate::inventory::report::Report;
use crate::inventory::{Inventory, InventorySettings};
use crate::routing::{self, AccountShare, RoutingWarning};

/// The reports of one account.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) account: String,
    pub(crate) reports: Vec<Report>,
}

/// What decides who gets what.
#[derive(Debug, Clone)]
pub(crate) struct ShareRules {
    inventory: InventorySettings,
    routing: RoutingConfig,
    limits: ReportLimits,
}

impl ShareRules {
    pub(crate) fn new(config: &Config, cluster_name: String) -> Self {
        Self {
            inventory: InventorySettings {
                cluster_name,
                images: config.images.clone(),
                ignore_empty: config.selectors.ignore_empty,
                metadata: config.metadata.clone(),
            },
            routing: config.routing.clone(),
            limits: config.limits,
        }
    }

    /// The inventory of a snapshot.
    pub(crate) fn inventory(&self, snapshot: ClusterSnapshot) -> Arc<Inventory> {
        Arc::new(Inventory::new(Arc::new(snapshot), self.inventory.clone()))
    }

    /// Who gets which namespaces of it, and what may not be meant so.
    pub(crate) fn route(&self, inventory: &Inventory) -> (Vec<AccountShare>, Vec<RoutingWarning>) {
        let routing = routing::route(inventory, &self.routing);
        (routing.shares, routing.warnings)
    }

    /// The reports of one account; none when there is nothing to say, or nothing that would be true.
    pub(crate) fn reports(&self, inventory: &Arc<Inventory>, share: &AccountShare, complete_list: bool) -> Vec<Report> {
        let batches = batching::batches(inventory, share, BatchRules { limits: self.limits, complete_list });
        for oversized in &batches.oversized {
            tracing::warn!(account = share.account, "{oversized}");
        }
        batches.reports
    }

    /// What every account gets. Accounts that get nothing are left out.
    pub(crate) fn shares(&self, snapshot: ClusterSnapshot, complete_list: bool) -> Vec<Share> {
        let inventory = self.inventory(snapshot);
        let (shares, warnings) = self.route(&inventory);
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let share = |share: AccountShare| Share {
            reports: self.reports(&inventory, &share, complete_list),
            account: share.account,
        };
        shares.into_iter().map(share).filter(|share| !share.reports.is_empty()).collect()
    }
}

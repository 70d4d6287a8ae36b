//! What of a pod is carried when it stops, departs, or goes on with another image.

use std::collections::HashMap;
use std::num::NonZeroU64;

use super::store::{FormerNamespace, HeldNamespace, Store, is_older};
use crate::cluster::snapshot::{Container, Namespace, Pod};
use crate::cluster::strings::Symbol;

impl Store {
    /// The pod `before`, of this version, is replaced by the state `now`, or `departs`: what ran of it and does not go on
    /// is carried.
    pub(super) fn stops(&mut self, (before, version): (&Pod, Option<NonZeroU64>), now: Option<&Pod>, departs: bool) {
        let now_containers = now.map_or(&[][..], |now| &now.containers);
        let goes_on = !departs && now.is_some_and(|now| now.running);
        let ran = before.running || (departs && now.is_some_and(|now| now.running));
        let containers: Box<[Container]> = if ran && goes_on {
            let replaced = |before: &&Container| {
                let now = now_containers.iter().find(|now| now.name == before.name);
                now.is_none_or(|now| self.is_another_image(before, now))
            };
            before.containers.iter().filter(replaced).cloned().collect()
        } else if ran || (departs && self.rules.reports_finished) {
            // Ids that came with the last state belong to what ran as well.
            let is_known = |before: &&Container| now_containers.iter().all(|now| now.id != before.id);
            now_containers.iter().chain(before.containers.iter().filter(is_known)).cloned().collect()
        } else {
            return;
        };
        let namespace = namespace_of(&self.namespaces, &self.former, before, version).cloned();
        self.carried.add(Pod { containers, running: ran, ..before.clone() }, version, namespace);
    }

    /// Whether a container that goes on does so with another image: another one in the spec, or another one under the
    /// same tag since it was started again.
    fn is_another_image(&self, before: &Container, now: &Container) -> bool {
        let facts = |image: u32| self.tables.images.get(image as usize).copied();
        let (Some(before_facts), Some(now_facts)) = (facts(before.image), facts(now.image)) else { return false };
        if before_facts.spec != now_facts.spec {
            return true;
        }
        let is_stated = |id| !self.tables.strings.get(id).is_empty();
        let both_state = is_stated(before_facts.image_id) && is_stated(now_facts.image_id);
        // While the kubelet is behind the spec, the status tells of another image than the spec does.
        let same_tag = before_facts.status == now_facts.status;
        before.id != now.id && same_tag && both_state && before_facts.image_id != now_facts.image_id
    }
}

/// The namespace that a pod of this version was in.
pub(super) fn namespace_of<'a>(
    namespaces: &'a HashMap<Symbol, HeldNamespace>,
    former: &'a HashMap<Symbol, Vec<FormerNamespace>>,
    pod: &Pod,
    version: Option<NonZeroU64>,
) -> Option<&'a Namespace> {
    let former = former.get(&pod.namespace).map(Vec::as_slice).unwrap_or_default();
    let told_apart = former.iter().find(|former| is_older(version, former.until));
    let now = namespaces.get(&pod.namespace).map(|held| &held.namespace);
    let last = former.last().filter(|last| !is_older(last.until, version));
    told_apart.map(|former| &former.namespace).or(now).or_else(|| last.map(|last| &last.namespace))
}

//! What of a pod is carried when it stops, departs, or goes on with another image.

use std::num::NonZeroU64;

use super::former::namespace_of;
use super::store::Store;
use crate::cluster::snapshot::{Container, Pod};

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

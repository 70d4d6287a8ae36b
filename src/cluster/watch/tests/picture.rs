//! What a picture says to each account.

use pretty_assertions::assert_eq;

use super::objects::{PodState, all_seen, namespace, picture_of, rules, seen};
use crate::cluster::snapshot::Unreadable;
use crate::cluster::watch::picture::PictureFacts;
use crate::cluster::watch::store::Store;

/// Namespaces `shop` and `test`; in each a pod that runs and one that did.
fn store() -> Store {
    let mut store = Store::new(rules());
    for (at, name) in (1..).zip(["test", "shop"]) {
        store.namespace_is(&namespace(name, at, at), None);
        store.pod_is(PodState::running(name, "web", 10 * at, "app:1").wire(10 * at));
        store.pod_is(PodState::running(name, "job", 10 * at + 1, "job:1").wire(10 * at + 1));
        store.pod_was(PodState::running(name, "job", 10 * at + 1, "job:1").wire(10 * at + 2));
    }
    store
}

fn names(pods: &[super::objects::SeenPod]) -> Vec<String> {
    pods.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect()
}

#[test]
fn a_picture_is_in_order_with_what_ran() {
    assert_eq!(names(&all_seen(&mut store())), ["shop/job", "shop/web", "test/job", "test/web"]);
}

#[test]
fn a_picture_stays_as_it_was_taken() {
    let mut store = store();
    let picture = picture_of(&mut store);
    let before = seen(&picture.snapshot(None));
    store.namespace_was(&namespace("shop", 2, 50));
    store.pod_was(PodState::running("test", "web", 10, "app:1").wire(51));
    store.pod_is(PodState::running("test", "new", 99, "new:1").wire(52));
    for (id, _) in super::unrouted(&picture) {
        store.carried().route(id, &std::collections::BTreeSet::new());
    }
    store.compact();
    drop(store);
    assert_eq!(seen(&picture.snapshot(None)), before);
}

#[test]
fn an_account_gets_what_it_is_owed_and_settles_what_it_got() {
    let mut store = store();
    let picture = picture_of(&mut store);
    for (id, namespace) in super::unrouted(&picture) {
        let name = picture.snapshot(None).strings.get(namespace).to_owned();
        store.carried().route(id, &[name.as_str().into()].into());
    }
    let picture = picture_of(&mut store);
    let snapshot = picture.snapshot(Some("shop"));
    assert_eq!(names(&seen(&snapshot)), ["shop/job", "shop/web", "test/web"]);
    let all = snapshot.namespaces.iter().map(|namespace| namespace.name).collect();
    let ids = picture.carried_in(&all, "shop");
    assert_eq!((ids.len(), picture.has_settled_in(&all, "shop")), (1, true));
    store.carried().settle("shop", &ids);
    assert_eq!(store.carried().len(), 1);
}

#[test]
fn a_namespace_that_may_not_be_reported_is_out_with_all_in_it() {
    let mut store = store();
    let unreadable = vec![Unreadable { namespace: "shop".to_owned(), reason: "why".to_owned() }];
    let facts = PictureFacts {
        taken_at: jiff::Timestamp::UNIX_EPOCH,
        server_version: None,
        unreadable,
        missing: Vec::new(),
        complete_list: true,
    };
    let snapshot = store.picture(facts).snapshot(None);
    assert_eq!(names(&seen(&snapshot)), ["test/job", "test/web"]);
    assert_eq!((snapshot.namespaces.len(), snapshot.unreadable.len()), (1, 1));
}

#[test]
fn what_is_owed_to_an_account_that_does_not_get_the_namespace_any_more_is_owed_to_those_that_do() {
    let mut store = store();
    let picture = picture_of(&mut store);
    let ids: Vec<u64> = super::unrouted(&picture).map(|(id, _)| id).collect();
    for id in &ids {
        store.carried().route(*id, &["first".into(), "second".into()].into());
        store.carried().route(*id, &["second".into(), "third".into()].into());
    }
    store.carried().settle("first", &ids);
    assert_eq!(store.carried().len(), ids.len(), "the second still has to accept");
    for id in &ids {
        store.carried().route(*id, &["third".into()].into());
    }
    store.carried().settle("second", &ids);
    assert_eq!(store.carried().len(), ids.len(), "now it is the third");
    store.carried().settle("third", &ids);
    assert_eq!(store.carried().len(), 0);
}

#[test]
fn a_pod_of_a_former_namespace_is_not_shown_in_a_new_one_of_its_name() {
    let mut store = Store::new(rules());
    store.namespace_is(&namespace("shop", 1, 10), None);
    store.pod_is(PodState::running("shop", "web", 2, "app:1").wire(11));
    store.namespace_is(&namespace("shop", 3, 20), None);
    assert!(picture_of(&mut store).snapshot(None).pods.is_empty(), "whose it is, is not known yet");
    store.pods_reach(std::num::NonZeroU64::new(21));
    assert_eq!(picture_of(&mut store).snapshot(None).pods.len(), 1, "it was not said to be gone: it is of the new one");
}

#[test]
fn after_the_cluster_went_back_in_time_no_pod_is_taken_for_one_of_a_former_namespace() {
    let mut store = Store::new(rules());
    store.namespace_is(&namespace("shop", 1, 100), None);
    store.namespace_was(&namespace("shop", 1, 110));
    store.namespace_is(&namespace("shop", 3, 111), None);
    let list = store.begin_list(true);
    store.namespace_is(&namespace("shop", 1, 50), Some(list));
    store.end_namespaces(list, std::num::NonZeroU64::new(60));
    let list = store.begin_list(true);
    store.list_pod(PodState::running("shop", "web", 2, "app:1").wire(51), list);
    store.end_pods(list, None, std::num::NonZeroU64::new(60));
    assert_eq!(names(&seen(&picture_of(&mut store).snapshot(None))), ["shop/web"]);
}

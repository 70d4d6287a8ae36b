//! Single cases of the state.

use pretty_assertions::assert_eq;

use super::objects::{PodState, SeenPod, accept, all_seen, namespace, picture_of, rules};
use crate::cluster::snapshot::NodeAccess;
use crate::cluster::watch::store::Store;
use crate::cluster::wire;
use crate::config::selectors::NamespaceSelectors;

/// A store with the namespace `shop`, whose uid is 1.
fn shop() -> Store {
    let mut store = Store::new(rules());
    store.namespace_is(&namespace("shop", 1, 10), None);
    store
}

fn web() -> PodState {
    PodState::running("shop", "web", 7, "app:1")
}

fn ran(pod: &PodState) -> SeenPod {
    SeenPod { running: true, ..pod.seen(1) }
}

fn list_pods(store: &mut Store, pods: &[(&PodState, u64)]) {
    let list = store.begin_list(false);
    for (pod, version) in pods {
        store.list_pod(pod.wire(*version), list);
    }
    let version = pods.iter().map(|(_, version)| *version).max().and_then(std::num::NonZeroU64::new);
    store.end_pods(list, None, version);
}

#[test]
fn what_is_told_is_held() {
    let mut store = shop();
    store.pod_is(web().wire(20));
    assert_eq!(all_seen(&mut store), [web().seen(1)]);
}

#[test]
fn a_pod_that_has_finished_counts_as_running_until_that_was_accepted() {
    let mut store = shop();
    store.pod_is(web().wire(20));
    store.pod_is(web().finished().wire(21));
    assert_eq!(all_seen(&mut store), [ran(&web())]);
    assert_eq!(accept(&mut store), [ran(&web())]);
    assert_eq!(all_seen(&mut store), [web().finished().seen(1)]);
    store.pod_was(web().finished().wire(22));
    assert_eq!(all_seen(&mut store), []);
}

#[test]
fn a_pod_that_came_and_went_between_two_reports_is_in_the_next_one() {
    let mut store = shop();
    let pending = PodState { phase: "Pending", containers: Vec::new(), ..web() };
    for (version, pod) in [(20, &pending), (21, &web()), (22, &web().finished())] {
        store.pod_is(pod.wire(version));
    }
    store.pod_was(web().finished().wire(23));
    assert_eq!(accept(&mut store), [ran(&web())]);
    assert_eq!(all_seen(&mut store), []);
}

#[test]
fn a_pod_that_never_ran_leaves_nothing() {
    let mut store = shop();
    let pending = PodState { phase: "Pending", ..web() };
    store.pod_is(pending.wire(20));
    store.pod_was(pending.wire(21));
    assert_eq!((store.carried().len(), all_seen(&mut store)), (0, vec![]));
}

#[test]
fn a_finished_pod_that_departs_is_carried_where_finished_pods_are_reported() {
    let mut store = Store::new(super::objects::rules());
    store.rules.reports_finished = true;
    store.namespace_is(&namespace("shop", 1, 10), None);
    list_pods(&mut store, &[(&web().finished(), 20)]);
    list_pods(&mut store, &[]);
    assert_eq!(accept(&mut store), [web().finished().seen(1)]);
    assert_eq!(all_seen(&mut store), []);
}

#[test]
fn an_update_of_the_image_in_place_shows_both_images_once() {
    let mut store = shop();
    store.pod_is(web().wire(20));
    // The kubelet has not started the new one yet: spec and status differ.
    let mut ahead = web();
    ahead.containers[0].1 = "app:2".to_owned();
    store.pod_is(ahead.wire(21));
    assert_eq!(all_seen(&mut store), [ran(&web())], "what runs is still the old one");
    store.pod_is(web().updated_to("app:2").wire(22));
    let both = SeenPod {
        containers: [web().updated_to("app:2").seen(1).containers, web().seen(1).containers].concat(),
        ..ran(&web())
    };
    assert_eq!(store.carried().len(), 1);
    assert_eq!(accept(&mut store), [both]);
    assert_eq!(all_seen(&mut store), [web().updated_to("app:2").seen(1)]);
}

#[test]
fn a_container_that_restarts_is_another_one_only_if_its_tag_was_moved() {
    let mut store = shop();
    store.pod_is(web().wire(20));
    let mut restarted = web();
    restarted.containers[0].2 = "containerd://second".to_owned();
    store.pod_is(restarted.wire(21));
    assert_eq!(store.carried().len(), 0);
    restarted.containers[0].2 = "containerd://third".to_owned();
    let mut moved = restarted.wire(22);
    if let Some(status) = &mut moved.status {
        status.container_statuses[0].image_id = "app:1@sha256:2".into();
    }
    store.pod_is(moved);
    let [pod] = all_seen(&mut store).try_into().expect("one pod");
    assert_eq!(pod.containers, ["containerd://third app:1", "containerd://second app:1"]);
}

#[test]
fn a_pod_that_was_created_again_is_another_one() {
    for by_list in [false, true] {
        let mut store = shop();
        store.pod_is(web().wire(20));
        let second = PodState::running("shop", "web", 8, "app:2");
        if by_list {
            list_pods(&mut store, &[(&second, 25)]);
        } else {
            store.pod_was(web().wire(21));
            store.pod_is(second.wire(22));
        }
        // News of the first one that come late.
        store.pod_is(web().wire(19));
        store.pod_was(web().wire(21));
        assert_eq!(all_seen(&mut store), [ran(&web()), second.seen(1)]);
    }
}

#[test]
fn a_namespace_that_was_created_again_is_reported_beside_the_former_one() {
    let mut store = shop();
    let second = PodState::running("shop", "web", 8, "app:2");
    store.pod_is(web().wire(20));
    store.pod_was(web().wire(21));
    // The watch of pods is ahead of that of namespaces.
    store.pod_is(second.wire(32));
    store.namespace_was(&namespace("shop", 1, 30));
    store.namespace_is(&namespace("shop", 2, 31), None);
    assert_eq!(all_seen(&mut store), [second.seen(2), ran(&web())]);
    let picture = picture_of(&mut store);
    let snapshot = picture.snapshot(None);
    let uids: Vec<_> = snapshot.namespaces.iter().map(|namespace| namespace.uid.expect("a uid").to_string()).collect();
    assert_eq!(uids.len(), 2);
    assert_ne!(snapshot.namespaces[0].name, snapshot.namespaces[1].name);
}

#[test]
fn two_former_namespaces_of_one_name_are_two() {
    let mut store = shop();
    store.pod_is(web().wire(20));
    store.namespace_was(&namespace("shop", 1, 30));
    store.namespace_is(&namespace("shop", 2, 31), None);
    let second = PodState::running("shop", "web", 8, "app:2");
    store.pod_is(second.wire(32));
    store.namespace_was(&namespace("shop", 2, 40));
    assert_eq!(all_seen(&mut store), [ran(&web()), second.seen(2)]);
}

#[test]
fn a_pod_that_comes_before_its_namespace_waits_for_it() {
    let mut store = Store::new(rules());
    store.pod_is(web().wire(20));
    assert_eq!(all_seen(&mut store), []);
    store.namespace_is(&namespace("shop", 1, 10), None);
    assert_eq!(all_seen(&mut store), [web().seen(1)]);
}

#[test]
fn departed_pods_whose_namespace_never_comes_are_given_up() {
    let mut store = Store::new(rules());
    store.pod_is(web().wire(20));
    store.pod_was(web().wire(21));
    for _ in 0..3 {
        assert_eq!((store.carried().len(), all_seen(&mut store)), (1, vec![]));
    }
    assert_eq!((store.carried().len(), store.carried().dropped()), (0, 1));
}

#[test]
fn carried_pods_have_a_bound_and_what_exceeds_it_is_counted() {
    let mut store = shop();
    for number in 0..10_002 {
        let pod = PodState::running("shop", "web", number, "app:1");
        store.pod_is(pod.wire(20 + 2 * number));
        store.pod_was(pod.wire(21 + 2 * number));
    }
    assert_eq!((store.carried().len(), store.carried().dropped()), (10_000, 2));
    accept(&mut store);
    assert_eq!(store.carried().len(), 0);
}

#[test]
fn each_account_settles_by_itself() {
    let mut store = shop();
    store.pod_is(web().wire(20));
    store.pod_was(web().wire(21));
    let picture = picture_of(&mut store);
    let ids: Vec<u64> = super::unrouted(&picture).map(|(id, _)| id).collect();
    store.carried().route(ids[0], &["a".into(), "b".into()].into());
    store.carried().settle("a", &ids);
    store.carried().settle("a", &ids);
    let picture = picture_of(&mut store);
    let pods = |account| super::objects::seen(&picture.snapshot(Some(account)));
    assert_eq!((pods("a"), pods("b")), (vec![], vec![ran(&web())]));
    store.carried().settle("b", &ids);
    assert_eq!(store.carried().len(), 0);
}

#[test]
fn a_pod_that_no_account_gets_is_not_carried_on() {
    let mut store = shop();
    store.pod_is(web().wire(20));
    store.pod_was(web().wire(21));
    store.carried().route(0, &std::collections::BTreeSet::new());
    assert_eq!(store.carried().len(), 0);
}

#[test]
fn nothing_is_said_of_a_namespace_while_one_of_its_pods_does_not_decode() {
    let unreadable = |store: &Store| store.unreadable().map(|one| one.namespace).collect::<Vec<_>>();
    let mut store = shop();
    store.pod_is_undecodable("shop", "web", "why".to_owned());
    store.pod_is_undecodable("unknown", "web", "why".to_owned());
    assert_eq!((unreadable(&store), all_seen(&mut store)), (vec!["shop".to_owned()], vec![]));
    store.pod_is(web().wire(20));
    assert_eq!((unreadable(&store), all_seen(&mut store)), (vec![], vec![web().seen(1)]));
}

#[test]
fn what_is_not_selected_is_not_kept() {
    let selectors = NamespaceSelectors { include: vec!["test".to_owned()], ..NamespaceSelectors::default() };
    let mut store = Store::new(crate::cluster::watch::store::StoreRules { selectors, ..rules() });
    store.namespace_is(&namespace("shop", 1, 10), None);
    store.pod_is(web().wire(20));
    store.pod_is_undecodable("shop", "web", "why".to_owned());
    assert_eq!((store.counts(), store.unreadable().count()), ([0; 4], 0));
}

#[test]
fn versions_that_cannot_be_compared_count_in_the_order_in_which_they_come() {
    let mut store = Store::new(rules());
    store.namespace_is(&namespace("shop", 1, 0), None);
    store.pod_is(web().wire(0));
    store.pod_is(web().finished().wire(0));
    store.pod_was(web().finished().wire(0));
    store.namespace_was(&namespace("shop", 1, 0));
    assert_eq!(accept(&mut store), [ran(&web())]);
    assert_eq!((all_seen(&mut store), store.counts()), (vec![], [0; 4]));
}

#[test]
fn nodes_that_could_not_be_listed_are_not_reported() {
    let mut store = shop();
    store.set_nodes(vec![wire::Node::default()], NodeAccess::Read);
    assert_eq!(store.counts()[3], 1);
    store.set_nodes(Vec::new(), NodeAccess::Failed("why".to_owned()));
    assert_eq!(store.counts()[3], 0);
}

#[test]
fn texts_of_what_is_gone_are_let_go() {
    let mut store = shop();
    let mut version = 20;
    let mut most = 0;
    for round in 0..100_u64 {
        let label = "x".repeat(1000);
        for number in 0..100 {
            let pod = PodState::running("shop", &format!("web-{number}"), round * 100 + number, "app:1");
            let pod = PodState { label: format!("{label}-{round}-{number}"), ..pod };
            version += 2;
            store.pod_is(pod.wire(version));
        }
        store.compact_when_due();
        accept(&mut store);
        most = most.max(store.tables.strings.byte_len());
    }
    // 10 MB of texts went by, of which 0.1 MB are in use and as much is carried.
    assert!(most < 2 * 1024 * 1024, "{most}");
    assert_eq!(store.counts()[1], 100);
}

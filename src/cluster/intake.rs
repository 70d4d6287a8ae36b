//! From what the API sends to what a snapshot keeps: objects are reduced here, one at a time, and dropped.

use std::collections::{HashMap, HashSet};
use std::marker::PhantomData;

use bytes::Bytes;

use super::list::{Intake, Mark};
use super::request::RequestError;
use super::snapshot::{Container, ContainerId, ImageFacts, Metadata, Namespace, Node, Pod, Uid, Unreadable};
use super::strings::{Strings, Symbol};
use super::wire::{self, Wire, as_text};
use crate::config::metadata::{MetadataCollection, MetadataFilter};
use crate::config::pattern::Pattern;
use crate::config::selectors::NamespaceSelectors;

/// Holds whole objects once more inside an annotation, passwords in environment variables included: reported only when
/// it is listed by its exact name.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The tables that all objects of a snapshot share.
pub(crate) struct Tables {
    pub(crate) strings: Strings,
    pub(crate) images: Vec<ImageFacts>,
    image_index: HashMap<ImageFacts, u32>,
    filters: Filters,
    /// Key of the label that routes namespaces to accounts.
    account_label_key: Option<String>,
    scope: Scope,
}

/// Whose pods are kept.
enum Scope {
    /// Those of namespaces that were found before.
    Found(HashSet<Symbol>),
    /// Those of all namespaces that may be selected, found or not; each name is decided once.
    Selectable { selectors: NamespaceSelectors, decided: HashMap<Symbol, bool> },
}

/// The metadata rules of each kind.
struct Filters {
    nodes: ObjectFilter,
    namespaces: ObjectFilter,
    pods: ObjectFilter,
}

struct ObjectFilter {
    labels: KeyFilter,
    annotations: KeyFilter,
}

/// Decides by key, each distinct key once: a cluster has a few hundred keys on hundreds of thousands of objects.
struct KeyFilter {
    rule: KeyRule,
    decided: HashMap<Symbol, bool>,
}

enum KeyRule {
    None,
    All,
    Listed(Vec<Pattern>),
}

impl Tables {
    pub(crate) fn new(metadata: &MetadataCollection, account_label_key: Option<&str>) -> Self {
        Self {
            strings: Strings::default(),
            images: Vec::new(),
            image_index: HashMap::new(),
            filters: Filters {
                nodes: ObjectFilter::new(&metadata.nodes),
                namespaces: ObjectFilter::new(&metadata.namespaces),
                pods: ObjectFilter::new(&metadata.pods),
            },
            account_label_key: account_label_key.map(str::to_owned),
            scope: Scope::Found(HashSet::new()),
        }
    }

    /// Keeps pods of all namespaces that `selectors` allow, also of those that are not known yet.
    pub(crate) fn selecting(mut self, selectors: &NamespaceSelectors) -> Self {
        self.scope = Scope::Selectable { selectors: selectors.clone(), decided: HashMap::new() };
        self
    }

    /// Pods of this namespace are kept from now on.
    pub(crate) fn select(&mut self, namespace: Symbol) {
        if let Scope::Found(found) = &mut self.scope {
            found.insert(namespace);
        }
    }

    /// Whether pods of this namespace are kept.
    pub(crate) fn has_selected(&self, namespace: &str) -> bool {
        match &self.scope {
            Scope::Found(found) => self.strings.find(namespace).is_some_and(|namespace| found.contains(&namespace)),
            Scope::Selectable { selectors, .. } => selectors.allow(namespace),
        }
    }

    /// The symbol of a namespace whose pods are kept.
    fn selected(&mut self, namespace: &str) -> Option<Symbol> {
        match &mut self.scope {
            Scope::Found(found) => self.strings.find(namespace).filter(|namespace| found.contains(namespace)),
            Scope::Selectable { selectors, decided } => {
                let symbol = self.strings.intern(namespace);
                decided.entry(symbol).or_insert_with(|| selectors.allow(namespace)).then_some(symbol)
            }
        }
    }

    pub(crate) fn namespace(&mut self, object: &wire::Namespace) -> Namespace {
        let absent = wire::ObjectMeta::default();
        let meta = object.metadata.as_ref().unwrap_or(&absent);
        let account_label = self.account_label_key.as_ref().and_then(|key| {
            let entry = meta.labels.iter().find(|entry| entry.key == key.as_bytes())?;
            Some(self.strings.intern(&as_text(&entry.value)))
        });
        Namespace {
            name: self.strings.intern(&as_text(&meta.name)),
            uid: Uid::parse(&as_text(&meta.uid)),
            labels: self.filters.namespaces.labels.keep(&meta.labels, &mut self.strings),
            annotations: self.filters.namespaces.annotations.keep(&meta.annotations, &mut self.strings),
            account_label,
        }
    }

    pub(crate) fn node(&mut self, object: wire::Node) -> Node {
        let meta = object.metadata.unwrap_or_default();
        let info = object.status.and_then(|status| status.node_info).unwrap_or_default();
        let strings = &mut self.strings;
        Node {
            name: strings.intern(&as_text(&meta.name)),
            uid: Uid::parse(&as_text(&meta.uid)),
            labels: self.filters.nodes.labels.keep(&meta.labels, strings),
            annotations: self.filters.nodes.annotations.keep(&meta.annotations, strings),
            arch: strings.intern(&as_text(&info.architecture)),
            container_runtime_version: strings.intern(&as_text(&info.container_runtime_version)),
            kernel_version: strings.intern(&as_text(&info.kernel_version)),
            kube_proxy_version: strings.intern(&as_text(&info.kube_proxy_version)),
            kubelet_version: strings.intern(&as_text(&info.kubelet_version)),
            operating_system: strings.intern(&as_text(&info.operating_system)),
        }
    }

    /// The pod, or `None` when its namespace is not selected (or newer than the list of namespaces).
    pub(crate) fn pod(&mut self, object: wire::Pod) -> Option<Pod> {
        let meta = object.metadata.unwrap_or_default();
        let namespace = self.selected(&as_text(&meta.namespace))?;
        let spec = object.spec.unwrap_or_default();
        let status = object.status.unwrap_or_default();
        let strings = &mut self.strings;
        Some(Pod {
            namespace,
            name: strings.intern(&as_text(&meta.name)),
            uid: Uid::parse(&as_text(&meta.uid)),
            node: (!spec.node_name.is_empty()).then(|| strings.intern(&as_text(&spec.node_name))),
            running: status.phase == "Running",
            labels: self.filters.pods.labels.keep(&meta.labels, strings),
            annotations: self.filters.pods.annotations.keep(&meta.annotations, strings),
            image_volumes: image_volumes(&spec.volumes, strings),
            containers: self.containers(&spec, &status),
        })
    }

    fn containers(&mut self, spec: &wire::PodSpec, status: &wire::PodStatus) -> Box<[Container]> {
        let ephemeral: Vec<wire::Container> =
            spec.ephemeral_containers.iter().filter_map(|container| container.common.clone()).collect();
        let kinds = [
            (spec.init_containers.as_slice(), status.init_container_statuses.as_slice()),
            (spec.containers.as_slice(), status.container_statuses.as_slice()),
            (ephemeral.as_slice(), status.ephemeral_container_statuses.as_slice()),
        ];
        let most = kinds.iter().map(|(specs, statuses)| specs.len().max(statuses.len())).sum();
        let mut containers = Vec::with_capacity(most);
        for (specs, statuses) in kinds {
            for spec in specs {
                // By name, not by position: statuses come in an order of their own.
                let status = statuses.iter().find(|status| status.name == spec.name);
                containers.push(self.container(Some(spec), status));
            }
            let unknown = statuses.iter().filter(|status| specs.iter().all(|spec| spec.name != status.name));
            containers.extend(unknown.map(|status| self.container(None, Some(status))));
        }
        containers.into_boxed_slice()
    }

    fn container(&mut self, spec: Option<&wire::Container>, status: Option<&wire::ContainerStatus>) -> Container {
        let absent = wire::ContainerStatus::default();
        let status = status.unwrap_or(&absent);
        let strings = &mut self.strings;
        let facts = ImageFacts {
            spec: spec.map(|spec| strings.intern(&as_text(&spec.image))),
            status: strings.intern(&as_text(&status.image)),
            image_id: strings.intern(&as_text(&status.image_id)),
        };
        Container {
            name: strings.intern(&as_text(spec.map_or(&status.name, |spec| &spec.name))),
            id: ContainerId::new(&as_text(&status.container_id), strings),
            image: self.image(facts),
        }
    }

    pub(crate) fn image(&mut self, facts: ImageFacts) -> u32 {
        *self.image_index.entry(facts).or_insert_with(|| {
            self.images.push(facts);
            // Each entry takes three symbols of 32 bits: there are never more entries than numbers.
            u32::try_from(self.images.len() - 1).unwrap_or(u32::MAX)
        })
    }
}

impl std::fmt::Debug for Tables {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tables").field("strings", &self.strings).finish_non_exhaustive()
    }
}

impl ObjectFilter {
    fn new(filter: &MetadataFilter) -> Self {
        let rule = |patterns: &[Pattern]| match patterns {
            _ if filter.disable => KeyRule::None,
            [] => KeyRule::All,
            patterns => KeyRule::Listed(patterns.to_vec()),
        };
        Self { labels: KeyFilter::new(rule(&filter.labels)), annotations: KeyFilter::new(rule(&filter.annotations)) }
    }
}

impl KeyFilter {
    fn new(rule: KeyRule) -> Self {
        Self { rule, decided: HashMap::new() }
    }

    fn keep(&mut self, entries: &[wire::Entry], strings: &mut Strings) -> Metadata {
        if matches!(self.rule, KeyRule::None) {
            return Metadata::default();
        }
        let mut kept: Vec<(Symbol, Symbol)> = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = strings.intern(&as_text(&entry.key));
            if *self.decided.entry(key).or_insert_with(|| self.rule.keeps(strings.get(key))) {
                kept.push((key, strings.intern(&as_text(&entry.value))));
            }
        }
        // A map in protobuf may name a key twice; the last one counts. The sort is stable and the first of equals stays.
        kept.reverse();
        kept.sort_by(|(a, _), (b, _)| strings.get(*a).cmp(strings.get(*b)));
        kept.dedup_by_key(|(key, _)| *key);
        kept.into_boxed_slice()
    }
}

impl KeyRule {
    fn keeps(&self, key: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => key != LAST_APPLIED,
            Self::Listed(patterns) if key == LAST_APPLIED => {
                patterns.iter().any(|pattern| matches!(pattern, Pattern::Exact(name) if name == key))
            }
            Self::Listed(patterns) => patterns.iter().any(|pattern| pattern.matches(key)),
        }
    }
}

/// Takes objects of one kind as `reduce` leaves them.
pub(crate) struct Kept<O, K, F: FnMut(O) -> Option<K>> {
    pub(crate) objects: Vec<K>,
    pub(crate) undecodable: Vec<Unreadable>,
    reduce: F,
    object: PhantomData<O>,
}

impl<O, K, F: FnMut(O) -> Option<K>> Kept<O, K, F> {
    pub(crate) fn new(reduce: F) -> Self {
        Self { objects: Vec::new(), undecodable: Vec::new(), reduce, object: PhantomData }
    }
}

impl<O: Wire, K, F: FnMut(O) -> Option<K>> Intake for Kept<O, K, F> {
    type Object = O;

    fn take(&mut self, object: O) {
        self.objects.extend((self.reduce)(object));
    }

    fn undecodable(&mut self, namespace: &str, _name: &str, reason: String) -> Result<(), RequestError> {
        if namespace.is_empty() {
            return Err(RequestError::Malformed(reason));
        }
        self.undecodable.push(Unreadable { namespace: namespace.to_owned(), reason });
        Ok(())
    }

    fn mark(&self) -> Mark {
        Mark { objects: self.objects.len(), undecodable: self.undecodable.len() }
    }

    fn take_back(&mut self, mark: Mark) {
        self.objects.truncate(mark.objects);
        self.undecodable.truncate(mark.undecodable);
    }
}

fn image_volumes(volumes: &[wire::Volume], strings: &mut Strings) -> Box<[Symbol]> {
    let reference = |volume: &wire::Volume| -> Option<Bytes> {
        let image = volume.source.as_ref()?.image.as_ref()?;
        (!image.reference.is_empty()).then(|| image.reference.clone())
    };
    volumes.iter().filter_map(reference).map(|reference| strings.intern(&as_text(&reference))).collect()
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;
    use serde_json::json;

    use super::*;

    fn wire<T: wire::Wire>(value: &serde_json::Value) -> T {
        wire::decode_item(value.to_string().into(), wire::Encoding::Json).expect("decodes")
    }

    fn tables_for(pods: MetadataFilter) -> Tables {
        let mut tables = Tables::new(&MetadataCollection { pods, ..MetadataCollection::default() }, Some("team"));
        let shop = tables.namespace(&wire(&json!({"metadata": {"name": "shop", "labels": {"team": "blue"}}})));
        tables.select(shop.name);
        tables
    }

    fn pod(tables: &mut Tables, value: &serde_json::Value) -> Pod {
        tables.pod(wire(value)).expect("selected")
    }

    fn texts(metadata: &Metadata, tables: &Tables) -> Vec<(String, String)> {
        let text = |symbol: Symbol| tables.strings.get(symbol).to_owned();
        metadata.iter().map(|&(key, value)| (text(key), text(value))).collect()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    fn annotated(filter: MetadataFilter, annotations: &serde_json::Value) -> Vec<(String, String)> {
        let mut tables = tables_for(filter);
        let object = json!({"metadata": {"name": "web", "namespace": "shop", "annotations": annotations}});
        let kept = pod(&mut tables, &object);
        texts(&kept.annotations, &tables)
    }

    #[test]
    fn containers_are_paired_by_name_and_ordered_by_kind() {
        let mut tables = tables_for(MetadataFilter::default());
        let status =
            |name: &str| json!({"name": name, "image": format!("{name}:s"), "containerID": format!("x://{name}")});
        let kept = pod(
            &mut tables,
            &json!({
                "metadata": {"name": "web", "namespace": "shop"},
                "spec": {
                    "containers": [{"name": "b", "image": "b:1"}, {"name": "a", "image": "a:1"}],
                    "initContainers": [{"name": "init", "image": "init:1"}],
                    "ephemeralContainers": [{"name": "debug", "image": "debug:1"}],
                },
                "status": {
                    "containerStatuses": [status("gone"), status("a"), status("b")],
                    "initContainerStatuses": [status("init")],
                    "ephemeralContainerStatuses": [status("debug")],
                },
            }),
        );
        let facts: Vec<(&str, Option<&str>, &str)> = kept
            .containers
            .iter()
            .map(|container| {
                let facts = tables.images[container.image as usize];
                let spec = facts.spec.map(|spec| tables.strings.get(spec));
                (tables.strings.get(container.name), spec, tables.strings.get(facts.status))
            })
            .collect();
        assert_eq!(
            facts,
            [
                ("init", Some("init:1"), "init:s"),
                ("b", Some("b:1"), "b:s"),
                ("a", Some("a:1"), "a:s"),
                ("gone", None, "gone:s"),
                ("debug", Some("debug:1"), "debug:s"),
            ]
        );
    }

    #[test]
    fn pods_of_namespaces_that_are_not_selected_are_left_out() {
        let mut tables = tables_for(MetadataFilter::default());
        let elsewhere = json!({"metadata": {"name": "web", "namespace": "newer-than-the-list"}});
        assert!(tables.pod(wire(&elsewhere)).is_none());
    }

    #[test]
    fn last_applied_configuration_is_kept_only_by_its_exact_name() {
        let both = json!({LAST_APPLIED: "{…}", "note": "x"});
        let listed = |pattern: Pattern| MetadataFilter { annotations: vec![pattern], ..MetadataFilter::default() };
        let regex = Pattern::Regex(regex::Regex::new(".*").expect("valid"));
        assert_eq!(annotated(MetadataFilter::default(), &both), [pair("note", "x")]);
        assert_eq!(annotated(listed(regex), &both), [pair("note", "x")]);
        assert_eq!(annotated(listed(Pattern::Exact(LAST_APPLIED.to_owned())), &both), [pair(LAST_APPLIED, "{…}")]);
    }

    #[test]
    fn disabled_metadata_is_not_kept() {
        let filter = MetadataFilter { disable: true, ..MetadataFilter::default() };
        assert_eq!(annotated(filter, &json!({"note": "x"})), []);
    }

    #[test]
    fn d34_the_routing_label_is_read_before_labels_are_filtered() {
        let disabled = MetadataFilter { disable: true, ..MetadataFilter::default() };
        let rules = MetadataCollection { namespaces: disabled, ..MetadataCollection::default() };
        let mut tables = Tables::new(&rules, Some("team"));
        let kept = tables.namespace(&wire(&json!({"metadata": {"name": "shop", "labels": {"team": "blue"}}})));
        assert_eq!(kept.account_label.map(|label| tables.strings.get(label)), Some("blue"));
        assert_eq!(texts(&kept.labels, &tables), []);
    }

    #[test]
    fn equal_image_facts_are_kept_once() {
        let mut tables = tables_for(MetadataFilter::default());
        for name in ["one", "two"] {
            pod(
                &mut tables,
                &json!({
                    "metadata": {"name": name, "namespace": "shop"},
                    "spec": {"containers": [{"name": name, "image": "nginx:1"}]},
                }),
            );
        }
        assert_eq!(tables.images.len(), 1);
    }
}

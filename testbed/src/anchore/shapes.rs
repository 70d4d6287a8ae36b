//! The schemas of what an agent sends, as Anchore Enterprise publishes them.

use super::schema::{Field, Rule, optional, required};

/// `POST …/kubernetes-inventory`.
pub(crate) static REPORT: Rule = Rule::Object(&[
    required("cluster_name", Rule::Text),
    required("timestamp", Rule::Timestamp),
    optional("namespaces", Rule::List(&Rule::Object(NAMESPACE))),
    optional("nodes", Rule::List(&Rule::Object(NODE))),
    optional("pods", Rule::List(&Rule::Object(POD))),
    optional("containers", Rule::List(&Rule::Object(CONTAINER))),
]);

/// `POST …/system/integrations/registration`.
pub(crate) static REGISTRATION: Rule = Rule::Object(&[
    required("registration_id", Rule::Text),
    required("registration_instance_id", Rule::Text),
    required("type", INTEGRATION_TYPE),
    required("username", Rule::Text),
    required("health_report_interval", HEALTH_REPORT_INTERVAL),
    optional("name", Rule::Text),
    optional("description", Rule::Text),
    optional("version", Rule::Text),
    optional("started_at", Rule::Timestamp),
    optional("uptime", Rule::Number),
    optional("cluster_name", Rule::Text),
    optional("namespace", Rule::Text),
    optional("explicitly_account_bound", TEXTS),
    optional("namespaces", TEXTS),
    optional("configuration", Rule::AnyObject),
]);

/// `POST …/system/integrations/{uuid}/health-report`.
pub(crate) static HEALTH_REPORT: Rule = Rule::Object(&[
    required("uuid", Rule::Text),
    required("protocol_version", Rule::Integer(1, 1)),
    required("timestamp", Rule::Timestamp),
    required("uptime", Rule::Number),
    required("health_report_interval", HEALTH_REPORT_INTERVAL),
    required(
        "health_data",
        Rule::Object(&[
            required("type", INTEGRATION_TYPE),
            required("version", Rule::Integer(1, 1)),
            optional("errors", TEXTS),
            optional("account_k8s_inventory_reports", Rule::Map(&Rule::Object(REPORT_INFO))),
        ]),
    ),
]);

const TEXTS: Rule = Rule::List(&Rule::Text);
const METADATA: Rule = Rule::Map(&Rule::Text);
const INTEGRATION_TYPE: Rule = Rule::OneOf(&["k8s_inventory_agent"]);
const HEALTH_REPORT_INTERVAL: Rule = Rule::Integer(30, 600);

const NAMESPACE: &[Field] = &[
    required("uid", Rule::Uuid),
    required("name", Rule::Text),
    optional("labels", METADATA),
    optional("annotations", METADATA),
];

const NODE: &[Field] = &[
    required("uid", Rule::Uuid),
    required("name", Rule::Text),
    optional("labels", METADATA),
    optional("annotations", METADATA),
    optional("arch", Rule::Text),
    optional("container_runtime_version", Rule::Text),
    optional("kernel_version", Rule::Text),
    optional("kube_proxy_version", Rule::Text),
    optional("kubelet_version", Rule::Text),
    optional("kubernetes_version", Rule::Text),
    optional("operating_system", Rule::Text),
];

const POD: &[Field] = &[
    required("uid", Rule::Uuid),
    required("name", Rule::Text),
    required("namespace_uid", Rule::Uuid),
    optional("node_uid", Rule::Uuid),
    optional("labels", METADATA),
    optional("annotations", METADATA),
];

const CONTAINER: &[Field] = &[
    required("id", Rule::Text),
    required("name", Rule::Text),
    required("image_tag", Rule::NonBlank),
    optional("image_digest", Rule::Text),
    required("pod_uid", Rule::Uuid),
];

const REPORT_INFO: &[Field] = &[
    required("report_timestamp", Rule::Text),
    required("account_name", Rule::Text),
    required("sent_as_user", Rule::Text),
    required("batch_size", Rule::Integer(1, i64::MAX)),
    required("last_successful_index", Rule::Integer(-1, i64::MAX)),
    required("has_errors", Rule::Flag),
    required(
        "batches",
        Rule::List(&Rule::Object(&[
            required("batch_index", Rule::Integer(1, i64::MAX)),
            required("send_timestamp", Rule::Timestamp),
            optional("error", Rule::Text),
        ])),
    ),
];

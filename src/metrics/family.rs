//! Metrics with their documentation: what is registered is what the table in docs/operations.md says.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::label::Label;

/// What the names of all own metrics begin with.
const PREFIX: &str = "anchore_k8s_inventory";

/// Names and values of labels.
pub(super) type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// A whole number that goes up and down.
pub(super) type Count = gauge::Gauge<u64, AtomicU64>;

/// Seconds.
pub(super) type Seconds = gauge::Gauge<f64, AtomicU64>;

/// One metric for each value of a label.
#[derive(Debug, Clone)]
pub(super) struct Each<L, M> {
    family: Family<Labels, M>,
    label: PhantomData<L>,
}

impl<L: Label, M: Default + Clone> Each<L, M> {
    /// The one of this value.
    pub(super) fn of(&self, value: L) -> M {
        self.family.get_or_create_owned(&vec![(L::NAME, value.name().into())])
    }

    fn with_all_values(self) -> Self {
        for value in L::ALL {
            self.of(*value);
        }
        self
    }
}

/// One metric for each pair of values of two labels.
#[derive(Debug, Clone)]
pub(super) struct EachPair<L, K, M> {
    family: Family<Labels, M>,
    labels: PhantomData<(L, K)>,
}

impl<L: Label, K: Label, M: Default + Clone> EachPair<L, K, M> {
    /// The one of these values.
    pub(super) fn of(&self, one: L, other: K) -> M {
        self.family.get_or_create_owned(&vec![(L::NAME, one.name().into()), (K::NAME, other.name().into())])
    }

    fn with_all_values(self) -> Self {
        for (one, other) in L::ALL.iter().flat_map(|one| K::ALL.iter().map(move |other| (one, other))) {
            self.of(*one, *other);
        }
        self
    }
}

/// A moment that may not have come yet: then there is no sample, which no alert mistakes for the year 1970.
#[derive(Debug, Clone, Default)]
pub(super) struct Moment(Family<Labels, Seconds>);

impl Moment {
    pub(super) fn set(&self, moment: Option<Timestamp>) {
        match moment {
            Some(moment) => {
                self.0.get_or_create(&Labels::new()).set(seconds(moment));
            }
            None => {
                self.0.remove(&Labels::new());
            }
        }
    }
}

/// Seconds since 1970, with fractions.
pub(super) fn seconds(moment: Timestamp) -> f64 {
    moment.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

/// How a metric is declared: its name without prefix, unit and `_total`, its unit, and what it means.
pub(super) type Declaration = (&'static str, Option<Unit>, &'static str);

/// A metric as it is documented.
struct Row {
    name: String,
    kind: &'static str,
    labels: String,
    unit: &'static str,
    meaning: &'static str,
}

/// Registers metrics and keeps how they are documented.
pub(super) struct Registrar {
    rows: Vec<Row>,
    standard: Registry,
    own: Registry,
}

/// All metrics that were registered.
pub(super) struct Registries {
    standard: Registry,
    own: Registry,
}

impl Registries {
    /// Their text.
    pub(super) fn encode(&self) -> Result<String, fmt::Error> {
        let mut encoded = String::new();
        text::encode_registry(&mut encoded, &self.standard)?;
        text::encode_registry(&mut encoded, &self.own)?;
        text::encode_eof(&mut encoded)?;
        Ok(encoded)
    }
}

impl Default for Registrar {
    fn default() -> Self {
        Self { rows: Vec::new(), standard: Registry::default(), own: Registry::with_prefix(PREFIX) }
    }
}

impl Registrar {
    /// A metric without labels.
    pub(super) fn one<M: Metric + Default + Clone>(&mut self, declaration: Declaration) -> M {
        self.register(declaration, String::new(), M::default())
    }

    /// A moment.
    pub(super) fn moment(&mut self, declaration: Declaration) -> Moment {
        let moment = Moment::default();
        self.register(declaration, String::new(), moment.0.clone());
        moment
    }

    /// One metric for each value of a label, all there from the start.
    pub(super) fn each<L: Label, M>(&mut self, declaration: Declaration) -> Each<L, M>
    where
        M: Default + Clone,
        Family<Labels, M>: Metric,
    {
        self.each_later(declaration).with_all_values()
    }

    /// One metric for each value of a label, there once they are known.
    pub(super) fn each_later<L: Label, M>(&mut self, declaration: Declaration) -> Each<L, M>
    where
        M: Default + Clone,
        Family<Labels, M>: Metric,
    {
        let family = self.register(declaration, documented::<L>(), Family::default());
        Each { family, label: PhantomData }
    }

    /// One metric for each pair of values of two labels, all there from the start.
    pub(super) fn each_pair<L: Label, K: Label, M>(&mut self, declaration: Declaration) -> EachPair<L, K, M>
    where
        M: Default + Clone,
        Family<Labels, M>: Metric,
    {
        let labels = format!("{}; {}", documented::<L>(), documented::<K>());
        let family = self.register(declaration, labels, Family::default());
        EachPair { family, labels: PhantomData }.with_all_values()
    }

    /// A metric with labels of its own.
    pub(super) fn register<M: Metric + Clone>(&mut self, declaration: Declaration, labels: String, metric: M) -> M {
        self.add(declaration, labels, metric.clone());
        metric
    }

    /// A metric that never changes, or is changed elsewhere.
    pub(super) fn add(&mut self, (name, unit, meaning): Declaration, labels: String, metric: impl Metric) {
        let (kind, suffix) = match EncodeMetric::metric_type(&metric) {
            MetricType::Counter => ("counter", "_total"),
            MetricType::Info => ("info", "_info"),
            _ => ("gauge", ""),
        };
        let (unit_suffix, unit_name) = match &unit {
            Some(Unit::Bytes) => ("_bytes", "bytes"),
            Some(Unit::Seconds) => ("_seconds", "seconds"),
            _ => ("", ""),
        };
        let documented = format!("{PREFIX}_{name}{unit_suffix}{suffix}");
        self.rows.push(Row { name: documented, kind, labels, unit: unit_name, meaning });
        match unit {
            Some(unit) => self.own.register_with_unit(name, meaning, unit, metric),
            None => self.own.register(name, meaning, metric),
        }
    }

    /// Metrics that every program has, under the names that they have everywhere.
    pub(super) fn standard(
        &mut self,
        rows: &[(&'static str, &'static str, &'static str, &'static str)],
        collector: Box<dyn Collector>,
    ) {
        for (name, kind, unit, meaning) in rows {
            self.rows.push(Row { name: (*name).to_owned(), kind, labels: String::new(), unit, meaning });
        }
        self.standard.register_collector(collector);
    }

    /// All of them, and the table of them in Markdown.
    pub(super) fn finish(self) -> (Registries, String) {
        let mut table = "| name | type | labels | unit | meaning |\n|---|---|---|---|---|\n".to_owned();
        for Row { name, kind, labels, unit, meaning } in &self.rows {
            // Writing into a text does not fail.
            let _ = writeln!(table, "| `{name}` | {kind} | {labels} | {unit} | {meaning}. |");
        }
        (Registries { standard: self.standard, own: self.own }, table)
    }
}

/// A label and its values, for the table.
fn documented<L: Label>() -> String {
    let values: Vec<String> = L::ALL.iter().map(|value| format!("`{}`", value.name())).collect();
    format!("`{}`: {}", L::NAME, values.join(", "))
}

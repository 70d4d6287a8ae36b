//! What this process takes, under the names that Prometheus' own libraries give it. Read where Linux tells it, when it
//! is asked for; elsewhere these metrics are absent.

use std::fmt;
use std::fs;

use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::family::seconds;

/// Clock ticks in a second, as Linux shows them on every processor in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// Name, type, unit and meaning of each.
pub(super) const DOCUMENTATION: [(&str, &str, &str, &str); 3] = [
    ("process_start_time_seconds", "gauge", "seconds", "When the process started"),
    ("process_cpu_seconds_total", "counter", "seconds", "Time on a processor, of the program and of the system for it"),
    ("process_resident_memory_bytes", "gauge", "bytes", "Memory in use"),
];

/// Reads when asked.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) started: Timestamp,
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let [started, cpu, memory] = DOCUMENTATION;
        let mut add = |name: &str, meaning: &str, metric: &dyn EncodeMetric| {
            // The encoder adds the suffix of counters itself, and a full stop only to what it registers.
            let name = name.trim_end_matches("_total");
            let meaning = format!("{meaning}.");
            metric.encode(encoder.encode_descriptor(name, &meaning, None, metric.metric_type())?)
        };
        add(started.0, started.3, &ConstGauge::new(seconds(self.started)))?;
        if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().and_then(|stat| cpu_seconds(&stat)) {
            add(cpu.0, cpu.3, &ConstCounter::new(seconds))?;
        }
        if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_bytes(&status)) {
            add(memory.0, memory.3, &ConstGauge::new(bytes))?;
        }
        Ok(())
    }
}

/// From `/proc/PID/stat`: the 14th and 15th field. The second is a name in parentheses that may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11).map(|ticks| ticks.parse::<u32>().ok());
    let (user, system) = (fields.next()??, fields.next()??);
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

/// From `/proc/PID/status`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn processor_time_is_read_past_any_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20 0 1 0 100 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        for broken in ["", "12 (a", "12 (a) S 1 2", "12 (a) S 1 2 3 4 5 6 7 8 9 10 x 50"] {
            assert_eq!(cpu_seconds(broken), None, "{broken}");
        }
    }

    #[test]
    fn memory_is_read_by_its_name() {
        assert_eq!(resident_bytes("VmPeak:\t  9 kB\nVmRSS:\t   2048 kB\nThreads:\t1\n"), Some(2_097_152));
        for broken in ["", "VmRSS: 5 MB", "VmRSS: x kB", "VmRSS: 18446744073709551615 kB"] {
            assert_eq!(resident_bytes(broken), None, "{broken}");
        }
    }
}

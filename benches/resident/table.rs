//! What is printed.

/// What was measured at one size.
pub(crate) struct Table {
    pods: usize,
    rows: Vec<Row>,
}

struct Row {
    what: String,
    measured: String,
    target: String,
    /// `None`: there is no target.
    is_met: Option<bool>,
}

impl Table {
    pub(crate) fn new(pods: usize) -> Self {
        Self { pods, rows: Vec::new() }
    }

    /// Something that is good to know.
    pub(crate) fn tell(&mut self, what: &str, measured: impl Into<String>) {
        self.push(what, measured.into(), String::new(), None);
    }

    /// Something that has to be `limit` at most.
    pub(crate) fn at_most(&mut self, what: &str, measured: f64, limit: f64, unit: &str) {
        self.push(what, format!("{measured:.2} {unit}"), format!("<= {limit:.2} {unit}"), Some(measured <= limit));
    }

    fn push(&mut self, what: &str, measured: String, target: String, is_met: Option<bool>) {
        // At once, as a run takes a quarter of an hour.
        println!("    {what}: {measured}");
        self.rows.push(Row { what: what.to_owned(), measured, target, is_met });
    }

    pub(crate) fn print(&self) {
        println!("\n{} pods", self.pods);
        let width = |of: fn(&Row) -> usize| self.rows.iter().map(of).max().unwrap_or_default();
        let (what, measured, target) =
            (width(|row| row.what.len()), width(|row| row.measured.len()), width(|row| row.target.len()));
        for row in &self.rows {
            let verdict = match row.is_met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "",
            };
            println!("  {:what$}  {:>measured$}  {:>target$}  {verdict}", row.what, row.measured, row.target);
        }
        println!();
    }
}

pub(crate) fn print_machine() {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{cpus} CPUs,{}; load {}", model.trim_start_matches(['\t', ':']), load.trim());
}

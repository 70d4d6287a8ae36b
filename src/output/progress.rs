//! Standard error as a person sees it: one line at the bottom that tells how far collecting is, log lines above it.
//!
//! The line is drawn on a terminal only. Everything that writes to standard error while the line may be there goes
//! through [`Console`], so that neither tears the other. A closed or failing standard error is nobody's failure:
//! what cannot be shown is dropped.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::cluster::progress::{Counts, Progress};

/// How often the line is drawn anew.
const REFRESH: Duration = Duration::from_millis(100);

/// Standard error. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Console {
    shows_progress: bool,
    line: Arc<Mutex<Option<ProgressBar>>>,
}

/// A progress line; dropping it takes the line away.
#[derive(Debug)]
#[must_use = "the line disappears when this is dropped"]
pub struct ProgressLine {
    console: Console,
}

impl Console {
    /// The process's standard error. Progress is drawn where that is a terminal.
    pub fn new() -> Self {
        Self { shows_progress: true, line: Arc::default() }
    }

    /// Standard error without progress, for quiet runs.
    pub fn without_progress() -> Self {
        Self { shows_progress: false, ..Self::new() }
    }

    /// Draws a line that follows `progress` until it is dropped. There is one line; a second one replaces it.
    pub fn follow(&self, progress: Arc<Progress>) -> ProgressLine {
        let target = if self.shows_progress { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        self.follow_on(target, progress)
    }

    /// Writes whole lines to standard error, above the progress line.
    pub fn write_all(&self, text: &[u8]) -> io::Result<()> {
        let write = || io::stderr().lock().write_all(text);
        match self.line().as_ref() {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn follow_on(&self, target: ProgressDrawTarget, progress: Arc<Progress>) -> ProgressLine {
        if !target.is_hidden() {
            let bar = ProgressBar::with_draw_target(None, target).with_style(style(progress));
            bar.enable_steady_tick(REFRESH);
            *self.line() = Some(bar);
        }
        ProgressLine { console: self.clone() }
    }

    fn line(&self) -> MutexGuard<'_, Option<ProgressBar>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if let Some(bar) = self.console.line().take() {
            bar.finish_and_clear();
        }
    }
}

fn style(progress: Arc<Progress>) -> ProgressStyle {
    let counts = move |_: &ProgressState, line: &mut dyn fmt::Write| {
        let _ = line.write_str(&describe(progress.counts()));
    };
    // A template that cannot be read would be drawn as the plain spinner; a test sees that this one can.
    let spinner = ProgressStyle::default_spinner();
    spinner.clone().template("{spinner} {counts} in {elapsed}").unwrap_or(spinner).with_key("counts", counts)
}

/// `500 namespaces, 10,000 pods, 20 pages, 48.2 MiB`; what is not known yet is left out.
fn describe(counts: Counts) -> String {
    let mut text = String::new();
    for (count, one, many) in
        [(counts.namespaces, "namespace", "namespaces"), (counts.pods, "pod", "pods"), (counts.pages, "page", "pages")]
    {
        if count > 0 {
            let _ = write!(text, "{} {}, ", HumanCount(count), if count == 1 { one } else { many });
        }
    }
    let _ = write!(text, "{}", HumanBytes(counts.bytes));
    text
}

#[cfg(test)]
mod tests {
    use indicatif::TermLike;
    use pretty_assertions::assert_eq;

    use super::*;

    fn counts() -> Counts {
        Counts { namespaces: 0, pods: 0, pages: 0, requests: 0, bytes: 0 }
    }

    #[test]
    fn a_line_tells_namespaces_pods_pages_and_bytes() {
        let counts = Counts { namespaces: 500, pods: 10_000, pages: 20, requests: 23, bytes: 50 << 20 };

        assert_eq!(describe(counts), "500 namespaces, 10,000 pods, 20 pages, 50.00 MiB");
    }

    #[test]
    fn one_of_a_kind_is_singular_and_none_is_left_out() {
        assert_eq!(describe(Counts { pods: 1, bytes: 900, ..counts() }), "1 pod, 900 B");
        assert_eq!(describe(counts()), "0 B");
    }

    #[test]
    fn the_line_shows_the_counters_until_it_is_dropped() {
        let terminal = Recording::default();
        let progress = Arc::new(Progress::default());
        progress.selected(3);
        let console = Console::new();

        let line = console.follow_on(ProgressDrawTarget::term_like(Box::new(terminal.clone())), progress);
        console.line().as_ref().unwrap().force_draw();
        let shown = terminal.take();
        drop(line);

        assert!(shown.contains("3 namespaces, 0 B in 0s"), "{shown:?}");
        assert!(terminal.take().contains("<clear line>"));
        assert!(console.line().is_none());
    }

    #[test]
    fn a_log_line_takes_the_progress_line_away_and_brings_it_back() {
        let terminal = Recording::default();
        let console = Console::new();
        let target = ProgressDrawTarget::term_like(Box::new(terminal.clone()));
        let _line = console.follow_on(target, Arc::default());
        console.line().as_ref().unwrap().force_draw();
        terminal.take();

        console.write_all(b"").unwrap();

        let told = terminal.take();
        let (cleared, drawn) = (told.find("<clear line>"), told.rfind("0 B in 0s"));
        assert!(cleared.is_some() && cleared < drawn, "{told:?}");
    }

    #[test]
    fn a_quiet_run_has_no_line() {
        let console = Console::without_progress();

        let _line = console.follow(Arc::default());

        assert!(console.line().is_none());
    }

    /// A terminal that keeps what it is told.
    #[derive(Debug, Clone, Default)]
    struct Recording {
        told: Arc<Mutex<String>>,
    }

    impl Recording {
        fn take(&self) -> String {
            std::mem::take(&mut self.told.lock().unwrap())
        }

        #[expect(clippy::unnecessary_wraps, reason = "the trait's methods return it")]
        fn tell(&self, text: &str) -> io::Result<()> {
            self.told.lock().unwrap().push_str(text);
            Ok(())
        }
    }

    impl TermLike for Recording {
        fn width(&self) -> u16 {
            80
        }
        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, text: &str) -> io::Result<()> {
            self.tell(text)
        }
        fn write_str(&self, text: &str) -> io::Result<()> {
            self.tell(text)
        }
        fn clear_line(&self) -> io::Result<()> {
            self.tell("<clear line>")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }
}

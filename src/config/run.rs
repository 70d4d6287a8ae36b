//! `mode`, `polling-interval-seconds`, `verbose-inventory-reports`, and keys that have no effect any more.

use std::time::Duration;

use super::Mode;
use super::key::{Boolean, Choice, Integer, Key, Section, Text};
use super::reader::Reader;

const MODE: Key<Choice<Mode>> = Key::new(
    "mode",
    Choice { default: ("adhoc", Mode::Adhoc), words: &[("adhoc", Mode::Adhoc), ("periodic", Mode::Periodic)] },
    "`adhoc` collects and reports once; `periodic` does so again and again.",
);

const POLLING_INTERVAL: Key<Integer> = Key::new(
    "polling-interval-seconds",
    Integer { default: 300, min: 1, max: 31_536_000 },
    "Seconds from one report to the next, in periodic mode.",
);

const VERBOSE: Key<Boolean> = Key::new(
    "verbose-inventory-reports",
    Boolean { default: false },
    "Print every report that is sent, as it is sent.",
);

const OUTPUT: Key<Text> =
    Key::new("output", Text::UNSET, "Has no effect; `--output` exists on the command line only.").old();

const CHECK_FOR_UPDATE: Key<Text> =
    Key::new("check-for-app-update", Text::UNSET, "Has no effect; the program never looks for updates.").old();

const PROFILE_CPU: Key<Text> = Key::new("dev.profile-cpu", Text::UNSET, "Has no effect.").old();

/// What the keys of this file say.
pub(super) struct RunSettings {
    pub(super) mode: Mode,
    pub(super) polling_interval: Duration,
    pub(super) verbose_inventory_reports: bool,
}

pub(super) fn section() -> Section {
    Section {
        title: "What the program does",
        intro: "",
        rows: vec![
            MODE.into(),
            POLLING_INTERVAL.into(),
            VERBOSE.into(),
            OUTPUT.into(),
            CHECK_FOR_UPDATE.into(),
            PROFILE_CPU.into(),
        ],
    }
}

pub(super) fn read(reader: &mut Reader<'_>) -> RunSettings {
    if reader.is_set(&PROFILE_CPU) {
        reader.warning(&PROFILE_CPU, "has no effect", "Remove it");
    }
    RunSettings {
        mode: reader.choice(&MODE),
        polling_interval: Duration::from_secs(reader.integer(&POLLING_INTERVAL)),
        verbose_inventory_reports: reader.boolean(&VERBOSE),
    }
}

//! What waits on the disk, through ends, restarts and damage.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use pretty_assertions::assert_eq;
use rstest::rstest;
use testbed::anchore::{Enterprise, EnterpriseOptions};
use testbed::kubernetes::access::User;
use testbed::server::fault::{Answer, Fault, Requests};

use super::process::Resident;
use super::{Stage, V2, assert_in_order, enterprise_shows, times};

/// An agent whose reports nobody takes, which has ended without warning when at least one waits.
async fn left_behind(stage: &Stage) {
    stage.enterprise.inject(Requests::to(V2), Answer::status(503));
    let resident = stage.start();
    resident.logged("report not accepted yet").await;
    resident.logged_times("reports made", 2).await;
    let end = resident.kill().await;
    assert_eq!((end.code, end.signal), (None, Some(9)));
    stage.enterprise.clear_faults();
    assert_eq!(stage.spooled().len(), 2, "the one that is sent, and the newest");
}

/// The body of a batch on the disk.
fn body_of(path: &Path) -> String {
    let bytes = fs::read(path).expect("read");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let start = text.find("{\"cluster_name\":").expect("a report");
    text[start..].to_owned()
}

fn time_of(path: &Path) -> String {
    let body = body_of(path);
    let (_, after) = body.split_once("\"timestamp\":\"").expect("a time");
    after.split('"').next().expect("a time").to_owned()
}

fn all_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { [all_files(&path), vec![path]].concat() } else { vec![path] }).collect()
}

#[tokio::test]
async fn f27_reports_wait_on_the_disk_until_they_are_accepted_and_leave_it_then() {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(V2), Answer::status(503));
    let resident = stage.start();
    resident.logged("gave way to newer ones").await;
    let waiting = stage.spooled();
    assert!((1..=3).contains(&waiting.len()), "{waiting:?}");

    stage.enterprise.clear_faults();
    stage.accepted(2).await;
    assert_eq!(resident.stop().await.code, Some(0));

    assert_in_order(&stage.enterprise);
    let left = stage.spooled();
    let accepted = times(&stage.enterprise, "admin");
    assert!(left.iter().all(|path| !accepted.contains(&time_of(path))), "{left:?}");
}

#[tokio::test]
async fn f29_what_an_agent_that_was_killed_has_left_is_sent_by_the_next_in_order() {
    let stage = Stage::new().await;
    left_behind(&stage).await;
    let left: Vec<String> = stage.spooled().iter().map(|path| time_of(path)).collect();
    let resident = stage.start();

    stage.accepted(4).await;

    assert!(resident.log().contains("reports of an earlier process wait to be sent batches=2"));
    let times = times(&stage.enterprise, "admin");
    assert_eq!(times[..2], left);
    assert_in_order(&stage.enterprise);
}

#[tokio::test]
async fn a_report_that_was_accepted_when_the_agent_was_killed_is_only_sent_again() {
    let stage = Stage::new().await;
    // The server takes it, and the answer never comes.
    stage.enterprise.inject(Requests::to(V2).first(1), Fault::stalls_after(0));
    let resident = stage.start();
    stage.accepted(1).await;
    resident.kill().await;
    let _next = stage.start();

    stage.accepted(3).await;

    assert_in_order(&stage.enterprise);
}

#[tokio::test]
async fn of_two_agents_with_one_folder_the_second_keeps_its_reports_in_memory() {
    let stage = Stage::new().await;
    let first = stage.start();
    first.logged("report accepted").await;
    let second = stage.start();

    second.logged("is in use by another process").await;
    second.logged("report accepted").await;
    second.measures("spool_memory_only", |memory| memory > 0.5).await;
    first.measures("spool_memory_only", |memory| memory < 0.5).await;

    assert_eq!(first.stop().await.code, Some(0));
    second.logged("unsent reports are kept on the disk again").await;
    assert_eq!(second.log().matches("kept in memory only").count(), 1, "said once");
}

#[tokio::test]
async fn f28_a_folder_that_cannot_be_used_costs_the_disk_alone_and_is_told_once() {
    let stage = Stage::new().await;
    let agent = stage.agent().file("a-file", "");
    let folder = agent.path("a-file/state");
    let resident = Resident::start(agent.set("state.directory", folder.to_str().expect("text")));

    stage.accepted(3).await;

    assert_eq!(resident.log().matches("unsent reports are kept in memory only").count(), 1);
    resident.measures("spool_memory_only", |memory| memory > 0.5).await;
    assert_eq!(resident.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn without_a_folder_the_newest_report_is_sent_when_anchore_is_back() {
    let stage = Stage::new().await;
    stage.enterprise.inject(Requests::to(V2), Answer::status(503));
    let agent = stage.agent().file("a-file", "");
    let folder = agent.path("a-file/state");
    let resident = Resident::start(agent.set("state.directory", folder.to_str().expect("text")));
    resident.logged("gave way to newer ones").await;

    stage.enterprise.clear_faults();
    stage.accepted(2).await;

    assert_in_order(&stage.enterprise);
}

#[rstest]
#[case::torn(|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2))]
#[case::empty(|bytes: &mut Vec<u8>| bytes.clear())]
#[case::flipped_in_its_body(|bytes: &mut Vec<u8>| { let at = bytes.len() - 40; bytes[at] ^= 1; })]
#[case::flipped_in_its_head(|bytes: &mut Vec<u8>| bytes[20] ^= 1)]
#[case::foreign(|bytes: &mut Vec<u8>| { *bytes = b"something else".to_vec(); })]
#[tokio::test]
async fn f28_a_damaged_file_is_put_aside_and_the_others_are_sent(#[case] damage: fn(&mut Vec<u8>)) {
    let stage = Stage::new().await;
    left_behind(&stage).await;
    let files = stage.spooled();
    let mut bytes = fs::read(&files[0]).expect("read");
    damage(&mut bytes);
    fs::write(&files[0], bytes).expect("written");
    let second = time_of(&files[1]);

    let resident = stage.start();
    stage.accepted(2).await;

    assert_eq!(times(&stage.enterprise, "admin")[0], second);
    let name = files[0].file_name().expect("a name");
    let aside = stage.state.path().join("spool/rejected").join(name);
    assert!(aside.exists() && !files[0].exists());
    resident.logged("unsent reports were dropped").await;
    assert_eq!(resident.log().matches("unsent reports were dropped").count(), 1);
}

#[tokio::test]
async fn files_of_others_and_of_an_interrupted_writing_do_no_harm() {
    let stage = Stage::new().await;
    left_behind(&stage).await;
    let folder = stage.state.path().join("spool");
    fs::write(folder.join("00000000000000000009-000001.report.partial"), "half").expect("written");
    fs::write(folder.join("notes.txt"), "mine").expect("written");
    fs::create_dir(folder.join("folder.report")).expect("made");

    let resident = stage.start();
    stage.accepted(3).await;

    assert!(!folder.join("00000000000000000009-000001.report.partial").exists());
    assert_eq!(fs::read_to_string(folder.join("notes.txt")).expect("left alone"), "mine");
    assert!(resident.log().contains("notes.txt"));
    assert_in_order(&stage.enterprise);
}

#[tokio::test]
async fn reports_for_another_address_are_dropped_and_counted() {
    let stage = Stage::new().await;
    left_behind(&stage).await;
    let other = Enterprise::start().await.expect("started");
    let resident = Resident::start(stage.agent().sends_to(&other));

    enterprise_shows(&other, "reports", |other| !other.accepted().is_empty()).await;

    resident.measures("reports_total{outcome=\"dropped\",account=\"admin\"}", |count| count > 1.5).await;
    assert!(resident.log().contains("anchore.url is"), "{}", resident.log());
    assert!(stage.enterprise.accepted().is_empty());
}

#[tokio::test]
async fn reports_of_another_cluster_name_are_dropped_and_counted() {
    let stage = Stage::new().await;
    left_behind(&stage).await;
    let resident = Resident::start(stage.agent().set("kubeconfig.cluster", "renamed"));

    stage.accepted(1).await;

    resident.measures("reports_total{outcome=\"dropped\",account=\"admin\"}", |count| count > 1.5).await;
    let clusters: Vec<String> = stage.enterprise.accepted().into_iter().map(|report| report.cluster).collect();
    assert!(clusters.iter().all(|cluster| cluster == "renamed"), "{clusters:?}");
}

#[tokio::test]
async fn files_are_readable_by_their_owner_alone_and_hold_no_secret() {
    const TOKEN: &str = "canary-token-91c2";
    const PASSWORD: &str = "canary-password-3f9a";
    let user = testbed::anchore::tenancy::User::of("admin", "sender", PASSWORD);
    let stage = Stage::for_user(User::reader("agent").token(TOKEN), EnterpriseOptions::default().user(user)).await;
    stage.enterprise.inject(Requests::to(V2), Answer::status(503));
    let agent = stage.agent().set("anchore.user", "sender").set("anchore.password", PASSWORD).with("-vv");
    let folder = agent.path("new/state");
    let resident = Resident::start(agent.set("state.directory", folder.to_str().expect("text")));
    resident.logged_times("reports made", 2).await;

    let mode = |path: &Path| fs::metadata(path).map(|metadata| metadata.permissions().mode() & 0o777);
    assert_eq!(mode(&folder.join("spool")).expect("there"), 0o700);
    let files = all_files(&folder);
    assert!(files.iter().any(|path| path.extension().is_some_and(|end| end == "report")), "{files:?}");
    for path in files.iter().filter(|path| path.is_file()) {
        // One may have given way to a newer one by now.
        let (Ok(mode), Ok(bytes)) = (mode(path), fs::read(path)) else { continue };
        assert_eq!(mode, 0o600, "{}", path.display());
        assert!(!String::from_utf8_lossy(&bytes).contains("canary"), "{}", path.display());
    }
    let log = resident.log();
    assert!(log.contains(" DEBUG ") && !log.contains("canary"), "{log}");
    let end = resident.stop().await;
    assert!(!end.log.contains("canary") && !end.stdout.contains("canary"));
}

#[tokio::test]
async fn what_has_no_room_waits_in_memory_and_the_oldest_go_first() {
    let stage = Stage::new().await;
    left_behind(&stage).await;
    let one = fs::metadata(&stage.spooled()[0]).expect("there").len();
    stage.enterprise.inject(Requests::to(V2), Answer::status(503));

    let resident = Resident::start(stage.agent().set("spool.max-bytes", one + one / 2));
    resident.logged("unsent reports were dropped").await;
    resident.logged("reports made").await;
    assert!(resident.log().contains("no room for it within spool.max-bytes"), "{}", resident.log());
    assert_eq!(stage.spooled().len(), 1);

    stage.enterprise.clear_faults();
    stage.accepted(2).await;
    assert_in_order(&stage.enterprise);
}

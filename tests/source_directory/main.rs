//! A directory of manifests under the hands of people and tools.
#![allow(clippy::unwrap_used, clippy::panic)]

mod changes;
mod fixture;
mod links;

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use holdfast::source::{DirectorySource, read_once};
use holdfast::translate::finding::{Reason, Severity};
use holdfast::world::Kind;
use tokio_util::sync::CancellationToken;

use crate::fixture::{Fixture, Follow, PATIENCE, place, service};

#[tokio::test]
async fn first_update_has_every_kind() {
    let fixture = Fixture::new();
    let mut follow = fixture.follow();
    let update = follow.next().await;
    assert_eq!(update.deltas.len(), Kind::ALL.len());
    assert_eq!(update.problems, []);
}

#[tokio::test]
async fn reads_subdirectories_and_only_manifests() {
    let fixture = Fixture::new();
    fs::create_dir_all(fixture.path("live/a/b")).unwrap();
    fs::create_dir_all(fixture.path("live/.git")).unwrap();
    fixture.write("live/one.yaml", &service("one", 1));
    fixture.write("live/a/two.yml", &service("two", 2));
    fixture.write(
        "live/a/b/three.json",
        r#"{"apiVersion": "v1", "kind": "Service", "metadata": {"name": "three"}, "spec": {"ports": [{"port": 3}]}}"#,
    );
    for ignored in [
        ".git/x.yaml",
        ".hidden.yaml",
        "one.yaml~",
        "#one.yaml#",
        ".#one.yaml",
        ".one.yaml.swp",
        "one.yaml.tmp",
        "4913",
        "README.md",
    ] {
        fixture.write(&format!("live/{ignored}"), &service("wrong", 9));
    }
    let mut follow = fixture.follow();
    follow.until(&[("one", 1), ("two", 2), ("three", 3)]).await;
    assert_eq!(follow.problems, []);
}

#[tokio::test]
async fn a_file_that_is_no_directory_is_refused() {
    let fixture = Fixture::new();
    fixture.write("file", "");
    for path in ["file", "nowhere"] {
        let error = DirectorySource::start(fixture.path(path), CancellationToken::new());
        assert!(error.unwrap_err().to_string().contains(path));
    }
}

#[tokio::test]
async fn broken_documents_keep_what_they_said_last() {
    let fixture = Fixture::new();
    fixture.write(
        "live/x.yaml",
        &format!("{}---\n{}", service("a", 1), service("b", 1)),
    );
    let mut follow = fixture.follow();
    follow.until(&[("a", 1), ("b", 1)]).await;
    fixture.write(
        "live/x.yaml",
        &format!("{}---\n{}  - [", service("a", 2), service("b", 2)),
    );
    follow.until(&[("a", 2), ("b", 1)]).await;
    let [problem] = follow.problems.as_slice() else {
        panic!("{:?}", follow.problems);
    };
    assert_eq!(problem.reason, Reason::ManifestInvalid);
    assert_eq!(problem.severity, Severity::Error);
    assert_eq!(place(problem).0, fixture.path("live/x.yaml"));
    assert!(place(problem).1.is_some_and(|line| line > 6), "{problem}");
    fixture.write("live/x.yaml", &service("a", 3));
    follow.until(&[("a", 3)]).await;
    assert_eq!(follow.problems, []);
}

#[tokio::test]
async fn a_broken_file_at_the_start_spoils_nothing_else() {
    let fixture = Fixture::new();
    fixture.write("live/bad.yaml", &format!("a: [\n---\n{}", service("b", 1)));
    fixture.write("live/good.yaml", &service("a", 1));
    let mut follow = fixture.follow();
    follow.until(&[("a", 1), ("b", 1)]).await;
    assert_eq!(follow.problems.len(), 1, "{:?}", follow.problems);
}

#[tokio::test]
async fn of_two_definitions_the_first_path_wins_and_the_second_takes_over() {
    let fixture = Fixture::new();
    fixture.write("live/b.yaml", &service("x", 2));
    let mut follow = fixture.follow();
    follow.until(&[("x", 2)]).await;
    fixture.replace("live/a.yaml", &service("x", 1));
    follow.until(&[("x", 1)]).await;
    let [problem] = follow.problems.as_slice() else {
        panic!("{:?}", follow.problems);
    };
    assert_eq!(problem.reason, Reason::DuplicateObject);
    assert_eq!(place(problem).0, fixture.path("live/b.yaml"));
    let key = place(problem).2.unwrap();
    assert_eq!(key.to_string(), "Service demo/x");
    fs::remove_file(fixture.path("live/a.yaml")).unwrap();
    follow.until(&[("x", 2)]).await;
    assert_eq!(follow.problems, []);
    assert!(!follow.history("x").contains(&None));
}

#[tokio::test]
async fn a_pipe_is_not_waited_for() {
    let fixture = Fixture::new();
    fixture.write("live/a.yaml", &service("a", 1));
    let made = std::process::Command::new("mkfifo")
        .arg(fixture.path("live/pipe.yaml"))
        .status()
        .unwrap();
    assert!(made.success());
    let mut follow = fixture.follow();
    follow.until(&[("a", 1)]).await;
    assert_eq!(follow.problems.len(), 1);
    // What cannot be read keeps what it said last.
    fixture.rename("live/pipe.yaml", "live/a.yaml");
    fixture.replace("live/b.yaml", &service("b", 1));
    follow.until(&[("a", 1), ("b", 1)]).await;
    follow.until_problem(Some(Reason::ManifestUnreadable)).await;
    fixture.replace("live/a.yaml", &service("a", 2));
    follow.until(&[("a", 2), ("b", 1)]).await;
    follow.until_problem(None).await;
    assert_eq!(follow.history("a"), [Some(1), Some(2)]);
}

#[tokio::test]
async fn without_notifications_changes_are_found_all_the_same() {
    let fixture = Fixture::new();
    fixture.write("live/a.yaml", &service("a", 1));
    let mut follow = Follow::start(&fixture.path("live"), true);
    follow.until(&[("a", 1)]).await;
    assert_eq!(follow.problems.len(), 1);
    assert_eq!(follow.problems[0].severity, Severity::Warning);
    fixture.write("live/b.yaml", &service("b", 1));
    follow.until(&[("a", 1), ("b", 1)]).await;
    fixture.replace("live/a.yaml", &service("a", 2));
    follow.until(&[("a", 2), ("b", 1)]).await;
    fs::create_dir(fixture.path("live/dir")).unwrap();
    fixture.rename("live/b.yaml", "live/dir/b.yaml");
    fs::remove_file(fixture.path("live/a.yaml")).unwrap();
    follow.until(&[("b", 1)]).await;
    assert_eq!(follow.history("b"), [Some(1)]);
}

#[tokio::test]
async fn ends_with_the_token() {
    let fixture = Fixture::new();
    let shutdown = CancellationToken::new();
    let mut updates = DirectorySource::start(fixture.path("live"), shutdown.clone()).unwrap();
    updates.recv().await.unwrap();
    shutdown.cancel();
    let end = tokio::time::timeout(PATIENCE, updates.recv())
        .await
        .unwrap();
    assert!(end.is_none());
}

#[test]
fn reading_once_takes_files_and_directories() {
    let fixture = Fixture::new();
    fixture.write("live/b.yaml", &service("x", 2));
    fixture.write(
        "live/a.yaml",
        &format!("{}---\nkind: Pod\napiVersion: v1\n", service("a", 1)),
    );
    fixture.write("named.txt", &format!("{}---\na: [\n", service("x", 1)));
    let reading = read_once(&[
        fixture.path("live"),
        fixture.path("named.txt"),
        fixture.path("nowhere"),
    ]);
    let keys: Vec<String> = reading
        .objects
        .iter()
        .map(|object| object.key().to_string())
        .collect();
    assert_eq!(keys, ["Service demo/a", "Service demo/x"]);
    assert_eq!(reading.skipped, ["Pod.v1"]);
    let problems: Vec<(PathBuf, Option<usize>, Reason)> = reading
        .problems
        .iter()
        .map(|problem| (problem.file.clone(), problem.line, problem.reason))
        .collect();
    assert_eq!(
        problems,
        [
            (fixture.path("named.txt"), Some(1), Reason::DuplicateObject),
            (fixture.path("named.txt"), Some(8), Reason::ManifestInvalid),
            (fixture.path("nowhere"), None, Reason::ManifestUnreadable),
        ]
    );
    let said = reading.problems[0].to_string();
    assert!(
        said.ends_with("[DuplicateObject]") && said.contains("live/b.yaml:1"),
        "{said}"
    );
}

/// Not a test of right and wrong: says how long a change takes to arrive.
#[tokio::test]
#[ignore = "measures; run it with --release and --nocapture"]
async fn how_long_a_change_takes() {
    for files in [100_u16, 1_000, 10_000] {
        let fixture = Fixture::new();
        for file in 0..files {
            fixture.write(
                &format!("live/{file}.yaml"),
                &service(&format!("s{file}"), 1),
            );
        }
        let start = Instant::now();
        let mut follow = fixture.follow();
        follow.next().await;
        let first = start.elapsed();
        let start = Instant::now();
        let reading = read_once(&[fixture.path("live")]);
        let once = start.elapsed();
        assert_eq!(reading.objects.len(), usize::from(files));
        let mut arrivals = Vec::new();
        let mut inside = Vec::new();
        for round in 0..500_u16 {
            let file = round.wrapping_mul(7919) % files;
            fixture.write("staged", &service(&format!("s{file}"), 1000 + round));
            let start = Instant::now();
            fixture.rename("staged", &format!("live/{file}.yaml"));
            let update = follow.next().await;
            arrivals.push(start.elapsed());
            inside.push(update.noticed.elapsed());
        }
        arrivals.sort();
        inside.sort();
        eprintln!(
            "{files} files: first {first:?}; read once {once:?}; rename to update p50 {:?} p99 {:?}; notification to update p50 {:?} p99 {:?}",
            arrivals[250], arrivals[495], inside[250], inside[495]
        );
    }
}

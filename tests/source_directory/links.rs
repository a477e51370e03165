//! Links and directories that come, go and are swapped.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use holdfast::translate::finding::Reason;

use crate::fixture::{Fixture, Follow, service};

#[tokio::test]
async fn hard_links_are_files() {
    let fixture = Fixture::new();
    fixture.write("elsewhere.yaml", &service("a", 1));
    let mut follow = fixture.follow();
    follow.until(&[]).await;
    fs::hard_link(fixture.path("elsewhere.yaml"), fixture.path("live/a.yaml")).unwrap();
    follow.until(&[("a", 1)]).await;
    fs::remove_file(fixture.path("live/a.yaml")).unwrap();
    follow.until(&[]).await;
}

#[tokio::test]
async fn links_are_followed_and_their_targets_too() {
    let fixture = Fixture::new();
    fixture.write("target.yaml", &service("a", 1));
    let mut follow = fixture.follow();
    follow.until(&[]).await;
    symlink(fixture.path("target.yaml"), fixture.path("live/a.yaml")).unwrap();
    follow.until(&[("a", 1)]).await;
    fixture.write("target.yaml", &service("a", 2));
    follow.until(&[("a", 2)]).await;
    fixture.replace("target.yaml", &service("a", 3));
    follow.until(&[("a", 3)]).await;
    fs::remove_file(fixture.path("target.yaml")).unwrap();
    follow.until(&[]).await;
    fixture.replace("target.yaml", &service("a", 4));
    follow.until(&[("a", 4)]).await;
    fs::remove_file(fixture.path("live/a.yaml")).unwrap();
    follow.until(&[]).await;
}

#[tokio::test]
async fn loops_of_links_end() {
    let fixture = Fixture::new();
    fixture.write("live/a.yaml", &service("a", 1));
    fs::create_dir(fixture.path("live/b")).unwrap();
    symlink(fixture.path("live"), fixture.path("live/b/back")).unwrap();
    symlink(fixture.path("live/b"), fixture.path("live/b/self")).unwrap();
    symlink("circle.yaml", fixture.path("live/circle.yaml")).unwrap();
    let mut follow = fixture.follow();
    follow.until(&[("a", 1)]).await;
    let problems: Vec<_> = follow.problems.iter().map(|p| p.reason).collect();
    assert_eq!(problems, [Reason::ManifestUnreadable]);
    fixture.write("live/b/c.yaml", &service("c", 1));
    follow.until(&[("a", 1), ("c", 1)]).await;
}

#[tokio::test]
async fn directories_come_with_their_files_and_go() {
    let fixture = Fixture::new();
    let mut follow = fixture.follow();
    follow.until(&[]).await;
    fs::create_dir_all(fixture.path("live/x/y")).unwrap();
    fixture.write("live/x/y/a.yaml", &service("a", 1));
    follow.until(&[("a", 1)]).await;
    fixture.write("live/x/y/a.yaml", &service("a", 2));
    follow.until(&[("a", 2)]).await;
    fs::create_dir(fixture.path("staging")).unwrap();
    fixture.write("staging/b.yaml", &service("b", 1));
    fixture.rename("staging", "live/z");
    follow.until(&[("a", 2), ("b", 1)]).await;
    fixture.rename("live/z", "live/w");
    fixture.write("live/w/b.yaml", &service("b", 2));
    follow.until(&[("a", 2), ("b", 2)]).await;
    fs::remove_dir_all(fixture.path("live/x")).unwrap();
    follow.until(&[("b", 2)]).await;
    fixture.rename("live/w", "out");
    follow.until(&[]).await;
    assert_eq!(follow.history("b"), [Some(1), Some(2), None]);
}

#[tokio::test]
async fn a_directory_replaced_by_another_is_followed_further() {
    let fixture = Fixture::new();
    fs::create_dir(fixture.path("live/x")).unwrap();
    fixture.write("live/x/a.yaml", &service("a", 1));
    let mut follow = fixture.follow();
    follow.until(&[("a", 1)]).await;
    for port in 2..8 {
        fs::create_dir(fixture.path("next")).unwrap();
        fixture.write("next/a.yaml", &service("a", port));
        fixture.rename("live/x", &format!("old{port}"));
        fixture.rename("next", "live/x");
        follow.until(&[("a", i32::from(port))]).await;
        fixture.write("live/x/b.yaml", &service("b", port));
        follow
            .until(&[("a", i32::from(port)), ("b", i32::from(port))])
            .await;
        fs::remove_file(fixture.path("live/x/b.yaml")).unwrap();
        follow.until(&[("a", i32::from(port))]).await;
    }
    assert!(!follow.history("a").contains(&None));
}

/// The kubelet's way: files are links through `..data`, which is swapped by a rename.
#[tokio::test]
async fn config_map_mounts_change_as_a_whole() {
    let fixture = Fixture::new();
    let publish = |version: u16| {
        let directory = format!("live/..2024_{version}");
        fs::create_dir(fixture.path(&directory)).unwrap();
        fixture.write(&format!("{directory}/a.yaml"), &service("a", version));
        fixture.write(&format!("{directory}/b.yaml"), &service("b", version));
        symlink(format!("..2024_{version}"), fixture.path("live/..data_tmp")).unwrap();
        fixture.rename("live/..data_tmp", "live/..data");
        if version > 1 {
            fs::remove_dir_all(fixture.path(&format!("live/..2024_{}", version - 1))).unwrap();
        }
    };
    publish(1);
    symlink("..data/a.yaml", fixture.path("live/a.yaml")).unwrap();
    symlink("..data/b.yaml", fixture.path("live/b.yaml")).unwrap();
    let mut follow = fixture.follow();
    follow.until(&[("a", 1), ("b", 1)]).await;
    for version in 2..10 {
        publish(version);
        let port = i32::from(version);
        follow.until(&[("a", port), ("b", port)]).await;
    }
    let expected: Vec<Option<i32>> = (1..10).map(Some).collect();
    assert_eq!(follow.history("a"), expected);
    assert_eq!(follow.problems, []);
}

#[tokio::test]
async fn a_root_that_is_a_link_may_be_swapped() {
    let fixture = Fixture::new();
    for version in 1..4 {
        fs::create_dir(fixture.path(&format!("release{version}"))).unwrap();
        fixture.write(&format!("release{version}/a.yaml"), &service("a", version));
    }
    symlink("release1", fixture.path("current")).unwrap();
    let mut follow = Follow::start(&fixture.path("current"), false);
    follow.until(&[("a", 1)]).await;
    for version in 2..4 {
        symlink(format!("release{version}"), fixture.path("staged")).unwrap();
        fixture.rename("staged", "current");
        follow.until(&[("a", version)]).await;
    }
    fixture.write("release3/a.yaml", &service("a", 7));
    follow.until(&[("a", 7)]).await;
    assert_eq!(follow.history("a"), [1, 2, 3, 7].map(Some));
}

#[tokio::test]
async fn a_root_that_vanishes_keeps_its_world_and_comes_back() {
    let fixture = Fixture::new();
    fixture.write("live/a.yaml", &service("a", 1));
    let mut follow = fixture.follow();
    follow.until(&[("a", 1)]).await;
    for port in 2..5 {
        fs::remove_dir_all(fixture.path("live")).unwrap();
        follow.until_problem(Some(Reason::ManifestUnreadable)).await;
        assert_eq!(
            follow.services(),
            BTreeMap::from([("a".to_owned(), i32::from(port) - 1)])
        );
        fs::create_dir(fixture.path("live")).unwrap();
        fixture.write("live/a.yaml", &service("a", port));
        follow.until(&[("a", i32::from(port))]).await;
        follow.until_problem(None).await;
    }
    fixture.rename("live", "away");
    follow.until_problem(Some(Reason::ManifestUnreadable)).await;
    fixture.write("away/a.yaml", &service("a", 9));
    fixture.rename("away", "live");
    follow.until(&[("a", 9)]).await;
    follow.until_problem(None).await;
    assert!(!follow.history("a").contains(&None));
    // An empty directory in its place, for good, is an empty world.
    fixture.rename("live", "away");
    fs::create_dir(fixture.path("live")).unwrap();
    follow.until(&[]).await;
}

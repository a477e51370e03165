//! A directory of manifests under the hands of people and tools.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use holdfast::source::{DirectorySource, Update, read_once};
use holdfast::translate::finding::{Reason, Severity};
use holdfast::translate::report::{Report, Subject};
use holdfast::world::{Delta, Kind, Object, ObjectKey, World};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long a test waits for something to come true.
const PATIENCE: Duration = Duration::from_secs(20);

/// A Service whose one port tells which version of it this is.
fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: demo}}\nspec:\n  ports:\n  - port: {port}\n"
    )
}

/// A temporary directory with `live`, which is followed.
struct Fixture {
    home: TempDir,
}

impl Fixture {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("live")).unwrap();
        Self { home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Replaces a file in one step.
    fn replace(&self, name: &str, text: &str) {
        self.write("staged", text);
        self.rename("staged", name);
    }

    fn follow(&self) -> Follow {
        Follow::start(&self.path("live"), false)
    }
}

/// What the receiver of the updates knows.
struct Follow {
    updates: Receiver<Update>,
    world: World,
    problems: Vec<Report>,
    /// Every port each Service was seen with, `None` for its absence.
    history: BTreeMap<String, Vec<Option<i32>>>,
    /// Every problem that ever was.
    complaints: Vec<Report>,
    synced: bool,
    _stop: DropGuard,
}

impl Follow {
    fn start(path: &Path, polling: bool) -> Self {
        let shutdown = CancellationToken::new();
        let updates = if polling {
            DirectorySource::start_polling(path.to_owned(), shutdown.clone())
        } else {
            DirectorySource::start(path.to_owned(), shutdown.clone())
        };
        Self {
            updates: updates.unwrap(),
            world: World::default(),
            problems: Vec::new(),
            history: BTreeMap::new(),
            complaints: Vec::new(),
            synced: false,
            _stop: shutdown.drop_guard(),
        }
    }

    async fn next(&mut self) -> Update {
        let update = tokio::time::timeout(PATIENCE, self.updates.recv())
            .await
            .unwrap_or_else(|_| {
                panic!("no update; {:?}, {:?}", self.history, self.problems);
            })
            .expect("the source ended");
        self.take_in(update.clone());
        update
    }

    fn take_in(&mut self, update: Update) {
        if !self.synced {
            let kinds: Vec<Kind> = update
                .deltas
                .iter()
                .map(|delta| match delta {
                    Delta::Reset(scope, ..) => scope.kind,
                    other => panic!("{other:?} before everything was listed"),
                })
                .collect();
            assert_eq!(kinds, Kind::ALL);
            self.synced = true;
        }
        for delta in update.deltas {
            let told = match &delta {
                Delta::Apply(object) => vec![object.clone()],
                Delta::Reset(_, objects, _) => objects.clone(),
                Delta::Delete(key) => {
                    self.remember(&key.name.name, None);
                    vec![]
                }
                Delta::PodEnds(pod, _) => panic!("{pod:?} is in no file"),
            };
            for object in told {
                if let Object::Service(service) = &object {
                    let port = service.ports.first().map(|port| port.port);
                    self.remember(&service.meta.name.name, port);
                }
            }
            self.world.apply(delta);
        }
        self.complaints.extend(update.problems.iter().cloned());
        self.problems = update.problems;
    }

    fn remember(&mut self, name: &str, port: Option<i32>) {
        self.history.entry(name.to_owned()).or_default().push(port);
    }

    fn history(&self, name: &str) -> Vec<Option<i32>> {
        self.history.get(name).cloned().unwrap_or_default()
    }

    fn services(&self) -> BTreeMap<String, i32> {
        self.world
            .services()
            .iter()
            .map(|(name, service)| (name.name.to_string(), service.ports[0].port))
            .collect()
    }

    /// Waits until the Services and their ports are these.
    async fn until(&mut self, wanted: &[(&str, i32)]) {
        let wanted: BTreeMap<String, i32> = wanted
            .iter()
            .map(|&(name, port)| (name.to_owned(), port))
            .collect();
        let start = Instant::now();
        while !self.synced || self.services() != wanted {
            assert!(
                start.elapsed() < PATIENCE,
                "{:?} is not {wanted:?}; {:?}",
                self.services(),
                self.problems
            );
            self.next().await;
        }
    }

    /// Waits until there is a problem with this reason, or none at all.
    async fn until_problem(&mut self, wanted: Option<Reason>) {
        let start = Instant::now();
        while !self.synced
            || match wanted {
                Some(reason) => !self.problems.iter().any(|problem| problem.reason == reason),
                None => !self.problems.is_empty(),
            }
        {
            assert!(start.elapsed() < PATIENCE, "{:?}", self.problems);
            self.next().await;
        }
    }
}

/// File, line and object of a problem.
fn place(problem: &Report) -> (PathBuf, Option<usize>, Option<ObjectKey>) {
    match &problem.subject {
        Subject::File { path, line, object } => (path.clone(), *line, object.clone()),
        other => panic!("{other} is no file"),
    }
}

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
async fn create_change_and_remove() {
    let fixture = Fixture::new();
    let mut follow = fixture.follow();
    follow.until(&[]).await;
    fixture.write("live/a.yaml", &service("a", 1));
    follow.until(&[("a", 1)]).await;
    fixture.write("live/a.yaml", &service("a", 2));
    follow.until(&[("a", 2)]).await;
    fs::remove_file(fixture.path("live/a.yaml")).unwrap();
    follow.until(&[]).await;
    assert_eq!(follow.history("a"), [Some(1), Some(2), None]);
}

#[tokio::test]
async fn renames_in_over_within_and_out() {
    let fixture = Fixture::new();
    let mut follow = fixture.follow();
    follow.until(&[]).await;
    fixture.replace("live/a.yaml", &service("a", 1));
    follow.until(&[("a", 1)]).await;
    fixture.replace("live/a.yaml", &service("a", 2));
    follow.until(&[("a", 2)]).await;
    fixture.rename("live/a.yaml", "live/b.yaml");
    fixture.replace("live/mark.yaml", &service("mark", 1));
    follow.until(&[("a", 2), ("mark", 1)]).await;
    fixture.rename("live/b.yaml", "gone.yaml");
    follow.until(&[("mark", 1)]).await;
    assert_eq!(follow.history("a"), [Some(1), Some(2), None]);
}

#[tokio::test]
async fn rename_to_an_ignored_name_removes() {
    let fixture = Fixture::new();
    fixture.write("live/a.yaml", &service("a", 1));
    let mut follow = fixture.follow();
    follow.until(&[("a", 1)]).await;
    fixture.rename("live/a.yaml", "live/a.yaml.off");
    follow.until(&[]).await;
    fixture.rename("live/a.yaml.off", "live/a.yaml");
    follow.until(&[("a", 1)]).await;
}

#[tokio::test]
async fn a_file_in_writing_is_never_seen_empty_or_in_part() {
    let fixture = Fixture::new();
    let before = format!("{}---\n{}", service("a", 1), service("b", 1));
    fixture.write("live/x.yaml", &before);
    let mut follow = fixture.follow();
    follow.until(&[("a", 1), ("b", 1)]).await;
    let mut file = File::create(fixture.path("live/x.yaml")).unwrap();
    // Something else happens while it is open: here a directory, which makes everything be
    // looked at.
    fs::create_dir(fixture.path("live/dir")).unwrap();
    fixture.replace("live/dir/c.yaml", &service("c", 1));
    follow.until(&[("a", 1), ("b", 1), ("c", 1)]).await;
    writeln!(file, "{}---", service("a", 2)).unwrap();
    file.flush().unwrap();
    fixture.replace("live/dir/c.yaml", &service("c", 2));
    follow.until(&[("a", 1), ("b", 1), ("c", 2)]).await;
    write!(file, "{}", service("b", 2)).unwrap();
    drop(file);
    follow.until(&[("a", 2), ("b", 2), ("c", 2)]).await;
    assert_eq!(follow.history("a"), [Some(1), Some(2)]);
    assert_eq!(follow.history("b"), [Some(1), Some(2)]);
}

#[tokio::test]
async fn rewriting_in_place_again_and_again_never_takes_an_object_away() {
    let fixture = Fixture::new();
    fixture.write("live/x.yaml", &service("x", 1));
    let mut follow = fixture.follow();
    follow.until(&[("x", 1)]).await;
    let path = fixture.path("live/x.yaml");
    let writer = std::thread::spawn(move || {
        for port in 2..=400 {
            let text = service("x", port);
            let mut file = File::create(&path).unwrap();
            for piece in text.as_bytes().chunks(4) {
                file.write_all(piece).unwrap();
            }
        }
    });
    follow.until(&[("x", 400)]).await;
    writer.join().unwrap();
    assert_eq!(follow.complaints, []);
    assert!(
        !follow.history("x").contains(&None),
        "{:?}",
        follow.history("x")
    );
}

#[tokio::test]
async fn a_writer_that_never_closes_is_read_when_it_is_quiet() {
    let fixture = Fixture::new();
    let mut follow = fixture.follow();
    follow.until(&[]).await;
    let mut file = File::create(fixture.path("live/a.yaml")).unwrap();
    file.write_all(service("a", 1).as_bytes()).unwrap();
    follow.until(&[("a", 1)]).await;
    drop(file);
}

#[tokio::test]
async fn emptied_for_good_is_empty() {
    let fixture = Fixture::new();
    fixture.write("live/a.yaml", &service("a", 1));
    let mut follow = fixture.follow();
    follow.until(&[("a", 1)]).await;
    File::create(fixture.path("live/a.yaml")).unwrap();
    follow.until(&[]).await;
    assert_eq!(follow.problems, []);
}

#[tokio::test]
async fn append() {
    let fixture = Fixture::new();
    fixture.write("live/a.yaml", &service("a", 1));
    let mut follow = fixture.follow();
    follow.until(&[("a", 1)]).await;
    let mut file = OpenOptions::new()
        .append(true)
        .open(fixture.path("live/a.yaml"))
        .unwrap();
    write!(file, "---\n{}", service("b", 2)).unwrap();
    drop(file);
    follow.until(&[("a", 1), ("b", 2)]).await;
    assert_eq!(follow.history("a"), [Some(1)]);
}

/// vim with `backup` by renaming: probes with a file `4913`, moves the old file away, writes anew.
#[tokio::test]
async fn saving_as_vim_does_is_one_change() {
    let fixture = Fixture::new();
    fixture.write("live/a.yaml", &service("a", 1));
    let mut follow = fixture.follow();
    follow.until(&[("a", 1)]).await;
    for port in 2..12 {
        fixture.write("live/.a.yaml.swp", "swap");
        fixture.write("live/4913", "");
        fs::remove_file(fixture.path("live/4913")).unwrap();
        fixture.rename("live/a.yaml", "live/a.yaml~");
        fixture.write("live/a.yaml", &service("a", port));
        fs::remove_file(fixture.path("live/a.yaml~")).unwrap();
        follow.until(&[("a", i32::from(port))]).await;
    }
    let expected: Vec<Option<i32>> = (1..12).map(Some).collect();
    assert_eq!(follow.history("a"), expected);
}

#[tokio::test]
async fn saving_by_remove_and_create_is_one_change() {
    let fixture = Fixture::new();
    fixture.write("live/a.yaml", &service("a", 1));
    let mut follow = fixture.follow();
    follow.until(&[("a", 1)]).await;
    fs::remove_file(fixture.path("live/a.yaml")).unwrap();
    fixture.write("live/a.yaml", &service("a", 2));
    follow.until(&[("a", 2)]).await;
    assert_eq!(follow.history("a"), [Some(1), Some(2)]);
}

/// `sed -i` writes `sedXXXXXX` beside the file and renames it over the file.
#[tokio::test]
async fn editing_as_sed_does_is_one_change() {
    let fixture = Fixture::new();
    fixture.write("live/a.yaml", &service("a", 1));
    let mut follow = fixture.follow();
    follow.until(&[("a", 1)]).await;
    fixture.write("live/sedXk2P0q", &service("a", 2));
    fixture.rename("live/sedXk2P0q", "live/a.yaml");
    follow.until(&[("a", 2)]).await;
    assert_eq!(follow.history("a"), [Some(1), Some(2)]);
}

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
async fn a_change_that_changes_nothing_is_no_delta() {
    let fixture = Fixture::new();
    fixture.write("live/a.yaml", &service("a", 1));
    let mut follow = fixture.follow();
    follow.until(&[("a", 1)]).await;
    fixture.replace("live/a.yaml", &format!("# a comment\n{}", service("a", 1)));
    fixture.replace("live/b.yaml", &service("b", 1));
    follow.until(&[("a", 1), ("b", 1)]).await;
    assert_eq!(follow.history("a"), [Some(1)]);
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

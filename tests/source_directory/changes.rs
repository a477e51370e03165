//! Files as they are written, renamed and edited.

use std::fs::{self, File, OpenOptions};
use std::io::Write;

use crate::fixture::{Fixture, service};

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

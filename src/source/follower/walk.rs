//! Walking the directory again, and finding what differs.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Follower, GRACE, QUIET, Work, kept};
use crate::source::SourceProblem;
use crate::source::tree::{self, Found, Scan, Stamp};

/// A file that appeared before it could be watched is read after so long: sooner than a file
/// whose place it takes is given up.
const SETTLE: Duration = Duration::from_millis(50);
/// The files of a directory that was away as a whole may come back for so long. Without
/// notifications any file may: it takes until then to believe what came in its place.
const RETURN: Duration = Duration::from_secs(2);
/// Between two looks at everything, for file systems that notify nobody.
const RESCAN: Duration = Duration::from_secs(30);
/// The same where there are no notifications.
const POLL: Duration = Duration::from_secs(1);

impl Follower {
    pub(super) fn rescan(&mut self, work: &mut Work, now: Instant) {
        let mut unwatched = HashSet::new();
        let watch = &mut self.watch;
        let scan = tree::scan(&self.root, |directory| {
            if !watch.enter(directory) {
                unwatched.insert(directory.to_owned());
            }
        });
        let polling = self.watch.trouble().is_some();
        self.rescan = now + if polling { POLL } else { RESCAN };
        self.watch.retain(|directory| {
            scan.directories.contains_key(directory) || scan.outside.contains(directory)
        });
        if let Err(error) = &scan.root {
            self.places = vec![SourceProblem::unreadable(&self.root, kept(error))];
            self.links = scan.links;
            self.away = true;
            for file in self.leaving.keys() {
                self.catalogue.set_leaving(file, false);
            }
            self.leaving.clear();
            return;
        }
        let until = now + if self.away || polling { RETURN } else { GRACE };
        self.away = false;
        self.places = scan.failures().collect();
        let mut present: HashSet<&Path> = HashSet::with_capacity(scan.files.len());
        for found in &scan.files {
            present.insert(&found.file);
            let noticed = found
                .real
                .parent()
                .is_some_and(|parent| !unwatched.contains(parent));
            self.compare(found, noticed && !work.lost, work, now);
        }
        let absent: Vec<Arc<Path>> = self
            .files
            .keys()
            .filter(|file| !present.contains(&***file) && !is_beneath_unreadable(file, &scan))
            .map(Arc::clone)
            .collect();
        for file in absent {
            self.leave(&file, until);
        }
        self.directories = scan.directories;
        self.links = scan.links;
    }

    /// Reads a file that the walk found if it differs from what is known. `noticed`: whether a
    /// writer would have been noticed.
    fn compare(&mut self, found: &Found, noticed: bool, work: &mut Work, now: Instant) {
        let file = &found.file;
        self.stay(file);
        let known = self.files.get(file);
        if known.is_some_and(|known| known.is_same(found)) {
            return;
        }
        let elsewhere = known.map(|known| known.real != found.real);
        // Who publishes by a link or by moving a directory has finished writing.
        let published = elsewhere.unwrap_or(found.linked)
            || work
                .moved_in
                .iter()
                .any(|place| found.real.starts_with(place));
        if elsewhere != Some(false) {
            self.note(file, &found.real, found.linked);
        } else if self.waiting.contains_key(file) && !published {
            return;
        }
        if noticed || published || is_settled(found.stamp.as_ref()) {
            self.waiting.remove(file);
            work.reads.insert(Arc::clone(file));
            return;
        }
        self.wait(file, now);
        // From now on a writer is noticed; this one may have been done before.
        if self.watch.trouble().is_none()
            && let Some(wait) = self.waiting.get_mut(file)
        {
            wait.due = now + SETTLE;
        }
    }
}

fn is_beneath_unreadable(file: &Path, scan: &Scan) -> bool {
    scan.unreadable
        .iter()
        .any(|(place, _)| file.starts_with(place))
}

/// Whether a file was last written so long ago that nobody is at it. Times in the future say
/// nothing.
fn is_settled(stamp: Option<&Stamp>) -> bool {
    let Some(stamp) = stamp else {
        return false;
    };
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let written = u64::try_from(stamp.modified_seconds()).unwrap_or(0);
    written < now && now - written > QUIET.as_secs()
}

//! Keeps the catalogue equal to the directory.
//!
//! ```text
//! signs ─┬─▶ a known file, or a new one: written ▶ read, being written ▶ wait, gone ▶ leaving
//!        └─▶ a directory or a link: walk again, and read what differs
//! ```
//!
//! Editors and tools do not replace files in one step. So a file that is being written is read
//! when it is closed, or when it has been quiet; a file that is gone or empty is given a moment
//! to come back. And what is read only counts if nobody began to write meanwhile.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

mod walk;

use super::SourceProblem;
use super::Update;
use super::catalogue::Catalogue;
use super::manifest::{self, Manifest};
use super::tree::{self, Found, Stamp};
use super::watch::{Batch, Sign, Watch};
use crate::translate::finding::Severity;
use crate::translate::report::Report;

/// A file that is being written and not closed is read when it has been quiet for so long.
const QUIET: Duration = Duration::from_secs(1);
/// ... or has been written to for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// A file that is gone or empty may come back for so long: editors move the old one away first.
const GRACE: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(super) struct Follower {
    root: PathBuf,
    watch: Watch,
    catalogue: Catalogue,
    files: HashMap<Arc<Path>, Known>,
    by_real: HashMap<PathBuf, Arc<Path>>,
    /// Directories that are walked: real path to the path as reached.
    directories: HashMap<PathBuf, PathBuf>,
    links: HashSet<PathBuf>,
    waiting: HashMap<Arc<Path>, Wait>,
    /// Files that are gone, and when they are given up.
    leaving: HashMap<Arc<Path>, Instant>,
    /// Problems of directories.
    places: Vec<SourceProblem>,
    away: bool,
    rescan: Instant,
    told: Vec<SourceProblem>,
}

#[derive(Debug)]
struct Known {
    real: PathBuf,
    /// Whether a link leads to it.
    linked: bool,
    /// State when it was read; none while it could not be.
    stamp: Option<Stamp>,
}

impl Known {
    /// Whether there is nothing new in what a walk found.
    fn is_same(&self, found: &Found) -> bool {
        self.real == found.real && self.stamp.is_some() && self.stamp == found.stamp
    }
}

/// A file whose writer is not done.
#[derive(Debug)]
struct Wait {
    since: Instant,
    due: Instant,
    stamp: Option<Stamp>,
    /// Whether it was read and found empty.
    empty: bool,
}

/// What one step is to do.
#[derive(Debug, Default)]
struct Work {
    reads: BTreeSet<Arc<Path>>,
    /// Moved within the directory: nobody waits for their return.
    moved_away: Vec<Arc<Path>>,
    /// Directories that were moved here, whole.
    moved_in: Vec<PathBuf>,
    scan: bool,
    /// Whether notifications may have been missed.
    lost: bool,
}

impl Follower {
    /// Reads everything. The update has a `Reset` for every kind.
    pub(super) fn open(root: &Path, watch: Watch) -> (Self, Update) {
        let now = Instant::now();
        let mut follower = Self {
            root: root.to_owned(),
            watch,
            catalogue: Catalogue::default(),
            files: HashMap::new(),
            by_real: HashMap::new(),
            directories: HashMap::new(),
            links: HashSet::new(),
            waiting: HashMap::new(),
            leaving: HashMap::new(),
            places: Vec::new(),
            away: false,
            rescan: now,
            told: Vec::new(),
        };
        let mut work = Work {
            // Nothing was served yet that waiting could protect.
            moved_in: vec![PathBuf::from("/")],
            ..Work::default()
        };
        follower.rescan(&mut work, now);
        follower.read(work.reads, now);
        follower.told = follower.problems();
        let update = Update {
            deltas: follower.catalogue.resets(),
            problems: reports(&follower.told),
            unlisted: Vec::new(),
            noticed: now,
        };
        (follower, update)
    }

    /// When the next step is due if nothing is noticed before.
    pub(super) fn due(&self) -> Instant {
        let waiting = self.waiting.values().map(|wait| wait.due);
        let leaving = self.leaving.values().copied();
        waiting.chain(leaving).fold(self.rescan, Instant::min)
    }

    /// Takes in what was noticed and what is due.
    pub(super) fn step(&mut self) -> Option<Update> {
        let batch = self.watch.noticed().take();
        let now = Instant::now();
        let noticed = batch.since.unwrap_or(now);
        let mut work = Work {
            scan: batch.lost || now >= self.rescan,
            lost: batch.lost,
            ..Work::default()
        };
        self.sort(&batch, &mut work, now);
        self.collect_due(&mut work, now);
        if work.scan {
            self.rescan(&mut work, now);
        }
        self.read(std::mem::take(&mut work.reads), now);
        for file in work.moved_away {
            if self.leaving.contains_key(&file) {
                self.remove(&file);
            }
        }
        let deltas = self.catalogue.deltas();
        let problems = self.problems();
        if deltas.is_empty() && problems == self.told {
            return None;
        }
        let reports = reports(&problems);
        self.told = problems;
        Some(Update {
            deltas,
            problems: reports,
            unlisted: Vec::new(),
            noticed,
        })
    }

    fn problems(&self) -> Vec<SourceProblem> {
        let mut problems = self.catalogue.problems();
        problems.extend(self.places.iter().cloned());
        problems.extend(self.watch.trouble().map(|trouble| SourceProblem {
            severity: Severity::Warning,
            ..SourceProblem::unreadable(
                &self.root,
                format!("{trouble}; changes are looked for every second instead"),
            )
        }));
        problems.sort();
        problems
    }

    // === Signs ===

    fn sort(&mut self, batch: &Batch, work: &mut Work, now: Instant) {
        for (path, &sign) in &batch.signs {
            let replaced = matches!(sign, Sign::Created | Sign::MovedIn | Sign::Gone);
            if replaced && self.watch.is_watched(path) {
                self.watch.forget(path);
                work.scan = true;
            }
            if replaced && self.links.contains(path) {
                work.scan = true;
            }
            // A directory that became readable.
            if sign == Sign::Touched && !self.places.is_empty() && self.watch.is_watched(path) {
                work.scan = true;
            }
            if let Some(file) = self.by_real.get(path).map(Arc::clone) {
                self.sort_file(&file, path, sign, work, now);
            } else {
                self.sort_unknown(path, sign, work, now);
            }
        }
        for (from, to) in &batch.moves {
            if let (Some(from), true) = (self.by_real.get(from), self.by_real.contains_key(to)) {
                work.moved_away.push(Arc::clone(from));
            }
        }
    }

    fn sort_file(
        &mut self,
        file: &Arc<Path>,
        real: &Path,
        sign: Sign,
        work: &mut Work,
        now: Instant,
    ) {
        let metadata = match fs::symlink_metadata(real) {
            Ok(metadata) if metadata.is_file() => metadata,
            // A directory or a link took its place.
            Ok(_) => {
                work.scan = true;
                return;
            }
            Err(_) => {
                self.leave(file, now + GRACE);
                // The target of a link has no name in the walk; its return has to be watched for.
                work.scan |= self.files.get(file).is_some_and(|known| known.linked);
                return;
            }
        };
        match sign {
            Sign::Written | Sign::MovedIn => {
                work.reads.insert(Arc::clone(file));
            }
            // Nobody writes to a hard link that appears; it has its content already.
            Sign::Created if metadata.nlink() > 1 => {
                work.reads.insert(Arc::clone(file));
            }
            Sign::Created | Sign::Writing => self.wait(file, now),
            Sign::Touched => {
                let unread = self
                    .files
                    .get(file)
                    .is_some_and(|file| file.stamp.is_none());
                if unread && !self.waiting.contains_key(file) {
                    work.reads.insert(Arc::clone(file));
                }
            }
            // It is there again, and there will be a sign of that.
            Sign::Gone => {}
        }
    }

    fn sort_unknown(&mut self, path: &Path, sign: Sign, work: &mut Work, now: Instant) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return;
        };
        let Some(reached) = self.directories.get(parent) else {
            return;
        };
        if sign == Sign::Gone || tree::is_hidden(name) {
            return;
        }
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return;
        };
        if metadata.is_dir() || metadata.is_symlink() {
            if matches!(sign, Sign::Created | Sign::MovedIn) {
                work.scan = true;
            }
            if sign == Sign::MovedIn {
                work.moved_in.push(path.to_owned());
            }
        } else if tree::is_manifest(name) {
            let file: Arc<Path> = Arc::from(reached.join(name));
            self.note(&file, path, false);
            self.sort_file(&file, path, sign, work, now);
        }
    }

    /// A file, and where it is.
    fn note(&mut self, file: &Arc<Path>, real: &Path, linked: bool) {
        let known = Known {
            real: real.to_owned(),
            linked,
            stamp: None,
        };
        self.by_real.insert(known.real.clone(), Arc::clone(file));
        if let Some(before) = self.files.insert(Arc::clone(file), known)
            && before.real != real
            && self.by_real.get(&before.real) == Some(file)
        {
            self.by_real.remove(&before.real);
        }
    }

    fn wait(&mut self, file: &Arc<Path>, now: Instant) {
        let stamp = self
            .files
            .get(file)
            .and_then(|file| Stamp::at(&file.real).ok());
        let wait = self.waiting.entry(Arc::clone(file)).or_insert(Wait {
            since: now,
            due: now,
            stamp,
            empty: false,
        });
        wait.stamp = stamp;
        wait.empty = false;
        wait.due = (now + QUIET).min(wait.since + PATIENCE);
    }

    fn leave(&mut self, file: &Arc<Path>, until: Instant) {
        self.waiting.remove(file);
        self.leaving.entry(Arc::clone(file)).or_insert(until);
        self.catalogue.set_leaving(file, true);
    }

    fn stay(&mut self, file: &Path) {
        if self.leaving.remove(file).is_some() {
            self.catalogue.set_leaving(file, false);
        }
    }

    fn remove(&mut self, file: &Path) {
        self.leaving.remove(file);
        self.waiting.remove(file);
        self.catalogue.remove(file);
        if let Some(known) = self.files.remove(file)
            && self
                .by_real
                .get(&known.real)
                .is_some_and(|at| **at == *file)
        {
            self.by_real.remove(&known.real);
        }
    }

    // === Time ===

    fn collect_due(&mut self, work: &mut Work, now: Instant) {
        let due: Vec<Arc<Path>> = self
            .waiting
            .iter()
            .filter(|(_, wait)| wait.due <= now)
            .map(|(file, _)| Arc::clone(file))
            .collect();
        for file in due {
            let stamp = self
                .files
                .get(&file)
                .and_then(|file| Stamp::at(&file.real).ok());
            let Some(wait) = self.waiting.get_mut(&file) else {
                continue;
            };
            // Without notifications this is how writing is seen.
            if stamp != wait.stamp && now < wait.since + PATIENCE {
                wait.stamp = stamp;
                wait.due = (now + QUIET).min(wait.since + PATIENCE);
            } else {
                work.reads.insert(file);
            }
        }
        if self.leaving.values().any(|&until| until <= now) {
            self.give_up(work, now);
        }
    }

    /// Forgets files whose time to come back is over.
    fn give_up(&mut self, work: &mut Work, now: Instant) {
        // With the whole directory gone, nothing is known of its files.
        if !fs::metadata(&self.root).is_ok_and(|root| root.is_dir()) {
            work.scan = true;
            return;
        }
        let due: Vec<Arc<Path>> = self
            .leaving
            .iter()
            .filter(|&(_, &until)| until <= now)
            .map(|(file, _)| Arc::clone(file))
            .collect();
        for file in due {
            let replaced = self
                .files
                .get(&file)
                .and_then(|known| self.by_real.get(&known.real))
                .is_some_and(|holder| *holder != file);
            match fs::metadata(&file) {
                Ok(metadata) if metadata.is_file() && !replaced => {
                    self.stay(&file);
                    work.reads.insert(file);
                }
                Err(error) if !is_absence(&error) => {
                    self.stay(&file);
                    self.catalogue.fail(&file, kept(&error));
                }
                _ => self.remove(&file),
            }
        }
    }

    // === Reading ===

    fn read(&mut self, files: BTreeSet<Arc<Path>>, now: Instant) {
        if files.is_empty() {
            return;
        }
        let mut read = Vec::with_capacity(files.len());
        for file in files {
            if let Some(known) = self.files.get(&file) {
                let outcome =
                    tree::read(&known.real).map(|(stamp, bytes)| (stamp, manifest::read(&bytes)));
                read.push((file, known.real.clone(), outcome));
            }
        }
        // Whoever began to write before the reading ended has been noticed by now: what was read
        // may be half of it. The sign waits, and leads to another reading.
        self.watch.fence();
        for (file, real, outcome) in read {
            let sign = self.watch.noticed().peek(&real);
            if matches!(
                sign,
                Some(Sign::Created | Sign::Writing | Sign::Written | Sign::Gone)
            ) {
                continue;
            }
            self.take_in(&file, outcome, now);
        }
    }

    fn take_in(&mut self, file: &Arc<Path>, outcome: io::Result<(Stamp, Manifest)>, now: Instant) {
        let waited = self.waiting.remove(file);
        let (stamp, manifest) = match outcome {
            Ok(read) => read,
            Err(error) if is_absence(&error) => {
                self.leave(file, now + GRACE);
                return;
            }
            Err(error) => {
                self.stay(file);
                self.catalogue.fail(file, kept(&error));
                return;
            }
        };
        self.stay(file);
        let is_empty = manifest.objects.is_empty() && manifest.problems.is_empty();
        let confirmed = waited.is_some_and(|wait| wait.empty && wait.due <= now);
        if is_empty && !confirmed && self.catalogue.defines(file) {
            // Truncated, and perhaps about to be written. The fence is no help here: a file is
            // empty some time before the kernel says that it was truncated.
            let wait = Wait {
                since: now,
                due: now + GRACE,
                stamp: Some(stamp),
                empty: true,
            };
            self.waiting.insert(Arc::clone(file), wait);
            return;
        }
        if let Some(known) = self.files.get_mut(file) {
            known.stamp = Some(stamp);
        }
        self.catalogue.replace(file, manifest);
    }
}

/// Whether an error says that there is no file, rather than nothing about it.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn reports(problems: &[SourceProblem]) -> Vec<Report> {
    problems.iter().map(Report::from).collect()
}

fn kept(error: &io::Error) -> String {
    format!("{error}; what was last read stays in force")
}

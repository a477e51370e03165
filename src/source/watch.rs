//! What the kernel says about directories, collected until somebody asks.
//!
//! ```text
//! inotify ─▶ thread of `notify` ─▶ Noticed (one sign per path, bounded) ─▶ Batch
//! ```

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use notify::event::{AccessKind, AccessMode, Event, EventKind, Flag, ModifyKind, RenameMode};
use notify::{Config, RecommendedWatcher, RecursiveMode, Watcher};

/// Paths that are remembered until they are asked for; beyond them only that there were more.
const PATH_LIMIT: usize = 100_000;

/// The last thing that was noticed about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Its attributes changed.
    Touched,
    /// It is there, and perhaps about to be written.
    Created,
    /// It is being written.
    Writing,
    /// Somebody who wrote to it has closed it.
    Written,
    /// It was moved here.
    MovedIn,
    /// It was removed or moved away.
    Gone,
}

/// What was noticed since it was last asked for.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// When the first of it was noticed.
    pub(super) since: Option<Instant>,
    /// Signs by path.
    pub(super) signs: HashMap<PathBuf, Sign>,
    /// Files that were renamed, old path and new.
    pub(super) moves: Vec<(PathBuf, PathBuf)>,
    /// Whether signs were lost.
    pub(super) lost: bool,
}

/// Collects signs.
#[derive(Debug, Default)]
pub(super) struct Noticed {
    batch: Mutex<Batch>,
    /// Wakes who waits for signs.
    pub(super) wake: tokio::sync::Notify,
}

impl Noticed {
    /// Takes what there is.
    pub(super) fn take(&self) -> Batch {
        std::mem::take(&mut *self.lock())
    }

    /// The sign of a path that waits to be taken.
    pub(super) fn peek(&self, path: &Path) -> Option<Sign> {
        self.lock().signs.get(path).copied()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Batch> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) => event,
            Err(_) => Event::new(EventKind::Other).set_flag(Flag::Rescan),
        };
        let sign = match event.kind {
            _ if event.need_rescan() => None,
            // Our own reading among them.
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(Sign::Written),
            EventKind::Access(_) => return,
            EventKind::Create(_) => Some(Sign::Created),
            EventKind::Modify(ModifyKind::Metadata(_)) => Some(Sign::Touched),
            EventKind::Modify(ModifyKind::Name(RenameMode::From)) | EventKind::Remove(_) => {
                Some(Sign::Gone)
            }
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Some(Sign::MovedIn),
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {
                if let [from, to] = event.paths.as_slice() {
                    let mut batch = self.lock();
                    batch.since.get_or_insert_with(Instant::now);
                    if batch.moves.len() < PATH_LIMIT {
                        batch.moves.push((from.clone(), to.clone()));
                    }
                    drop(batch);
                    self.wake.notify_one();
                }
                return;
            }
            EventKind::Modify(_) => Some(Sign::Writing),
            EventKind::Any | EventKind::Other => None,
        };
        let mut batch = self.lock();
        batch.since.get_or_insert_with(Instant::now);
        match sign {
            None => batch.lost = true,
            Some(sign) => {
                for path in event.paths {
                    batch.add(path, sign);
                }
            }
        }
        drop(batch);
        self.wake.notify_one();
    }
}

impl Batch {
    fn add(&mut self, path: PathBuf, sign: Sign) {
        if self.signs.len() >= PATH_LIMIT {
            self.lost = true;
            return;
        }
        let known = self.signs.entry(path).or_insert(sign);
        // Attributes say nothing about the content, which other signs do.
        if sign != Sign::Touched {
            *known = sign;
        }
    }
}

/// Watches directories, as long as the system lets it.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    noticed: Arc<Noticed>,
    watched: HashSet<PathBuf>,
    trouble: Option<String>,
}

impl Watch {
    pub(super) fn new(noticed: Arc<Noticed>) -> Self {
        let target = Arc::clone(&noticed);
        let watcher = RecommendedWatcher::new(move |event| target.add(event), Config::default());
        let mut watch = Self {
            watcher: None,
            noticed,
            watched: HashSet::new(),
            trouble: None,
        };
        match watcher {
            Ok(watcher) => watch.watcher = Some(watcher),
            Err(error) => watch.fail(&error),
        }
        watch
    }

    /// Never looks at the file system's notifications.
    pub(super) fn none(noticed: Arc<Noticed>) -> Self {
        Self {
            watcher: None,
            noticed,
            watched: HashSet::new(),
            trouble: Some("notifications are off".to_owned()),
        }
    }

    /// Watches what happens in a directory, and to it. Returns whether it was watched before.
    pub(super) fn enter(&mut self, directory: &Path) -> bool {
        if self.watched.contains(directory) {
            return true;
        }
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        match watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(directory.to_owned());
            }
            // It will be looked for again where it is listed; limits are for all directories.
            Err(error) => match error.kind {
                notify::ErrorKind::PathNotFound => {}
                _ => self.fail(&error),
            },
        }
        false
    }

    /// The directory is gone or another one: its watch ended, and those of all beneath it.
    pub(super) fn forget(&mut self, directory: &Path) {
        self.watched
            .retain(|watched| !watched.starts_with(directory));
    }

    /// Whether something that happens in a directory is noticed.
    pub(super) fn is_watched(&self, directory: &Path) -> bool {
        self.watched.contains(directory)
    }

    /// Ends the watches of all other directories.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Path) -> bool) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        self.watched.retain(|directory| {
            let keep = wanted(directory);
            if !keep {
                // It fails where the directory is gone, and the watch with it.
                let _ = watcher.unwatch(directory);
            }
            keep
        });
    }

    /// Waits until everything that the kernel has said by now is among the signs.
    ///
    /// The watcher's thread takes turns between requests and the kernel's queue. An answered
    /// request is followed by a turn of the queue before the next request is answered.
    pub(super) fn fence(&mut self) {
        if let Some(watcher) = &mut self.watcher {
            for _ in 0..2 {
                let _ = watcher.configure(Config::default());
            }
        }
    }

    /// Why notifications are not to be relied on, if they are not.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// What is collected.
    pub(super) fn noticed(&self) -> &Arc<Noticed> {
        &self.noticed
    }

    /// Gives notifications up: some directories would be watched and some not.
    fn fail(&mut self, error: &notify::Error) {
        let message = match &error.kind {
            notify::ErrorKind::MaxFilesWatch => {
                "the system's limit of inotify watches is reached (fs.inotify.max_user_watches)"
                    .to_owned()
            }
            _ => error.to_string(),
        };
        self.watcher = None;
        self.watched.clear();
        self.trouble = Some(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: EventKind) -> notify::Result<Event> {
        Ok(Event::new(kind).add_path(PathBuf::from("/a")))
    }

    #[test]
    fn the_last_sign_counts_and_attributes_do_not() {
        let noticed = Noticed::default();
        noticed.add(event(EventKind::Modify(ModifyKind::Any)));
        noticed.add(event(EventKind::Access(AccessKind::Close(
            AccessMode::Write,
        ))));
        noticed.add(event(EventKind::Modify(ModifyKind::Metadata(
            notify::event::MetadataKind::Any,
        ))));
        noticed.add(event(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert_eq!(noticed.peek(Path::new("/a")), Some(Sign::Written));
        noticed.add(event(EventKind::Modify(ModifyKind::Any)));
        let batch = noticed.take();
        assert_eq!(batch.signs.get(Path::new("/a")), Some(&Sign::Writing));
        assert!(batch.since.is_some() && !batch.lost);
        assert!(noticed.take().since.is_none());
    }

    #[test]
    fn an_overflow_is_remembered() {
        let noticed = Noticed::default();
        noticed.add(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        assert!(noticed.take().lost);
        noticed.add(Err(notify::Error::generic("cannot read")));
        assert!(noticed.take().lost);
        for number in 0..=PATH_LIMIT {
            let path = PathBuf::from(number.to_string());
            noticed.add(Ok(Event::new(EventKind::Create(
                notify::event::CreateKind::File,
            ))
            .add_path(path)));
        }
        let batch = noticed.take();
        assert!(batch.lost);
        assert_eq!(batch.signs.len(), PATH_LIMIT);
    }
}

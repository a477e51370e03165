//! Walking a directory: which manifest files there are, and what their being there depends on.
//!
//! A path may lead over symbolic links, of the directory itself or in it. Each link on the way is
//! noted, so that its change is known to matter: Kubernetes replaces all files of a mounted
//! ConfigMap at once by renaming one link, `..data`.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::SourceProblem;
use super::manifest::SIZE_LIMIT;

/// Links that one path may lead over; what Linux allows.
const LINK_LIMIT: usize = 40;

/// What one walk found.
#[derive(Debug)]
pub(super) struct Scan {
    /// The directory behind all links, or why there is none.
    pub(super) root: io::Result<PathBuf>,
    /// Manifest files in the order of their paths.
    pub(super) files: Vec<Found>,
    /// Directories that were walked: real path to the path as reached.
    pub(super) directories: HashMap<PathBuf, PathBuf>,
    /// Directories that hold something a path leads over; they are not walked.
    pub(super) outside: HashSet<PathBuf>,
    /// Links that were followed, and names that were missing: when one of these changes, the walk
    /// has to be made again.
    pub(super) links: HashSet<PathBuf>,
    /// Directories, as reached, that could not be read.
    pub(super) unreadable: Vec<(PathBuf, io::Error)>,
}

/// A manifest file.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Path as reached from the directory that is read.
    pub(super) file: Arc<Path>,
    /// Path behind all links.
    pub(super) real: PathBuf,
    /// Its state, if it could be asked for.
    pub(super) stamp: Option<Stamp>,
    /// Whether a link leads to it.
    pub(super) linked: bool,
}

/// State of a file: when it is the same, so is the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Of the file at a path, following links.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        fs::metadata(path).map(|metadata| Self::of(&metadata))
    }

    /// When the content was last written, in seconds since the epoch.
    pub(super) fn modified_seconds(&self) -> i64 {
        self.modified.0
    }
}

impl Found {
    /// A file that is named outright.
    pub(super) fn named(path: &Path) -> Self {
        Self {
            file: Arc::from(path),
            real: path.to_owned(),
            stamp: Stamp::at(path).ok(),
            linked: false,
        }
    }
}

impl Scan {
    /// Problems of directories.
    pub(super) fn failures(&self) -> impl Iterator<Item = SourceProblem> + '_ {
        self.unreadable.iter().map(|(path, error)| {
            SourceProblem::unreadable(path, format!("{error}; what was last read stays in force"))
        })
    }
}

/// Whether a file of this name is a manifest. Hidden files and what editors leave while they save
/// are not.
pub(super) fn is_manifest(name: &OsStr) -> bool {
    let extensions: [&[u8]; 3] = [b".yaml", b".yml", b".json"];
    let hidden = is_hidden(name);
    let name = name.as_bytes();
    !hidden
        && !name.starts_with(b"#")
        && extensions.iter().any(|extension| name.ends_with(extension))
}

/// Whether a name is hidden: it starts with a dot.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".")
}

/// Reads a file, with its state at that time. Fails for what is no regular file and for files
/// that are too big; never waits on a pipe.
pub(super) fn read(path: &Path) -> io::Result<(Stamp, Vec<u8>)> {
    let mut file: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes =
        Vec::with_capacity(usize::try_from(metadata.size().min(SIZE_LIMIT)).unwrap_or(0));
    // One more than allowed, for the reader of the bytes to refuse.
    file.by_ref().take(SIZE_LIMIT + 1).read_to_end(&mut bytes)?;
    Ok((Stamp::of(&metadata), bytes))
}

/// Walks a directory. Before a directory is listed or a link in it is read, `enter` is called with
/// its real path, so that a watch placed there misses nothing.
pub(super) fn scan(root: &Path, enter: impl FnMut(&Path)) -> Scan {
    let mut walk = Walk {
        enter,
        scan: Scan {
            root: Err(io::ErrorKind::NotFound.into()),
            files: Vec::new(),
            directories: HashMap::new(),
            outside: HashSet::new(),
            links: HashSet::new(),
            unreadable: Vec::new(),
        },
        seen: HashSet::new(),
    };
    walk.root(root);
    let mut scan = walk.scan;
    scan.files.sort_by(|a, b| a.file.cmp(&b.file));
    scan
}

struct Walk<F> {
    enter: F,
    scan: Scan,
    /// Real paths that were reached. Each is taken once, which ends loops of links.
    seen: HashSet<PathBuf>,
}

impl<F: FnMut(&Path)> Walk<F> {
    fn root(&mut self, root: &Path) {
        let absolute = match std::path::absolute(root) {
            Ok(absolute) => absolute,
            Err(error) => {
                self.scan.root = Err(error);
                return;
            }
        };
        // The directory may be taken away and put back: whoever holds its name is watched.
        if let Some(parent) = absolute.parent()
            && let Ok(parent) = self.resolve(parent)
        {
            self.look_into(&parent);
            self.scan
                .links
                .extend(absolute.file_name().map(|name| parent.join(name)));
        }
        self.scan.root = self.resolve(&absolute).and_then(|real| {
            if fs::metadata(&real)?.is_dir() {
                Ok(real)
            } else {
                Err(io::ErrorKind::NotADirectory.into())
            }
        });
        let Ok(real) = &self.scan.root else {
            return;
        };
        let mut waiting = vec![(real.clone(), root.to_owned(), *real != absolute)];
        while let Some((real, reached, linked)) = waiting.pop() {
            if let Err(error) = self.directory(&real, &reached, linked, &mut waiting) {
                if reached == root {
                    self.scan.root = Err(error);
                    return;
                }
                // Gone since it was listed is gone; anything else says nothing of its files.
                if error.kind() != io::ErrorKind::NotFound {
                    self.scan.unreadable.push((reached, error));
                }
            }
        }
    }

    fn directory(
        &mut self,
        real: &Path,
        reached: &Path,
        linked: bool,
        waiting: &mut Vec<(PathBuf, PathBuf, bool)>,
    ) -> io::Result<()> {
        if !self.seen.insert(real.to_owned()) {
            return Ok(());
        }
        (self.enter)(real);
        self.scan
            .directories
            .insert(real.to_owned(), reached.to_owned());
        let mut entries = fs::read_dir(real)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        let already_waiting = waiting.len();
        for entry in entries {
            let name = entry.file_name();
            if is_hidden(&name) {
                continue;
            }
            let Ok(file_type) = entry.file_type() else {
                continue;
            };
            let reached = reached.join(&name);
            if file_type.is_dir() {
                waiting.push((entry.path(), reached, linked));
            } else if file_type.is_symlink() {
                self.link(&entry.path(), reached, waiting);
            } else if is_manifest(&name) {
                let stamp = entry.metadata().ok().map(|metadata| Stamp::of(&metadata));
                self.file(reached, entry.path(), stamp, linked);
            }
        }
        // The last is taken first; so directories are walked in the order of their names.
        if let Some(added) = waiting.get_mut(already_waiting..) {
            added.reverse();
        }
        Ok(())
    }

    fn link(&mut self, link: &Path, reached: PathBuf, waiting: &mut Vec<(PathBuf, PathBuf, bool)>) {
        let (Some(parent), Some(name)) = (link.parent(), link.file_name()) else {
            return;
        };
        let target = self
            .follow(parent.to_owned(), vec![PathBuf::from(name)])
            .and_then(|real| Ok((fs::metadata(&real)?, real)));
        match target {
            Ok((metadata, real)) if metadata.is_dir() => waiting.push((real, reached, true)),
            Ok((metadata, real)) if link.file_name().is_some_and(is_manifest) => {
                // Writes to the file are seen where it is.
                if let Some(parent) = real.parent() {
                    self.look_into(parent);
                }
                self.file(reached, real, Some(Stamp::of(&metadata)), true);
            }
            // A dangling link is no file; its target's coming is watched for.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.scan.unreadable.push((reached, error)),
        }
    }

    fn file(&mut self, reached: PathBuf, real: PathBuf, stamp: Option<Stamp>, linked: bool) {
        if self.seen.insert(real.clone()) {
            self.scan.files.push(Found {
                file: Arc::from(reached),
                real,
                stamp,
                linked,
            });
        }
    }

    fn look_into(&mut self, directory: &Path) {
        if self.scan.outside.insert(directory.to_owned()) {
            (self.enter)(directory);
        }
    }

    /// The real path behind an absolute one. Like `fs::canonicalize`, noting each link, and the
    /// name that is missing where the way ends early.
    fn resolve(&mut self, path: &Path) -> io::Result<PathBuf> {
        self.follow(PathBuf::from("/"), reversed_parts(path))
    }

    /// Goes on from a real path over the names that are left, the first one last.
    fn follow(&mut self, mut real: PathBuf, mut left: Vec<PathBuf>) -> io::Result<PathBuf> {
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == Path::new("..") {
                real.pop();
                continue;
            }
            let next = real.join(&part);
            let metadata = match fs::symlink_metadata(&next) {
                Ok(metadata) => metadata,
                Err(error) => {
                    self.look_into(&real);
                    self.scan.links.insert(next);
                    return Err(error);
                }
            };
            if !metadata.is_symlink() {
                real = next;
                continue;
            }
            links += 1;
            if links > LINK_LIMIT {
                return Err(io::Error::other("too many symbolic links"));
            }
            self.look_into(&real);
            let target = fs::read_link(&next)?;
            self.scan.links.insert(next);
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            left.extend(reversed_parts(&target));
        }
        Ok(real)
    }
}

/// The names that a path goes over, the first one last.
fn reversed_parts(path: &Path) -> Vec<PathBuf> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect()
}

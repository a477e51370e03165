//! A directory of manifests, followed as it changes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Update;
use super::follower::Follower;
use super::watch::{Noticed, Watch};

/// Updates that may wait for their receiver. While they do, changes collect and later come as one.
const QUEUE: usize = 4;

/// The directory cannot be followed at all.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is not there, no directory, or not readable.
    #[error("{}: {error}; name a directory of manifests that can be read", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The system gives no thread or timer.
    #[error("cannot start to follow the manifests: {0}")]
    Start(io::Error),
}

/// Follows a directory of manifests.
#[derive(Debug)]
pub struct DirectorySource;

impl DirectorySource {
    /// Reads the directory and follows its changes on a thread of its own, which ends with
    /// `shutdown` or with the receiver. Needs no runtime.
    ///
    /// A directory that vanishes later is no error: what it held stays in force, with a problem,
    /// until it is back. The channel closes only at the end.
    ///
    /// # Errors
    ///
    /// The directory cannot be read now, or there is no thread for it.
    pub fn start(
        path: PathBuf,
        shutdown: CancellationToken,
    ) -> Result<mpsc::Receiver<Update>, SourceError> {
        let noticed = Arc::new(Noticed::default());
        Self::follow(path, Watch::new(noticed), shutdown)
    }

    /// As [`Self::start`], without notifications of the file system: looks every second.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_polling(
        path: PathBuf,
        shutdown: CancellationToken,
    ) -> Result<mpsc::Receiver<Update>, SourceError> {
        let noticed = Arc::new(Noticed::default());
        Self::follow(path, Watch::none(noticed), shutdown)
    }

    fn follow(
        path: PathBuf,
        watch: Watch,
        shutdown: CancellationToken,
    ) -> Result<mpsc::Receiver<Update>, SourceError> {
        if let Err(error) = readable(&path) {
            return Err(SourceError::Unreadable { path, error });
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(SourceError::Start)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        thread::Builder::new()
            .name("manifests".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = sender.closed() => {}
                        () = run(&path, watch, &sender) => {}
                    }
                });
            })
            .map_err(SourceError::Start)?;
        Ok(receiver)
    }
}

fn readable(path: &Path) -> io::Result<()> {
    std::fs::read_dir(path).map(drop)
}

/// Sends updates until the receiver is gone. Files are read between the waits, on this thread.
async fn run(path: &Path, watch: Watch, updates: &mpsc::Sender<Update>) {
    let noticed = Arc::clone(watch.noticed());
    let (mut follower, first) = Follower::open(path, watch);
    if updates.send(first).await.is_err() {
        return;
    }
    // What is noticed while the receiver is busy is taken together afterwards.
    while let Ok(place) = updates.reserve().await {
        let update = loop {
            tokio::select! {
                () = noticed.wake.notified() => {}
                () = tokio::time::sleep_until(follower.due().into()) => {}
            }
            if let Some(update) = follower.step() {
                break update;
            }
        };
        place.send(update);
    }
}

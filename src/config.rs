//! What a process is to do: typed, complete and immutable.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::admission::Gauge;
use crate::control::replicas::Replicas;
use crate::leader::LeaderSettings;
use crate::proxy::clock::Deadlines;
use crate::proxy::listeners::Binding;
use crate::shutdown::Windows;
use crate::source::ClusterSource;
use crate::translate::Settings;

/// Where Kubernetes objects come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory of manifests.
    Directory(PathBuf),
    /// An API server.
    Cluster(Box<ClusterSource>),
}

/// How a controller of a cluster writes what became of the objects.
#[derive(Clone, Debug)]
pub struct Controller {
    /// Where the replicas run, as far as objects tell of it.
    pub replicas: Replicas,
    /// The election, and how fast is written.
    pub leader: LeaderSettings,
}

/// What a process is to do. Made from the command line; in tests, by hand.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where Kubernetes objects come from.
    pub source: Source,
    /// How the API server is told what became of the objects; `None` = it is only read from. Means
    /// nothing with a directory.
    pub controller: Option<Controller>,
    /// Where the admin port is bound; `None` = nowhere.
    pub admin: Option<SocketAddr>,
    /// Where listeners bind.
    pub binding: Binding,
    /// Threads of the data plane.
    pub workers: usize,
    /// For slow and silent clients.
    pub deadlines: Deadlines,
    /// How the process ends.
    pub windows: Windows,
    /// Whether access logs are written to standard output.
    pub access_log: bool,
    /// Where it is read what the process has and may have.
    pub gauge: Gauge,
    /// What translation depends on.
    pub settings: Settings,
}

impl Config {
    /// The defaults, for a directory of manifests.
    #[must_use]
    pub fn new(manifests: impl Into<PathBuf>) -> Self {
        Self::with(Source::Directory(manifests.into()))
    }

    /// The defaults, for an API server.
    #[must_use]
    pub fn cluster(source: ClusterSource) -> Self {
        Self::with(Source::Cluster(Box::new(source)))
    }

    fn with(source: Source) -> Self {
        Self {
            source,
            controller: None,
            admin: None,
            binding: Binding::default(),
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            deadlines: Deadlines::default(),
            windows: Windows::default(),
            access_log: false,
            gauge: Gauge::default(),
            settings: Settings::default(),
        }
    }
}

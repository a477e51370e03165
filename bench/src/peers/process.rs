//! A process that is ours to end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{os, usage};

/// A running process and those that it starts. Dropped, they are asked to end and after two
/// seconds killed, each by its id.
#[derive(Debug)]
pub(crate) struct Spawned {
    child: Child,
    name: String,
    log: PathBuf,
}

const PATIENCE: Duration = Duration::from_secs(2);

impl Spawned {
    /// Starts the command with its output in the file `log`.
    ///
    /// # Errors
    ///
    /// The program is missing or the file cannot be made.
    pub(crate) fn start(command: &mut Command, name: &str, log: &Path) -> Result<Self> {
        let output =
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        os::end_with_parent(command);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self {
            child,
            name: name.to_owned(),
            log: log.to_owned(),
        })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// # Errors
    ///
    /// It has ended; with the end of its log.
    pub(crate) fn still_runs(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}\n{}", self.name, self.end_of_log()),
        }
    }

    /// The last lines that it wrote.
    pub(crate) fn end_of_log(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        let descendants: Vec<(u32, u64)> = usage::tree(self.pid())
            .into_iter()
            .skip(1)
            .filter_map(|pid| Some((pid, usage::start_time(pid)?)))
            .collect();
        // Errors mean that a process has gone already, which is what is wanted.
        let _ = os::signal(self.pid(), libc::SIGTERM);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            #[expect(
                clippy::disallowed_methods,
                reason = "waits for a process in a destructor, which cannot await; has a deadline"
            )]
            sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for (pid, start) in descendants {
            // The same id and another start would be somebody else's process.
            if usage::start_time(pid) == Some(start) {
                let _ = os::signal(pid, libc::SIGKILL);
            }
        }
    }
}

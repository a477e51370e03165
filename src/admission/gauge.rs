//! Reads what the process has and may have of memory and open files.
//!
//! ```text
//! /proc/self/cgroup ─▶ path ─▶ /sys/fs/cgroup/PATH/memory.max, memory.current, memory.stat   (v2)
//!                              /sys/fs/cgroup/memory/PATH/memory.limit_in_bytes, …          (v1)
//! /proc/self/limits, /proc/self/fd                                               ─▶ Overload, 4 times a second
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::overload::{Overload, Resource};

/// From one look to the next: a few small files each time.
const PERIOD: Duration = Duration::from_millis(250);
/// Each how manieth look counts open files where the kernel (before 6.2) does not: that lists them.
const LIST_EVERY: u32 = 8;
/// Limits of control groups v1 from here on mean none.
const NO_LIMIT: u64 = 1 << 62;

/// Where the figures are read.
#[derive(Clone, Debug)]
pub struct Gauge {
    /// The process: `/proc/self`.
    pub process: PathBuf,
    /// Where control groups are mounted: `/sys/fs/cgroup`.
    pub control_groups: PathBuf,
}

impl Default for Gauge {
    fn default() -> Self {
        Self {
            process: "/proc/self".into(),
            control_groups: "/sys/fs/cgroup".into(),
        }
    }
}

impl Gauge {
    /// Tells `overload` what there is, for ever.
    pub async fn watch(self, overload: Arc<Overload>) {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looks = 0_u32;
        loop {
            ticks.tick().await;
            overload.look(Resource::Memory, self.memory());
            let may_list = looks.is_multiple_of(LIST_EVERY);
            looks = looks.wrapping_add(1);
            if let Some(limit) = self.open_file_limit() {
                if let Some(open) = self.open_files(may_list) {
                    overload.look(Resource::OpenFiles, Some((open, limit)));
                }
            } else {
                overload.look(Resource::OpenFiles, None);
            }
        }
    }

    /// Bytes used and allowed, of the innermost control group that has a limit.
    #[must_use]
    pub fn memory(&self) -> Option<(u64, u64)> {
        let groups = fs::read_to_string(self.process.join("cgroup")).ok()?;
        // `number:controllers:path`; version 2 has no controllers (cgroups(7)).
        let path = |is_it: fn(&str) -> bool| {
            groups.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                is_it(controllers).then_some(path.trim_start_matches('/'))
            })
        };
        let unified = path(str::is_empty).unwrap_or_default();
        let named = path(|names| names.split(',').any(|name| name == "memory")).unwrap_or_default();
        let first = of_groups(&self.control_groups, unified, |group| {
            let limit = number(&group.join("memory.max"))?;
            Some((
                working_set(group, "memory.current", "inactive_file")?,
                limit,
            ))
        });
        first.or_else(|| {
            of_groups(&self.control_groups.join("memory"), named, |group| {
                let limit = number(&group.join("memory.limit_in_bytes"))?;
                let used = working_set(group, "memory.usage_in_bytes", "total_inactive_file")?;
                (limit < NO_LIMIT).then_some((used, limit))
            })
        })
    }

    /// The soft limit (`RLIMIT_NOFILE`); `None` = unlimited.
    #[must_use]
    pub fn open_file_limit(&self) -> Option<u64> {
        let limits = fs::read_to_string(self.process.join("limits")).ok()?;
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// How many files are open. Linux 6.2 and later tell it as the size of the folder.
    fn open_files(&self, may_list: bool) -> Option<u64> {
        let folder = self.process.join("fd");
        match fs::metadata(&folder).ok()?.len() {
            0 if may_list => Some(fs::read_dir(&folder).ok()?.count() as u64),
            0 => None,
            told => Some(told),
        }
    }
}

/// The first answer of a group or of those around it. In a container the path may be that of the
/// host, and then only the mount itself is there.
fn of_groups<T>(mount: &Path, path: &str, read: impl Fn(&Path) -> Option<T>) -> Option<T> {
    let group = mount.join(path);
    let around = group
        .ancestors()
        .take_while(|group| group.starts_with(mount));
    around.into_iter().find_map(read)
}

/// Usage without the file pages that the kernel takes back first, as a kubelet counts it.
fn working_set(group: &Path, usage: &str, inactive: &str) -> Option<u64> {
    let used = number(&group.join(usage))?;
    let statistics = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let inactive = statistics.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == inactive).then(|| value.trim().parse::<u64>().ok())?
    });
    Some(used.saturating_sub(inactive.unwrap_or_default()))
}

/// `None` for `max` as well.
fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(root: &Path, files: &[(&str, &str)]) -> Gauge {
        for (name, text) in files {
            let file = root.join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        Gauge {
            process: root.join("proc"),
            control_groups: root.join("cgroup"),
        }
    }

    #[test]
    fn the_innermost_limit_counts_without_pages_that_can_be_taken_back() {
        let root = tempfile::tempdir().unwrap();
        let gauge = files(
            root.path(),
            &[
                ("proc/cgroup", "0::/pod/container\n"),
                ("cgroup/pod/container/memory.max", "max\n"),
                ("cgroup/pod/container/memory.current", "5\n"),
                ("cgroup/pod/memory.max", "1000\n"),
                ("cgroup/pod/memory.current", "600\n"),
                ("cgroup/pod/memory.stat", "anon 1\ninactive_file 100\n"),
                ("cgroup/memory.max", "7\n"),
            ],
        );
        assert_eq!(gauge.memory(), Some((500, 1000)));
    }

    #[test]
    fn version_one_is_read_and_may_have_no_limit() {
        let root = tempfile::tempdir().unwrap();
        let group = "3:cpu,cpuacct:/x\n4:memory:/host/path\n0::/\n";
        let gauge = files(
            root.path(),
            &[
                ("proc/cgroup", group),
                ("cgroup/memory/memory.limit_in_bytes", "2000\n"),
                ("cgroup/memory/memory.usage_in_bytes", "900\n"),
                (
                    "cgroup/memory/memory.stat",
                    "inactive_file 1\ntotal_inactive_file 400\n",
                ),
            ],
        );
        assert_eq!(gauge.memory(), Some((500, 2000)));
        let limit = root.path().join("cgroup/memory/memory.limit_in_bytes");
        fs::write(limit, "9223372036854771712\n").unwrap();
        assert_eq!(gauge.memory(), None);
    }

    #[test]
    fn open_files_are_those_of_this_process() {
        let gauge = Gauge::default();
        let open = gauge.open_files(true).unwrap();
        let more: Vec<_> = (0..100)
            .map(|_| fs::File::open("/dev/null").unwrap())
            .collect();
        let now = gauge.open_files(true).unwrap();
        // Other tests of the program open and close some meanwhile.
        assert!(now + 50 > open + more.len() as u64, "{open}, {now}");
        assert!(gauge.open_file_limit().is_none_or(|limit| limit > now));
    }
}

//! What a tree of processes costs, read from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

/// The processes that descend from `root`, and it itself first.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, parent(pid)?)))
        .collect();
    let mut tree = vec![root];
    let mut next = 0;
    while let Some(&of) = tree.get(next) {
        tree.extend(
            parents
                .iter()
                .filter(|(_, parent)| *parent == of)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    tree
}

fn parent(pid: u32) -> Option<u32> {
    field(pid, 1)
}

/// When a process started, in ticks since the machine did: with its id, its identity.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    field(pid, 19)
}

/// A field of the process's `stat`, counted from the one after its name.
fn field<T: std::str::FromStr>(pid: u32, at: usize) -> Option<T> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets and may hold anything.
    let (_, after) = stat.rsplit_once(')')?;
    after.split_whitespace().nth(at)?.parse().ok()
}

/// CPU time of every thread of some processes at one moment.
#[derive(Debug)]
pub(crate) struct CpuTime {
    threads: HashMap<(u32, u64), u64>,
}

impl CpuTime {
    /// Of the processes of `pids`, in ns from `schedstat`.
    pub(crate) fn of(pids: &[u32]) -> Self {
        let mut threads = HashMap::new();
        for pid in pids {
            for task in fs::read_dir(format!("/proc/{pid}/task"))
                .into_iter()
                .flatten()
                .flatten()
            {
                let run = fs::read_to_string(task.path().join("schedstat"))
                    .ok()
                    .and_then(|stat| stat.split_whitespace().next()?.parse().ok());
                let thread = task.file_name().to_str().and_then(|name| name.parse().ok());
                if let (Some(run), Some(thread)) = (run, thread) {
                    threads.insert((*pid, thread), run);
                }
            }
        }
        Self { threads }
    }

    /// The time spent since `before`. A thread that ended in between counts for nothing.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let spent = self
            .threads
            .iter()
            .map(|(thread, run)| {
                run.saturating_sub(before.threads.get(thread).copied().unwrap_or(0))
            })
            .sum();
        Duration::from_nanos(spent)
    }
}

/// CPU time of three parties and of the whole machine, from one moment on.
#[derive(Debug)]
pub(crate) struct CpuClock {
    parties: [Vec<u32>; 3],
    before: [CpuTime; 3],
    machine: Duration,
    started: Instant,
}

/// What a window cost, in seconds of CPU and as shares of one core.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuSpent {
    /// CPU time of the proxy.
    pub(crate) proxy: Duration,
    /// Cores that the proxy used.
    pub(crate) proxy_cores: f64,
    /// Cores that the generator used: near 1, it is the bottleneck, since it has one thread.
    pub(crate) generator_cores: f64,
    /// Cores that the backend used; it has one thread too.
    pub(crate) backend_cores: f64,
    /// Cores that anything else on the machine used.
    pub(crate) foreign_cores: f64,
}

impl CpuClock {
    /// Starts to count for the proxy's processes, the backend's and this one.
    pub(crate) fn start(proxy: u32, backend: u32) -> Self {
        let parties = [tree(proxy), vec![std::process::id()], vec![backend]];
        Self {
            before: parties.each_ref().map(|pids| CpuTime::of(pids)),
            parties,
            machine: machine(),
            started: Instant::now(),
        }
    }

    /// What was spent since.
    pub(crate) fn stop(&self) -> CpuSpent {
        let elapsed = self.started.elapsed().as_secs_f64();
        let spent = [0, 1, 2]
            .map(|party: usize| CpuTime::of(&self.parties[party]).since(&self.before[party]));
        let all = machine().saturating_sub(self.machine);
        let foreign = all.saturating_sub(spent.iter().sum());
        let cores = |spent: Duration| spent.as_secs_f64() / elapsed;
        CpuSpent {
            proxy: spent[0],
            proxy_cores: cores(spent[0]),
            generator_cores: cores(spent[1]),
            backend_cores: cores(spent[2]),
            foreign_cores: cores(foreign),
        }
    }
}

/// Time that the machine's cores were not idle, in ticks of 10 ms.
fn machine() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, idle, iowait, irq, softirq; what follows is steal or counted already.
    let busy: u64 = ticks
        .iter()
        .enumerate()
        .filter(|(field, _)| matches!(field, 0..=2 | 5..=6))
        .map(|(_, ticks)| ticks)
        .sum();
    Duration::from_millis(busy * 10)
}

/// Memory of a tree of processes, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Resident.
    pub(crate) resident: u64,
    /// Resident and backed by no file: what the processes allocated.
    pub(crate) anonymous: u64,
}

impl Memory {
    /// Of the tree under `root`, from `smaps_rollup`.
    pub(crate) fn of(root: u32) -> Self {
        let mut sum = Self::default();
        for pid in tree(root) {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"));
            for line in rollup.unwrap_or_default().lines() {
                let mut words = line.split_whitespace();
                let name = words.next();
                let bytes = words
                    .next()
                    .and_then(|number| number.parse::<u64>().ok())
                    .map_or(0, |kibibytes| kibibytes * 1024);
                match name {
                    Some("Rss:") => sum.resident += bytes,
                    Some("Anonymous:") => sum.anonymous += bytes,
                    _ => {}
                }
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn own_work_is_counted_to_the_thread_that_did_it() {
        let pid = std::process::id();
        let before = CpuTime::of(&[pid]);
        let (hold, held) = std::sync::mpsc::sync_channel::<()>(1);
        let worker = std::thread::spawn(move || {
            let started = Instant::now();
            while started.elapsed() < Duration::from_millis(100) {}
            // Off the CPU, so that the time is booked, and alive, so that it is found.
            let _ = held.recv();
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        while CpuTime::of(&[pid]).since(&before) < Duration::from_millis(20) {
            assert!(Instant::now() < deadline, "100 ms of work were not seen");
            std::thread::yield_now();
        }
        drop(hold);
        worker.join().unwrap();
    }

    #[test]
    fn memory_of_the_tree_grows_with_what_is_touched() {
        let before = Memory::of(std::process::id());
        let block = vec![1_u8; 64 << 20];
        let after = Memory::of(std::process::id());
        assert!(after.anonymous >= before.anonymous + (60 << 20));
        assert!(after.resident >= after.anonymous);
        drop(block);
    }

    #[test]
    fn the_tree_holds_children() {
        let mut child = std::process::Command::new("sleep")
            .arg("30")
            .spawn()
            .unwrap();
        let found = tree(std::process::id()).contains(&child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found);
    }
}

//! Percentiles, processor time and memory of processes, as the kernel counts them.

use std::time::Duration;

/// Samples of one kind of time.
#[derive(Debug, Default)]
pub(crate) struct Times(Vec<f64>);

impl Times {
    pub(crate) fn push(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e6);
    }

    /// The time below which this part of the samples lies, in microseconds.
    pub(crate) fn at(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1).expect("nothing was measured");
        sorted[((sorted.len() as f64 * part) as usize).min(last)]
    }

    pub(crate) fn median(&self) -> f64 {
        self.at(0.5)
    }

    pub(crate) fn p99(&self) -> f64 {
        self.at(0.99)
    }
}

/// On-CPU time of a process's threads so far, in microseconds. Exact to the nanosecond, unlike what
/// `getrusage` splits into user and system time.
pub(crate) fn cpu_us(pid: u32) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let on_cpu = |entry: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(entry.unwrap().path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    };
    tasks.filter_map(on_cpu).sum::<f64>() / 1e3
}

/// Resident memory of a process in MiB.
pub(crate) fn rss_mib(pid: u32) -> f64 {
    memory(pid, "VmRSS:")
}

/// The most that it was so far.
pub(crate) fn peak_mib(pid: u32) -> f64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: u32, what: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<f64>().unwrap() / 1024.0
}

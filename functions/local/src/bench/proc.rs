//! What Linux knows of a process: CPU time and memory, from `/proc`.
//! Elsewhere, or once the process has ended, nothing is known and everything is `None`.

/// Clock ticks a second in `/proc`; 100 on every Linux that we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// CPU seconds of all threads, user and system, exact to 10 ms.
pub(super) fn cpu_s(pid: u32) -> Option<f64> {
    ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
        .map(|ticks| ticks as f64 / TICKS_PER_SECOND)
}

/// Fields 14 and 15 (utime, stime), counted after the command in brackets, which may contain anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_command) = stat.rsplit_once(')')?;
    let mut fields = after_command.split_ascii_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// CPU seconds of all living threads, exact to about a tick of the scheduler.
pub(super) fn threads_cpu_s(pid: u32) -> Option<f64> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    tasks.flatten().map(|task| schedstat_s(&task.path().join("schedstat"))).sum()
}

/// CPU seconds of the calling thread, exact to about a tick of the scheduler.
pub(super) fn this_thread_cpu_s() -> Option<f64> {
    schedstat_s("/proc/thread-self/schedstat".as_ref())
}

fn schedstat_s(path: &std::path::Path) -> Option<f64> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.split_ascii_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

/// A size of `/proc/<pid>/status` in bytes: `VmHWM` (the most memory it ever had) or `VmRSS` (what it has).
pub(super) fn memory_bytes(pid: u32, field: &str) -> Option<u64> {
    kibibytes(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?, field)
}

fn kibibytes(status: &str, field: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        let stat = "4242 (odd) name) S 1 4242 4242 0 -1 4194560 900 0 0 0 123 45 0 0 20 0 3 0 100 1000 10";
        assert_eq!(ticks(stat), Some(168));
        assert_eq!(ticks("nonsense"), None);
        let status = "Name:\tx\nVmPeak:\t  900 kB\nVmHWM:\t  120 kB\nVmRSS:\t   80 kB\n";
        assert_eq!((kibibytes(status, "VmHWM"), kibibytes(status, "VmRSS")), (Some(122_880), Some(81_920)));
        assert_eq!(kibibytes(status, "VmSwap"), None);
    }
}

//! What the system knows of this process, read from `/proc`.

use std::fs;

/// Numbers of one process; `None` where the system does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Process {
    /// CPU time, user and system.
    pub cpu_micros: Option<u64>,
    /// Memory in RAM.
    pub resident_bytes: Option<u64>,
    /// Address space.
    pub virtual_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Most file descriptors.
    pub max_fds: Option<u64>,
    /// Start, in seconds since the Unix epoch.
    pub start_seconds: Option<u64>,
}

/// Ticks a second of the times in `/proc`: fixed by the kernel's interface (`USER_HZ`), whatever
/// the kernel's own clock does.
const TICKS_A_SECOND: u64 = 100;

impl Process {
    /// Reads them now.
    pub fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let fds = fs::read_dir("/proc/self/fd")
            .ok()
            .map(|fds| fds.count() as u64);
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        Self {
            // One of them is the folder that is being read.
            open_fds: fds.map(|fds| fds.saturating_sub(1)),
            max_fds: limit.current,
            ..Self::parse(
                &read("/proc/self/stat"),
                &read("/proc/self/status"),
                &read("/proc/stat"),
            )
        }
    }

    /// Reads the three files as proc(5) describes them.
    fn parse(process: &str, status: &str, system: &str) -> Self {
        // The second field is the program's name in parentheses, which may hold anything.
        let fields = process.rsplit_once(") ").map_or("", |(_, fields)| fields);
        let field = |number: usize| -> Option<u64> {
            // What is left begins with the third field.
            fields
                .split_ascii_whitespace()
                .nth(number - 3)?
                .parse()
                .ok()
        };
        let boot = after(system, "btime ");
        let ticks = field(14).zip(field(15)).map(|(user, kernel)| user + kernel);
        Self {
            cpu_micros: ticks.map(|ticks| ticks * (1_000_000 / TICKS_A_SECOND)),
            resident_bytes: after(status, "VmRSS:").map(|kib| kib * 1024),
            virtual_bytes: field(23),
            start_seconds: boot
                .zip(field(22))
                .map(|(boot, start)| boot + start / TICKS_A_SECOND),
            ..Self::default()
        }
    }
}

/// The number behind `name` at the begin of a line.
fn after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_any_program_name() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 17 18 19 20 21 0 4200 8192 3 18";
        let process = Process::parse(stat, "Name:\tx\nVmRSS:\t  12 kB\n", "cpu 1 2\nbtime 1000\n");
        let expected = Process {
            cpu_micros: Some(2_000_000),
            resident_bytes: Some(12 * 1024),
            virtual_bytes: Some(8192),
            start_seconds: Some(1042),
            ..Process::default()
        };
        assert_eq!(process, expected);
        assert_eq!(Process::parse("", "", ""), Process::default());
    }

    #[test]
    fn this_process_is_known() {
        let process = Process::read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(process.open_fds.is_some_and(|fds| fds >= 3));
        assert!(
            process
                .start_seconds
                .is_some_and(|seconds| seconds > 1_600_000_000)
        );
        assert!(process.cpu_micros.is_some());
    }
}

//! What the system says about a process.

use std::fs;

/// Resident memory in bytes.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:") * 1024
}

/// Greatest resident memory so far, in bytes.
pub(crate) fn resident_bytes_max(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:") * 1024
}

/// Makes the greatest resident memory that of now.
pub(crate) fn forget_resident_bytes_max(pid: u32) {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").unwrap();
}

/// Open descriptors.
pub(crate) fn descriptors(pid: u32) -> u64 {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    u64::try_from(open.count()).unwrap()
}

/// Processor time of all threads, in clock ticks (hundredths of a second).
pub(crate) fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold spaces; user and system time are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next().unwrap().parse::<u64>().unwrap();
    ticks() + ticks()
}

/// Connections to `port` of this machine that neither side has begun to close. An orderly end
/// counts once the other side's system has heard of it.
pub(crate) fn established(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let end = format!(":{port:04X}");
    let is_open = |line: &&str| {
        let mut words = line.split_ascii_whitespace().skip(2);
        words.next().is_some_and(|remote| remote.ends_with(&end))
            && words.next() == Some(ESTABLISHED)
    };
    table.lines().filter(is_open).count()
}

/// Of the connection between two ports of this machine, as `local` sees it: bytes that were sent and
/// not acknowledged, bytes that came and were not read. `None`: the table, which others change
/// while it is read, did not show it.
pub(crate) fn queues(local: u16, remote: u16) -> Option<(u64, u64)> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let (local, remote) = (format!(":{local:04X}"), format!(":{remote:04X}"));
    table.lines().find_map(|line| {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let ours = words[1].ends_with(&local) && words[2].ends_with(&remote);
        let (unsent, unread) = ours.then(|| words[4].split_once(':'))??;
        let bytes = |digits| u64::from_str_radix(digits, 16).ok();
        Some((bytes(unsent)?, bytes(unread)?))
    })
}

fn status_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.unwrap().trim().trim_end_matches(" kB");
    value.parse().unwrap()
}

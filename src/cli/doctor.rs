//! `tidegate doctor`: what this machine gives a server, and how to get more.
//!
//! It reads and tries, and changes nothing.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use rustix::process::{Resource, getrlimit};
use serde::Serialize;

use super::version::tls_provider;
use super::{Face, ReportForm};
use crate::sys::affinity;
use crate::sys::uring::{self, Rung};

/// Arguments of `tidegate doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: ReportForm,
}

/// Shown below the help.
pub const EXAMPLES: &str = "\
Examples:
  tidegate doctor
  tidegate doctor --output json | jq '.findings[] | select(.state != \"ok\")'

Run it as the user, and in the container, that will serve: limits belong to the process. It exits
with 1 if the server could not run here at all.";

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How good it is.
    pub state: State,
    /// What was seen.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
}

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Worth a thought under load.
    Advice,
    /// Costs speed or capacity.
    Warning,
    /// The server cannot run.
    Fatal,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Advice => "advice",
            Self::Warning => "warning",
            Self::Fatal => "fatal",
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    can_run: bool,
    findings: &'a [Finding],
}

/// Prints the report.
pub fn run(args: &DoctorArgs, face: &mut Face<'_>) -> io::Result<ExitCode> {
    let findings = examine();
    let can_run = findings.iter().all(|finding| finding.state != State::Fatal);
    match args.output {
        ReportForm::Json => {
            let report = Report {
                can_run,
                findings: &findings,
            };
            writeln!(face.out, "{}", serde_json::to_string_pretty(&report)?)?;
        }
        ReportForm::Table => {
            print(&findings, face.out)?;
            writeln!(face.out, "\n{}", verdict(&findings))?;
        }
    }
    Ok(if can_run {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints one line a finding, and its fix below it.
pub fn print(findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    let width = findings
        .iter()
        .map(|finding| finding.name.len())
        .max()
        .unwrap_or(0);
    for finding in findings {
        writeln!(
            out,
            "{:<7}  {:<width$}  {}",
            finding.state.word(),
            finding.name,
            finding.found
        )?;
        if let Some(fix) = &finding.fix {
            writeln!(out, "{:<7}  {:<width$}  -> {fix}", "", "")?;
        }
    }
    Ok(())
}

fn verdict(findings: &[Finding]) -> &'static str {
    match findings.iter().map(|finding| finding.state).max() {
        Some(State::Fatal) => "The server cannot run here.",
        Some(State::Warning) => "The server runs here, and could run better.",
        Some(State::Advice) => "The server runs well here; under heavy load look at the advice.",
        Some(State::Ok) | None => "The server runs well here.",
    }
}

/// Looks at everything.
pub fn examine() -> Vec<Finding> {
    let mut findings = vec![kernel()];
    findings.extend(rings());
    findings.extend([
        epoll(),
        seccomp(),
        open_files(),
        locked_memory(),
        backlog("/proc/sys/net/core/somaxconn", "net.core.somaxconn"),
        backlog(
            "/proc/sys/net/ipv4/tcp_max_syn_backlog",
            "net.ipv4.tcp_max_syn_backlog",
        ),
        ports(),
        cores(),
    ]);
    findings.extend([memory(), container(), clock()].into_iter().flatten());
    findings.extend([roots(), ok("TLS provider", tls_provider())]);
    findings
}

/// The findings that `check` shows: the driver and the open files.
pub fn kernel_report() -> Vec<Finding> {
    let mut findings = vec![kernel()];
    findings.extend(rings());
    findings.extend([epoll(), open_files()]);
    findings
}

fn ok(name: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        name,
        state: State::Ok,
        found: found.into(),
        fix: None,
    }
}

fn not_ok(state: State, name: &'static str, found: impl Into<String>, fix: &str) -> Finding {
    Finding {
        name,
        state,
        found: found.into(),
        fix: Some(fix.to_owned()),
    }
}

/// The kernel from which on the best ring exists.
const KERNEL_GOOD: (u32, u32) = (6, 1);

fn kernel() -> Finding {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy().into_owned();
    let found = format!("Linux {release}");
    match kernel_version(&release) {
        Some(version) if version < KERNEL_GOOD => {
            let fix = "Linux 6.1 or newer has the cheapest io_uring";
            not_ok(State::Advice, "kernel", found, fix)
        }
        _ => ok("kernel", found),
    }
}

/// Major and minor number of `6.1.0-13-amd64`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Entries of a shard's ring.
const RING_ENTRIES: u32 = 4096;

/// The ladder of rings: the first that holds is used.
fn rings() -> Vec<Finding> {
    let mut refused = Vec::new();
    for rung in Rung::ALL {
        match uring::probe(rung, RING_ENTRIES) {
            Ok(()) => {
                let mut found = vec![ok("io_uring", format!("{} works", rung.word()))];
                if let Some((better, error)) = refused.into_iter().next() {
                    let text = format!("{better} is refused: {error}");
                    found.push(not_ok(
                        State::Advice,
                        "io_uring",
                        text,
                        "see the kernel above",
                    ));
                }
                return found;
            }
            Err(error) => refused.push((rung.word(), error)),
        }
    }
    let text = match refused.last() {
        Some((_, error)) => format!("refused: {error}; epoll is used instead"),
        None => "refused; epoll is used instead".to_owned(),
    };
    let error = refused.last().and_then(|(_, error)| error.raw_os_error());
    let state = match std::env::var("TIDEGATE_DRIVER").as_deref() {
        Ok("uring") => State::Fatal,
        _ => State::Warning,
    };
    vec![not_ok(state, "io_uring", text, ring_fix(error))]
}

/// What to do where the kernel gives no ring at all.
fn ring_fix(error: Option<i32>) -> &'static str {
    let disabled = read_number("/proc/sys/kernel/io_uring_disabled").unwrap_or(0);
    let errno = error.map(rustix::io::Errno::from_raw_os_error);
    match (disabled, errno) {
        (2, _) => "sysctl kernel.io_uring_disabled=0",
        (1, _) => {
            "sysctl kernel.io_uring_disabled=0, or put the user into the group of \
             kernel.io_uring_group"
        }
        (_, Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS)) => {
            "a sandbox forbids it: allow io_uring_setup, io_uring_enter and io_uring_register in \
             the container's seccomp profile (tuning/kernel.md)"
        }
        (_, Some(rustix::io::Errno::NOMEM)) => {
            "raise the limit of locked memory: LimitMEMLOCK=64M, or ulimit -l 65536"
        }
        (_, Some(rustix::io::Errno::NOSYS)) => "a kernel with io_uring: Linux 5.10 or newer",
        _ => "a newer kernel, or a sandbox that allows io_uring",
    }
}

fn epoll() -> Finding {
    use rustix::event::{EventfdFlags, epoll, eventfd};
    let made = epoll::create(epoll::CreateFlags::CLOEXEC)
        .and_then(|_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK));
    match made {
        Ok(_) => ok("epoll", "works"),
        Err(error) => {
            let fix = "a sandbox that allows epoll_create1 and eventfd2";
            not_ok(State::Fatal, "epoll", format!("refused: {error}"), fix)
        }
    }
}

fn seccomp() -> Finding {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    match status_field(&status, "Seccomp").unwrap_or("unknown") {
        "0" => ok("seccomp", "no filter"),
        "1" => {
            let fix = "strict mode allows four system calls; no server runs under it";
            not_ok(State::Fatal, "seccomp", "strict mode", fix)
        }
        "2" => ok(
            "seccomp",
            "a filter is on; what it refuses shows in the lines above",
        ),
        other => ok("seccomp", other),
    }
}

/// The value of a line of `/proc/self/status`.
fn status_field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    let rest = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    rest.map(str::trim)
}

/// Open files that hold ten thousand exchanges, each two sockets, with room.
const OPEN_FILES_GOOD: u64 = 65_536;

/// Open files below which nothing useful runs: a ring, bells, listeners and journals need some
/// dozens.
const OPEN_FILES_LEAST: u64 = 64;

fn open_files() -> Finding {
    let limit = getrlimit(Resource::Nofile);
    let shown =
        |value: Option<u64>| value.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
    let mut found = shown(limit.maximum);
    if limit.current != limit.maximum {
        found = format!("{found} (raised from {} at start)", shown(limit.current));
    }
    let fix = "LimitNOFILE=1048576 in the unit, ulimit -Hn 1048576, or docker run --ulimit \
               nofile=1048576";
    match limit.maximum {
        Some(most) if most < OPEN_FILES_LEAST => not_ok(State::Fatal, "open files", found, fix),
        Some(most) if most < OPEN_FILES_GOOD => not_ok(State::Warning, "open files", found, fix),
        _ => ok("open files", found),
    }
}

fn locked_memory() -> Finding {
    let limit = getrlimit(Resource::Memlock).maximum;
    let found = limit.map_or_else(
        || "unlimited".to_owned(),
        |bytes| format!("{} KiB", bytes >> 10),
    );
    // Since 5.12 rings are charged to the control group instead.
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    let charged = kernel_version(&release).is_some_and(|version| version < (5, 12));
    match limit {
        Some(bytes) if charged && bytes < LOCKED_GOOD => {
            let fix = "LimitMEMLOCK=64M in the unit, or ulimit -Hl 65536: rings count here before \
                       Linux 5.12";
            not_ok(State::Warning, "locked memory", found, fix)
        }
        _ => ok("locked memory", found),
    }
}

/// Locked memory that holds the rings of many shards.
const LOCKED_GOOD: u64 = 64 << 20;

/// Waiting connections that a burst of clients needs; what a shard's listener asks for.
const BACKLOG_GOOD: u64 = 4096;

fn backlog(path: &str, name: &'static str) -> Finding {
    match read_number(path) {
        Some(number) if number < BACKLOG_GOOD => {
            let fix = format!("sysctl {name}=65535");
            not_ok(State::Advice, name, number.to_string(), &fix)
        }
        Some(number) => ok(name, number.to_string()),
        None => ok(name, "not shown here"),
    }
}

/// Ports that let ten thousand connections leave for one address, with those that linger closed.
const PORTS_GOOD: u64 = 25_000;

fn ports() -> Finding {
    const NAME: &str = "ip_local_port_range";
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut numbers = text
        .split_whitespace()
        .filter_map(|word| word.parse::<u64>().ok());
    let (Some(low), Some(high)) = (numbers.next(), numbers.next()) else {
        return ok(NAME, "not shown here");
    };
    let count = (high + 1).saturating_sub(low);
    let found = format!("{low} to {high}: {count} connections to one address of a provider");
    if count < PORTS_GOOD {
        let fix = "sysctl net.ipv4.ip_local_port_range='10240 65535'";
        not_ok(State::Advice, NAME, found, fix)
    } else {
        ok(NAME, found)
    }
}

fn cores() -> Finding {
    let online = std::thread::available_parallelism().map_or(1, usize::from);
    let mine = match affinity::cores() {
        Ok(cores) => cores.len(),
        Err(error) => {
            let fix = "a sandbox that allows sched_getaffinity";
            return not_ok(State::Fatal, "cores", format!("unknown: {error}"), fix);
        }
    };
    match cpu_quota() {
        Some(quota) if quota < mine as u64 * 1000 => {
            let found = format!(
                "{mine}, of which the control group allows {}.{:03}",
                quota / 1000,
                quota % 1000
            );
            let fix = format!(
                "--shards {}: shards beyond the quota are throttled all at once",
                (quota / 1000).max(1)
            );
            not_ok(State::Warning, "cores", found, &fix)
        }
        _ if online < mine => ok("cores", format!("{mine}, {online} of them free to use")),
        _ => ok("cores", format!("{mine}: as many shards")),
    }
}

/// The control group's bound on CPU time, in thousandths of a core.
fn cpu_quota() -> Option<u64> {
    if let Ok(text) = fs::read_to_string("/sys/fs/cgroup/cpu.max") {
        return quota_v2(&text);
    }
    let quota: i64 = fs::read_to_string("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let period = read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us")?;
    (u64::try_from(quota).ok()? * 1000).checked_div(period)
}

/// Reads `150000 100000`, a quota and its period, or `max 100000`.
fn quota_v2(text: &str) -> Option<u64> {
    let mut words = text.split_whitespace();
    let quota: u64 = words.next()?.parse().ok()?;
    let period: u64 = words.next()?.parse().ok()?;
    quota.checked_mul(1000)?.checked_div(period)
}

/// Memory that the process, its connections and its caches use without a thought.
const MEMORY_GOOD: u64 = 256 << 20;

fn memory() -> Option<Finding> {
    let limit = read_number("/sys/fs/cgroup/memory.max")?;
    let found = format!("the control group allows {} MiB", limit >> 20);
    Some(if limit < MEMORY_GOOD {
        let fix = "256 MiB or more: bodies in flight are held up to limits.gather_bytes each";
        not_ok(State::Advice, "memory", found, fix)
    } else {
        ok("memory", found)
    })
}

fn container() -> Option<Finding> {
    let groups = fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    let kind = if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        "Kubernetes"
    } else if Path::new("/.dockerenv").exists() {
        "Docker"
    } else if Path::new("/run/.containerenv").exists() {
        "Podman"
    } else if std::env::var_os("container").is_some() || groups.contains("/lxc/") {
        "a container"
    } else {
        return None;
    };
    let found = format!("{kind}; listen on 0.0.0.0 to be reached, and keep data_dir on a volume");
    Some(ok("container", found))
}

fn clock() -> Option<Finding> {
    const PATH: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = fs::read_to_string(PATH).ok()?;
    let source = source.trim();
    let cheap = [
        "tsc",
        "kvm-clock",
        "arch_sys_counter",
        "hyperv_clocksource_tsc_page",
    ];
    Some(if cheap.contains(&source) {
        ok("clock", source)
    } else {
        let fix = "a kernel that trusts the TSC (tsc=reliable): every look at this clock is a \
                       system call";
        not_ok(State::Warning, "clock", source, fix)
    })
}

fn roots() -> Finding {
    let found = rustls_native_certs::load_native_certs();
    match (found.certs.len(), found.errors.first()) {
        (0, error) => {
            let why = error.map_or_else(String::new, |error| format!(" ({error})"));
            let text = format!("the system has none{why}; the built-in ones are used");
            let fix = "install ca-certificates, or name a file in SSL_CERT_FILE";
            not_ok(State::Advice, "TLS roots", text, fix)
        }
        (number, _) => ok("TLS roots", format!("{number} of the system")),
    }
}

/// A file that holds one number.
fn read_number(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_read_however_they_are_written() {
        assert_eq!(kernel_version("6.1.0-13-amd64"), Some((6, 1)));
        assert_eq!(
            kernel_version("5.15.167.4-microsoft-standard-WSL2"),
            Some((5, 15))
        );
        assert_eq!(kernel_version("6.18-rc1"), Some((6, 18)));
        assert_eq!(kernel_version("next"), None);
    }

    #[test]
    fn a_quota_is_thousandths_of_a_core() {
        assert_eq!(quota_v2("150000 100000\n"), Some(1500));
        assert_eq!(quota_v2("max 100000\n"), None);
        assert_eq!(quota_v2("1 0"), None);
        assert_eq!(quota_v2(""), None);
    }

    #[test]
    fn a_status_line_is_found_by_its_whole_name() {
        let status = "Seccomp_filters:\t3\nSeccomp:\t2\n";
        assert_eq!(status_field(status, "Seccomp"), Some("2"));
        assert_eq!(status_field(status, "Sec"), None);
    }

    #[test]
    fn findings_are_lines_with_their_fix_below() {
        let findings = [
            ok("kernel", "Linux 6.1.0"),
            not_ok(
                State::Warning,
                "open files",
                "1024 open files",
                "LimitNOFILE=1048576",
            ),
        ];
        let mut text = Vec::new();
        print(&findings, &mut text).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap());
        assert_eq!(
            verdict(&findings),
            "The server runs here, and could run better."
        );
    }

    #[test]
    fn this_machine_can_run_it() {
        let findings = examine();
        assert!(
            findings.iter().all(|finding| finding.state != State::Fatal),
            "{findings:?}"
        );
    }
}

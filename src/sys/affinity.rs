//! Which cores this process may use, and pinning a thread to one of them.

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The cores that this process may use, in order.
pub fn cores() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|core| set.is_set(*core))
        .collect())
}

/// Pins the calling thread to `core`.
pub fn pin(core: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_can_be_pinned_to_a_core_of_the_process() {
        let all = cores().unwrap();
        std::thread::spawn(move || {
            pin(all[0]).unwrap();
            assert_eq!(cores().unwrap(), vec![all[0]]);
        })
        .join()
        .unwrap();
    }
}

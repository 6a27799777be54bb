//! Time that a thread has had of the processor.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Processor time of the calling thread so far, kernel time included.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time_of_the_thread_that_does_it() {
        let before = thread_time();
        let mut number = 1u64;
        while thread_time() < before + Duration::from_millis(2) {
            number = number.wrapping_mul(3);
        }
        assert_ne!(number, 0);
        let other = std::thread::spawn(thread_time).join().unwrap();
        assert!(other < thread_time());
    }
}

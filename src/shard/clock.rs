//! Time on a shard: stamps from the CPU's counter, and deadlines looked at on one coarse tick.
//!
//! A deadline is a cell in a table, not a timer of the runtime: setting one costs two stores.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// A point in time: nanoseconds since the shard's clock was made. Never steps back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(u64);

impl Moment {
    /// The moment `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(nanos(duration)))
    }

    /// Microseconds from `earlier` to here; 0 if it is not earlier.
    pub fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / 1_000
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The clock of one shard.
#[derive(Debug)]
pub struct Clock {
    counter: quanta::Clock,
    start: u64,
    started: Instant,
    /// Unix time in microseconds at [`Clock::start`], set anew by [`Clock::follow_wall`].
    wall_at_start: Cell<u64>,
    /// The last reading.
    last: Cell<u64>,
}

impl Clock {
    /// Starts a clock.
    #[expect(clippy::disallowed_methods, reason = "this is the shard's clock")]
    pub fn start() -> Self {
        let counter = quanta::Clock::new();
        let clock = Self {
            start: counter.raw(),
            started: Instant::now(),
            counter,
            wall_at_start: Cell::new(0),
            last: Cell::new(0),
        };
        clock.follow_wall();
        clock
    }

    /// Reads the counter.
    pub fn now(&self) -> Moment {
        let now = self.counter.delta_as_nanos(self.start, self.counter.raw());
        self.last.set(now);
        Moment(now)
    }

    /// Asks the system instead of the counter, whose rate was found out in a moment and may be wrong by
    /// a thousandth: for windows of which the last microsecond counts. Not to be mixed with
    /// moments of [`Clock::now`].
    pub fn steady(&self) -> Moment {
        Moment(nanos(self.started.elapsed()))
    }

    /// The last reading, at most a tick old: good enough for deadlines, and free.
    pub fn coarse(&self) -> Moment {
        Moment(self.last.get())
    }

    /// Unix time of `moment` in microseconds.
    pub fn unix_micros(&self, moment: Moment) -> u64 {
        self.wall_at_start.get() + moment.0 / 1_000
    }

    /// Takes over the system's idea of the time of day, which may have been set meanwhile.
    pub fn follow_wall(&self) {
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let wall = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        self.wall_at_start
            .set(wall.saturating_sub(self.now().0 / 1_000));
    }
}

/// The deadlines of one shard.
#[derive(Debug)]
pub struct Deadlines {
    entries: RefCell<Vec<Entry>>,
    free: RefCell<Vec<usize>>,
    /// No entry is due before this; it may be earlier than the earliest, never later.
    earliest: Cell<u64>,
    /// Tasks that want to look at something, whenever their deadlines are; in the order of their
    /// moments.
    lookouts: RefCell<VecDeque<(Moment, Waker)>>,
}

#[derive(Debug)]
struct Entry {
    at: u64,
    waker: Option<Waker>,
}

const NEVER: u64 = u64::MAX;

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            entries: RefCell::default(),
            free: RefCell::default(),
            earliest: Cell::new(NEVER),
            lookouts: RefCell::default(),
        }
    }
}

impl Deadlines {
    /// Opens a deadline that is not set.
    pub fn open(self: &Rc<Self>) -> Deadline {
        let index = if let Some(index) = self.free.borrow_mut().pop() {
            index
        } else {
            let mut entries = self.entries.borrow_mut();
            entries.push(Entry {
                at: NEVER,
                waker: None,
            });
            entries.len() - 1
        };
        Deadline {
            all: Rc::clone(self),
            index,
            at: Cell::new(NEVER),
        }
    }

    /// Wakes every task that waits on a deadline, passed or not: something else has changed.
    pub fn wake_all(&self) {
        for entry in self.entries.borrow_mut().iter_mut() {
            if let Some(waker) = entry.waker.take() {
                waker.wake();
            }
        }
    }

    /// Wakes the tasks whose deadline has passed, and those whose lookout is due. Called once a
    /// tick.
    pub fn tick(&self, now: Moment) {
        let mut lookouts = self.lookouts.borrow_mut();
        while lookouts.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, waker)) = lookouts.pop_front() {
                waker.wake();
            }
        }
        if now.0 < self.earliest.get() {
            return;
        }
        let mut earliest = NEVER;
        for entry in self.entries.borrow_mut().iter_mut() {
            if entry.at <= now.0 {
                if let Some(waker) = entry.waker.take() {
                    waker.wake();
                }
            } else {
                earliest = earliest.min(entry.at);
            }
        }
        self.earliest.set(earliest);
    }
}

/// One deadline of one task, reused for whatever the task waits for next.
#[derive(Debug)]
pub struct Deadline {
    all: Rc<Deadlines>,
    index: usize,
    at: Cell<u64>,
}

impl Deadline {
    /// Sets the deadline. `None` takes it away.
    pub fn set(&self, at: Option<Moment>) {
        let at = at.map_or(NEVER, |moment| moment.0);
        self.at.set(at);
        if let Some(entry) = self.all.entries.borrow_mut().get_mut(self.index) {
            entry.at = at;
        }
        if at < self.all.earliest.get() {
            self.all.earliest.set(at);
        }
    }

    /// Says whether the deadline has passed; if not, the task is woken when it has.
    pub fn is_past(&self, now: Moment, cx: &mut Context<'_>) -> bool {
        if now.0 >= self.at.get() {
            return true;
        }
        if self.at.get() != NEVER
            && let Some(entry) = self.all.entries.borrow_mut().get_mut(self.index)
            && !entry
                .waker
                .as_ref()
                .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            entry.waker = Some(cx.waker().clone());
        }
        false
    }
}

/// Waits for a send; `None` when it took longer than `limit` (zero: no limit). Part of what was sent
/// may have gone out then: its connection is of no use any more. `deadline` is one of the same task.
pub async fn in_time<F: Future>(
    deadline: &Deadline,
    clock: &Clock,
    limit: Duration,
    send: F,
) -> Option<F::Output> {
    deadline.set((!limit.is_zero()).then(|| clock.coarse().after(limit)));
    let mut send = pin!(send);
    poll_fn(|cx| match send.as_mut().poll(cx) {
        Poll::Ready(sent) => Poll::Ready(Some(sent)),
        Poll::Pending if deadline.is_past(clock.coarse(), cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Every few ticks, for what tells nobody that it has changed and must be looked at.
#[derive(Debug, Default)]
pub struct Lookout {
    /// When the next look is due.
    next: Moment,
}

/// Time between two looks. With the tick that it takes to wake a task, a change is seen within
/// 100 ms; and thousands of tasks that look leave the shard most of its time.
const LOOKOUT: Duration = Duration::from_millis(60);

impl Lookout {
    /// Says whether it is time for another look; the task is woken when it is time for the next.
    /// `deadline` is one of the same task.
    pub fn is_due(&mut self, deadline: &Deadline, now: Moment, cx: &Context<'_>) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now.after(LOOKOUT);
            let mut lookouts = deadline.all.lookouts.borrow_mut();
            lookouts.push_back((self.next, cx.waker().clone()));
        }
        due
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        if let Some(entry) = self.all.entries.borrow_mut().get_mut(self.index) {
            entry.at = NEVER;
            entry.waker = None;
        }
        self.all.free.borrow_mut().push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    #[derive(Default)]
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_deadline_wakes_its_task_once_and_can_be_moved() {
        let deadlines = Rc::new(Deadlines::default());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut cx = Context::from_waker(&waker);
        let deadline = deadlines.open();
        deadline.set(Some(Moment(100)));
        assert!(!deadline.is_past(Moment(50), &mut cx));
        deadline.set(Some(Moment(200)));
        deadlines.tick(Moment(150));
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        deadlines.tick(Moment(200));
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(deadline.is_past(Moment(200), &mut cx));
        deadline.set(None);
        assert!(!deadline.is_past(Moment(u64::MAX - 1), &mut cx));
    }

    #[test]
    fn a_lookout_is_due_now_and_then_and_wakes_its_task_for_it() {
        let deadlines = Rc::new(Deadlines::default());
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let deadline = deadlines.open();
        let mut lookout = Lookout::default();
        let start = Moment(7);
        assert!(lookout.is_due(&deadline, start, &cx));
        assert!(!lookout.is_due(&deadline, start, &cx));
        deadlines.tick(start.after(LOOKOUT / 2));
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        let next = start.after(LOOKOUT);
        deadlines.tick(next);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        assert!(lookout.is_due(&deadline, next, &cx));
        // Nobody looks any more: nobody is woken any more.
        for ticks in 1..10 {
            deadlines.tick(next.after(LOOKOUT * ticks));
        }
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_dropped_deadline_leaves_its_place_to_the_next() {
        let deadlines = Rc::new(Deadlines::default());
        let first = deadlines.open();
        let index = first.index;
        drop(first);
        assert_eq!(deadlines.open().index, index);
    }

    #[test]
    fn the_clock_runs_forward_and_knows_the_time_of_day() {
        let clock = Clock::start();
        let (a, b) = (clock.now(), clock.now());
        assert!(b >= a);
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_micros();
        assert!(u128::from(clock.unix_micros(b)).abs_diff(wall) < 5_000_000);
    }
}

//! Stage 1: a shard's thread from its first turn to its last: listeners, orders, ticks, drain.

use std::{
    future::{Future, poll_fn},
    io,
    net::TcpListener as StdListener,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use monoio::{
    io::{CancelHandle, Canceller},
    net::{TcpListener, UnixStream},
    time::sleep,
};
use rustls::ServerConfig;

use super::{
    Shard, cache,
    clock::Moment,
    connection::{self, Door},
    ledger::post as ledger,
    mesh,
    stream::Stream,
    tls,
};
use crate::{
    handoff::{
        counters::{Load, Plain},
        mailbox::{Letterbox, Order},
    },
    sys::{bell::Bell, processor},
};

/// A listener of one shard.
pub struct Listener {
    /// The bound socket.
    pub socket: StdListener,
    /// What it is to its connections.
    pub door: Door,
    /// Serve TLS.
    pub tls: Option<Arc<ServerConfig>>,
}

/// Orders, and messages of other shards, taken in one turn; a shard that gets more rings its own
/// bell and lets its connections run.
const ORDERS_A_TURN: usize = 256;
const MESSAGES_A_TURN: usize = 256;

/// The tick: how exact deadlines are.
const TICK: Duration = Duration::from_millis(20);

/// The tick while bodies wait to be handed to the log.
const LOG_TICK: Duration = Duration::from_millis(5);

/// Ticks between two looks at what changes slowly.
const SLOW_TICKS: u32 = 50;

/// How long a shard without connections waits until all that was reserved has come back: it takes
/// a turn of each shard, and a write of the journal.
const SETTLE_PATIENCE: Duration = Duration::from_secs(1);

/// Rest after an accept that failed: without it, a full descriptor table would spin.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Longest TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);

/// Runs a shard until it is told to stop, or has drained.
pub async fn run(
    shard: Rc<Shard>,
    listeners: Vec<Listener>,
    orders: Letterbox<Order>,
) -> io::Result<()> {
    let _leaving = Leaving(&shard);
    let ended = obey(&shard, listeners, orders).await;
    // What others said before they left, or before the stop, is heard: costs were among it.
    while mesh::listen(&shard, MESSAGES_A_TURN) == MESSAGES_A_TURN {}
    ledger::finish(&shard);
    shard.mesh.ring();
    // The shard itself is never dropped: its tasks hold it.
    shard.log.borrow_mut().tick();
    ended
}

/// Tells the other shards that this one has ended, however it ended.
struct Leaving<'s>(&'s Shard);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.mesh.close();
    }
}

async fn obey(
    shard: &Rc<Shard>,
    listeners: Vec<Listener>,
    orders: Letterbox<Order>,
) -> io::Result<()> {
    let certificates = Rc::new(std::cell::RefCell::new(
        listeners.iter().find_map(|listener| listener.tls.clone()),
    ));
    let mut accepts = Vec::new();
    for listener in listeners {
        let canceller = Canceller::new();
        let handle = canceller.handle();
        accepts.push(canceller);
        let certificate = listener.tls.is_some().then(|| Rc::clone(&certificates));
        let socket = TcpListener::from_std(listener.socket)?;
        spawn(
            shard,
            accept(Rc::clone(shard), socket, listener.door, certificate, handle),
        );
    }
    spawn(shard, tick(Rc::clone(shard), Arc::clone(&orders.bell)));
    let sending = Rc::clone(shard);
    let sends = async move { sending.outbox.run(|| sending.mesh.ring()).await };
    spawn(shard, sends);

    let bell = UnixStream::from_std(std::os::unix::net::UnixStream::from(
        orders.bell.try_clone_fd()?,
    ))?;
    let mut alone_since = None;
    loop {
        let mut taken = 0;
        while taken < ORDERS_A_TURN
            && let Some(order) = orders.take()
        {
            taken += 1;
            match order {
                Order::Snapshot(snapshot) => shard.replace_snapshot(snapshot),
                Order::Certificate(config) => *certificates.borrow_mut() = Some(config),
                Order::Drain => {
                    for canceller in accepts.drain(..) {
                        canceller.cancel();
                    }
                    shard.drain();
                }
                Order::Stop => return Ok(()),
                Order::Addresses { host, addresses } => {
                    shard.hosts.resolved(&host, &addresses, shard.clock.now());
                }
                Order::Answer { ticket, answer } => shard.answered(ticket, answer),
                Order::Journalled(written) => ledger::journalled(shard, &written),
                Order::Count(reply) => {
                    let counters = Box::new(shard.counted());
                    // Who asked may have given up.
                    let _ = reply.try_send(counters);
                }
                Order::Forget(what) => shard.cache.purge(what),
                Order::Echo(reply) => {
                    let _ = reply.try_send(());
                }
            }
        }
        let heard = mesh::listen(shard, MESSAGES_A_TURN);
        mesh::retry(shard);
        shard.mesh.ring();
        // The others may still need what this shard owns.
        if shard.is_draining() && shard.connections() == 0 {
            let now = shard.clock.now();
            let since = *alone_since.get_or_insert(now);
            let patience_ended = since.after(SETTLE_PATIENCE) <= now;
            if (patience_ended || ledger::is_settled(shard)) && shard.mesh.leave() {
                return Ok(());
            }
        }
        if taken == ORDERS_A_TURN || heard == MESSAGES_A_TURN {
            step_aside(&orders.bell, &bell).await?;
            continue;
        }
        orders.bell.prepare_sleep();
        if orders.is_empty() && shard.mesh.is_quiet() {
            bell.readable(false).await?;
        }
        orders.bell.awake();
    }
}

/// Lets the driver and the other tasks run once: what wakes this task again is its own bell, rung
/// when it already waits for it. A bell that was rung before would be found readable at once, by
/// epoll without a look at any other descriptor.
async fn step_aside(bell: &Bell, stream: &UnixStream) -> io::Result<()> {
    bell.drain();
    let mut rung = pin!(stream.readable(false));
    let mut waits = false;
    let rung = poll_fn(|cx| {
        let polled = rung.as_mut().poll(cx);
        if !std::mem::replace(&mut waits, true) {
            bell.ring_always();
        }
        polled
    });
    rung.await?;
    bell.drain();
    Ok(())
}

type Certificate = Rc<std::cell::RefCell<Option<Arc<ServerConfig>>>>;

async fn accept(
    shard: Rc<Shard>,
    socket: TcpListener,
    door: Door,
    certificate: Option<Certificate>,
    cancel: CancelHandle,
) {
    loop {
        // A cancelled accept may have completed all the same: what came is served.
        let accepted = socket.cancelable_accept(cancel.clone()).await;
        match accepted {
            Ok((connection, _)) => {
                let config = certificate
                    .as_ref()
                    .and_then(|config| config.borrow().clone());
                shard.count(Plain::ConnectionsAccepted);
                let guard = Open::new(&shard);
                let stream = Stream::plain(connection, &shard.outbox);
                spawn(
                    &shard,
                    serve(Rc::clone(&shard), stream, door, config, guard),
                );
            }
            Err(_) if shard.is_draining() => return,
            Err(_) => {
                shard.count(Plain::AcceptFailures);
                sleep(ACCEPT_REST).await;
            }
        }
        if shard.is_draining() {
            return;
        }
    }
}

async fn serve(
    shard: Rc<Shard>,
    stream: Stream,
    door: Door,
    config: Option<Arc<ServerConfig>>,
    _open: Open,
) {
    let stream = match config {
        None => stream,
        Some(config) => {
            let deadline = shard.deadlines.open();
            deadline.set(Some(shard.clock.now().after(HANDSHAKE_LIMIT)));
            let mut shake = Box::pin(tls::accept(stream, config));
            let shaken = poll_fn(|cx| match shake.as_mut().poll(cx) {
                Poll::Pending if deadline.is_past(shard.clock.now(), cx) => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
                Poll::Ready(result) => Poll::Ready(result.ok()),
            })
            .await;
            match shaken {
                Some(stream) => stream,
                None => return,
            }
        }
    };
    connection::serve(shard, stream, door).await;
}

/// Counts a connection for as long as it is open.
struct Open(Rc<Shard>);

impl Open {
    fn new(shard: &Rc<Shard>) -> Self {
        shard.connections.set(shard.connections.get() + 1);
        shard.count(Plain::ConnectionsOpen);
        Self(Rc::clone(shard))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0
            .connections
            .set(self.0.connections.get().saturating_sub(1));
        if let Ok(mut counters) = self.0.counters.try_borrow_mut() {
            counters.lower(Plain::ConnectionsOpen);
        }
    }
}

async fn tick(shard: Rc<Shard>, bell: Arc<Bell>) {
    let mut ticks = 0u32;
    let mut watch = LoadWatch::start(shard.clock.now(), processor::thread_time());
    loop {
        let bodies_wait = shard.log.borrow().has_bodies();
        let pause = if bodies_wait { LOG_TICK } else { TICK };
        let due = shard.clock.now().after(pause);
        sleep(pause).await;
        let now = shard.clock.now();
        watch.tick(now.micros_since(due));
        shard.deadlines.tick(now);
        cache::tick(&shard, now);
        ledger::tick(&shard);
        mesh::retry(&shard);
        shard.mesh.ring();
        if shard.is_draining() {
            // A drain ends with the last connection, of this shard or another: none rings a bell.
            bell.ring_always();
        }
        shard.log.borrow_mut().tick();
        ticks = ticks.wrapping_add(1);
        if ticks.is_multiple_of(SLOW_TICKS) {
            shard.clock.follow_wall();
            shard.hosts.sweep(now);
            let load = watch.look(now, processor::thread_time());
            shard.counters.borrow_mut().load = load;
        }
    }
}

/// Looks that share a worst lag: about a minute's.
const LOOKS_A_TERM: u32 = 60;

/// Finds out how busy the shard is, from its own ticks.
struct LoadWatch {
    at: Moment,
    used: Duration,
    looks: u32,
    /// The worst lag of this term and of the one before.
    worst: [u64; 2],
}

impl LoadWatch {
    /// Starts at `at`, when the thread had used so much of the processor.
    fn start(at: Moment, used: Duration) -> Self {
        Self {
            at,
            used,
            looks: 0,
            worst: [0; 2],
        }
    }

    /// A tick came so late.
    fn tick(&mut self, lag_micros: u64) {
        let [worst, _] = &mut self.worst;
        *worst = lag_micros.max(*worst);
    }

    /// How busy the shard was since the last look.
    fn look(&mut self, now: Moment, used: Duration) -> Load {
        let passed = u128::from(now.micros_since(self.at)).max(1);
        let busy = used.saturating_sub(self.used).as_micros() * 1_000_000 / passed;
        (self.at, self.used) = (now, used);
        let [worst, before] = self.worst;
        self.looks += 1;
        if self.looks == LOOKS_A_TERM {
            self.looks = 0;
            self.worst = [0, worst];
        }
        Load {
            // What was used is read a little later than the time: it may look like more than all.
            busy_ppm: u64::try_from(busy.min(1_000_000)).unwrap_or_default(),
            lag_micros: worst.max(before),
        }
    }
}

/// Spawns a task whose panic ends it and nothing else.
pub(super) fn spawn(shard: &Rc<Shard>, task: impl Future<Output = ()> + 'static) {
    let task = Guarded {
        task: Some(Box::pin(task)),
        shard: Rc::clone(shard),
    };
    // The task lives on when its handle is dropped.
    drop(monoio::spawn(task));
}

/// A task under guard: its polls and its destruction.
struct Guarded {
    task: Option<Pin<Box<dyn Future<Output = ()>>>>,
    shard: Rc<Shard>,
}

impl Future for Guarded {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(task) = &mut self.task else {
            return Poll::Ready(());
        };
        // What a panic leaves half done is this connection's own; shared state is changed by
        // assignments that cannot panic.
        match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => {
                self.end();
                Poll::Ready(())
            }
            Err(_) => {
                self.end();
                if let Ok(mut counters) = self.shard.counters.try_borrow_mut() {
                    counters.bump(Plain::Panics);
                }
                Poll::Ready(())
            }
        }
    }
}

impl Guarded {
    fn end(&mut self) {
        let task = self.task.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(task)));
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
pub(super) mod tests;
